"""Send an upstream no more calls at once than it bears.

Here belong the settings, and the guard that keeps a limit for each upstream.  The limit itself, and the line before it,
are `core.limiter`'s; what engines say of their own queues is read by `net.signals`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import NOBODY, Guard, Spec
from guardproxy.core.limiter import Limiter, Slot, sized
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Fault, Kind, News, Relayed
from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.guard import Parts
    from guardproxy.core.line import Line
    from guardproxy.core.values import Outcome, Refusal, Target

LASTING = 10.0
"""Seconds after which it is news that an upstream has too much to do, or no longer."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How many calls an upstream is sent at once (``load``)."""

    enabled: bool | Literal["shadow"] = False
    """Whether a limit is sought; ``false``: as many as come; ``shadow``: so too, counting who would have waited."""
    floor: int = 4
    """Calls at once at the least."""
    ceiling: int = 256
    """Calls at once at the most."""
    initial: int = 32
    """Calls at once in the beginning."""
    tolerance: float = 3.0
    """How many times longer than the best of late the first token of a stream may take before there are too many."""
    queue: int = 128
    """Calls that wait for a place at the most; further ones are answered 503 ``overloaded``."""
    queue_seconds: Seconds = Seconds(5)
    """Seconds that a call waits for a place at the most; less while the line does not get empty."""
    signal_seconds: Seconds = Seconds(1)
    """Seconds between two looks at an upstream's own ``/metrics`` (vLLM, llama.cpp); 0: never."""


@final
class Load(Guard):
    """A limit for each upstream."""

    name = "load"
    refuses = "overloaded"

    def __init__(self, settings: Settings, upstreams: Iterable[str]) -> None:
        self.settings = settings
        self.limiters = {name: Limiter(settings) for name in upstreams}
        self._overloaded: dict[str, float] = {}
        """Those that have been told to be, and when they last were."""

    def permit(self, target: Target, now: float) -> Slot | Refusal:
        """A place, or a refusal with a line to wait in."""
        return self.limiters[target.upstream].permit(now)

    def observe(self, target: Target, token: Slot, outcome: Outcome | None, now: float) -> Iterable[News]:
        """A place is free again, and what happened in it moves the limit."""
        limiter = self.limiters[target.upstream]
        first, kind, size = None, None if outcome is None else outcome.kind, 0
        if type(outcome) is Relayed or (type(outcome) is Answer and outcome.streamed):
            first = outcome.first - token.since if outcome.first else None
        elif type(outcome) is Answer:
            size = _size(outcome)
        elif type(outcome) is Fault and outcome.code == "upstream_timeout" and not outcome.first:
            if kind is Kind.FAILURE:
                limiter.fall(token, now)
            kind = None  # where it was the caller's own time it is as if he had left
        limiter.ended(token, kind, first, now, size)
        return ()

    def late(self, target: Target, token: Slot, now: float) -> tuple[Slot, Iterable[News]]:
        """A stream has not begun in time: there are too many."""
        self.limiters[target.upstream].fall(token, now)
        return token, ()

    def tick(self, now: float) -> Iterable[News]:
        """Lines are gone through, and what lasts is told."""
        told: list[News] = []
        for name, limiter in self.limiters.items():
            limiter.line.expire(now)
            limiter.serve(now)
            pressed = limiter.pressed(now)
            if name not in self._overloaded:
                if pressed >= LASTING:
                    self._overloaded[name] = now
                    told.append(News(now, "load", name, "well", "overloaded", "overloaded"))
            elif pressed > 0.0:
                self._overloaded[name] = now
            elif now - self._overloaded[name] >= LASTING:
                del self._overloaded[name]
                told.append(News(now, "load", name, "overloaded", "well"))
        return told

    def available(self, upstream: str, now: float) -> bool:
        """Whether there is a place."""
        return self.limiters[upstream].available(now)

    def full(self, upstream: str, *, batch: bool) -> Line | None:
        """Its line, where there is neither a place nor room to wait."""
        return self.limiters[upstream].full(batch=batch)

    def hear_signal(self, upstream: str, waiting: int, now: float) -> None:
        """*upstream* says how many calls wait within it."""
        self.limiters[upstream].hear(waiting, now)

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """The limits of upstreams that are still there, who is out and who waits, whatever they are set by now."""
        if isinstance(old, Load):
            kept = (self.limiters.keys() & old.limiters.keys()) - moved
            self.limiters |= {name: old.limiters[name] for name in kept}
            for name in kept:
                self.limiters[name].retune(self.settings)
            told = old._overloaded  # noqa: SLF001 -- its own kind
            self._overloaded = {name: at for name, at in told.items() if name in kept}

    def state(self, now: float) -> dict[str, Any]:
        """Each limit, and who waits."""
        del now
        return {
            name: {
                "limit": round(limiter.limit, 1),
                "taken": limiter.taken,
                "queue": len(limiter.line),
                "sent_away": limiter.line.dropped,
                "waiting_upstream": limiter.waiting,
            }
            for name, limiter in self.limiters.items()
        }


def _size(answer: Answer) -> int:
    """How much an answer in one piece was to do: by its tokens, in the words of whichever API."""
    doc = answer.doc
    if not isinstance(doc, dict):
        return 0
    usage = doc.get("usage")
    if not isinstance(usage, dict):
        usage = {"prompt_tokens": doc.get("prompt_eval_count"), "completion_tokens": doc.get("eval_count")}  # Ollama
    return sized(*tokens(usage))


def _build(settings: Settings, parts: Parts) -> Load:
    return Load(settings, parts.models)


SPEC = Spec("load", "load", 55, _build)
"""What the registry loads."""
