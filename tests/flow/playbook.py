"""What playbooks are written with: a whole house of guards, no network, and a story that is told its outcomes.

house = House()
story, record = house.begin(b'{"model": "creative", "messages": []}')
reply = play(
    story,
    (ask("llama"), broke(1.0)),
    (ask("mistral"), said(2.0)),
)
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from guardproxy.core.budget import Budget
from guardproxy.core.guard import Guard, Parts
from guardproxy.core.steps import Ask, Pause, Ready
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Call, Fault, Kind, Record, Reply
from guardproxy.dialects.anthropic import SPEC as ANTHROPIC
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.dialects.completions import SPEC as COMPLETIONS
from guardproxy.dialects.embeddings import SPEC as EMBEDDINGS
from guardproxy.dialects.ollama import SPEC as OLLAMA
from guardproxy.dialects.responses import SPEC as RESPONSES
from guardproxy.flow.aim import Aim, Outfit
from guardproxy.flow.read import Place, Reading, Route
from guardproxy.flow.route import Router
from guardproxy.flow.rules import Retry, Rules
from guardproxy.flow.story import Story, story
from guardproxy.guards import breaker, cache, health, modes, throttle
from guardproxy.guards import schema as guard_schema
from guardproxy.openai.schemas import declare

if TYPE_CHECKING:
    from collections.abc import Sequence

UPSTREAMS = {"llama": "llama-id", "mistral": "mistral-id", "qwen": "qwen-id"}
MODES = {
    "creative": modes.Mode("llama", {"temperature": 1.0}),
    "balanced": modes.Mode("mistral", {"temperature": 0.7}),
    "fast": modes.Mode("qwen", {"temperature": 0.3}, {"max_tokens": 512}),
}
SCHEMA = {"type": "object", "required": ["x"], "properties": {"x": {"type": "integer"}}}
TOUCHY = breaker.Settings(minimum_requests=1, timeout=Seconds(10), half_open_requests=1, success_threshold=1)
"""A circuit that opens at the first failure, is due after ten seconds and closes at the first success."""
NAMES = ("modes", "json", "cache", "health", "throttle", "breaker")


class House:
    """All guards, wired as `app` wires them; every setting can be given."""

    def __init__(
        self,
        *,
        mode_of: dict[str, modes.Mode] | None = None,
        downshift: modes.Settings | None = None,
        json_guard: guard_schema.Settings | None = None,
        fallback: Any = None,
        keeps: cache.Settings | None = None,
        circuit: breaker.Settings | None = None,
        retry: Retry | None = None,
        dice: float = 0.0,
        share: float = 0.2,
        floor: float = 1.0,
        more: Sequence[Guard] = (),
        routes: Sequence[Route] = (),
        total: float = 600.0,
        forward: bool = True,
        outfits: dict[str, Outfit] | None = None,
        automatic: bool = True,
        default: str | None = None,
        patience: dict[str, float] | None = None,
    ) -> None:
        parts = Parts(None, UPSTREAMS, 1000.0, {})
        names = MODES if mode_of is None else mode_of
        self.modes = modes.Modes(
            downshift or modes.Settings(),
            names,
            UPSTREAMS,
            automatic=automatic,
            available=parts.opinions.available,
            due=parts.opinions.due,
            why=parts.opinions.why,
        )
        declared = {"brief": declare("brief", SCHEMA, fallback)}
        self.json = guard_schema.JsonGuard(json_guard or guard_schema.Settings(), declared, epoch=1000.0)
        self.cache = cache.Cache(keeps or cache.Settings())
        self.health = health.Health(health.Settings(), UPSTREAMS)
        self.breaker = breaker.Breaker(circuit or TOUCHY, UPSTREAMS)
        self.throttle = throttle.Throttle(throttle.Settings(), UPSTREAMS, lambda: dice)
        guards = [self.modes, self.json, self.cache, self.health, self.throttle, self.breaker, *more]
        for guard in guards:
            parts.add(guard)
        self.rules = Rules(
            guards,
            aim=Aim(outfits or {}, forward=forward),
            dice=lambda: dice,
            budgets={name: Budget(share, floor) for name in UPSTREAMS},
            models=UPSTREAMS,
            retry=retry,
            patience=patience,
        )
        ids = itertools.count(1)
        router = Router(
            {name: (model, (f"{name}-alias",)) for name, model in UPSTREAMS.items()},
            {name: mode.upstream for name, mode in names.items()},
            default,
        )
        self.reading = Reading(
            router,
            (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, ANTHROPIC, OLLAMA),
            ids=lambda: f"id-{next(ids)}",
            routes=routes,
            total=total,
            guards=NAMES,
        )

    def read(
        self,
        body: bytes = b'{"model":"creative","messages":[]}',
        *,
        headers: Sequence[tuple[str, str]] = (),
        target: str = "/v1/chat/completions",
        method: str = "POST",
        now: float = 0.0,
    ) -> Call | Reply:
        """Read a request as the shell does."""
        place = self.reading.place(method, target)
        if not isinstance(place, Place):
            return place
        given = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        return self.reading.call(method, place, given, body, now)

    def admit(self, record: Record, body: bytes, **how: Any) -> Call | Reply:
        """Read a request and let the guards admit it."""
        call = self.read(body, **how)
        admitted = self.rules.admit(call, record, how.get("now", 0.0)) if isinstance(call, Call) else call
        assert not isinstance(admitted, Ready), "a schema of the playbook has to be made ready elsewhere"
        return admitted

    def begin(self, body: bytes = b'{"model":"creative","messages":[]}', **how: Any) -> tuple[Story[Reply], Record]:
        """Begin the story of a call that no guard answers."""
        now = how.get("now", 0.0)
        record = Record(now)
        call = self.admit(record, body, **how)
        assert isinstance(call, Call), call
        return story(call, self.rules, record, now), record

    def fail(self, *upstreams: str, now: float = 0.0) -> None:
        """Open circuits, by a failure each, as the outcomes of other calls would."""
        for name in upstreams:
            record = Record(now)
            call = self.admit(record, b"{}", target=f"/{name}/v1/chat/completions", now=now, headers=NEVER)
            assert isinstance(call, Call)
            tokens = self.rules.permit(call.targets[0], now)
            assert isinstance(tokens, list)
            self.rules.observe(call.targets[0], tokens, broke(now), now)

    def circuits(self) -> str:
        """How the circuits stand: ``c`` closed, ``o`` open, ``h`` half-open; llama, mistral, qwen."""
        return "".join(circuit.state.value[0] for circuit in self.breaker.circuits.values())


NEVER = (("X-Guardproxy-Downshift", "never"),)
GUARDED = (("X-Guardproxy-Schema", "brief"),)


@dataclass(frozen=True)
class ask:  # noqa: N801 -- reads as the step that it stands for
    """Equal to an `Ask` that goes there and is so."""

    upstream: str
    mode: str | None = None
    reason: str | None = None
    has: dict[str, Any] = field(default_factory=dict)
    """Fields that the body has to have."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ask):
            return NotImplemented
        target = other.target
        return (
            target.upstream == self.upstream
            and self.mode in (None, target.mode)
            and self.reason in (None, target.reason)
            and self.has.items() <= (json.loads(other.body) if other.body else {}).items()
        )

    __hash__ = None  # type: ignore[assignment]


def play(telling: Story[Reply], *script: tuple[ask | Pause, object]) -> Reply:
    """Play *script* (the step that is expected, then what comes of it) against a story; return its reply."""
    outcome: object = None
    for expected, answer in script:
        step = telling.send(outcome)
        assert expected == step
        outcome = answer
    with pytest.raises(StopIteration) as end:
        telling.send(outcome)
    reply = end.value.value
    assert isinstance(reply, Reply)
    return reply


def completion(text: str | None = '{"x": 1}', finish: str = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion that says *text*."""
    message = {"role": "assistant", "content": text, **more}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def said(at: float, text: str | None = '{"x": 1}', finish: str = "stop", **more: Any) -> Answer:
    """A model's answer."""
    return answered(at, 200, json.dumps(completion(text, finish, **more)).encode())


def answered(at: float, status: int, body: bytes = b"", **headers: str) -> Answer:
    """Any answer; ``retry_after="5"`` is a header field."""
    fields = [(name.replace("_", "-").title().encode(), value.encode()) for name, value in headers.items()]
    return Answer(at, status, [(b"Content-Type", b"application/json"), *fields], body, first=at)


def refused(at: float, status: int, code: str = "c", **headers: str) -> Answer:
    """An upstream's own error, in an envelope."""
    return answered(at, status, json.dumps({"error": {"message": "no", "code": code}}).encode(), **headers)


def broke(at: float, code: str = "upstream_reset", **more: Any) -> Fault:
    """An attempt that brought nothing."""
    return Fault(at, code, f"it was {code}", **more)


def header(reply: Reply, name: str) -> str | None:
    """A header field of *reply*; the test fails where it is there twice."""
    found = [value.decode() for key, value in reply.headers if key.decode().lower() == name.lower()]
    assert len(found) < 2, found
    return found[0] if found else None


def code(reply: Reply) -> Any:
    """The code in the envelope of *reply*."""
    return json.loads(reply.body)["error"]["code"]


def labels(record: Record) -> list[tuple[str, str, Kind]]:
    """The attempts of *record*, briefly."""
    return [(attempt.upstream, attempt.label, attempt.kind) for attempt in record.attempts]
