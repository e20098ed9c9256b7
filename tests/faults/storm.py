"""Random calls against model servers that misbehave at random, and what must be true whatever happens.

Every answer of a model server carries the mark of the question it was given, so that one in the wrong hands is
noticed.  Here belong the calls, the misbehaviour and the invariant; `test_storm` plays a few seeds, `make fuzz` as many
as there is time for.

    each answer belongs to its question · it is complete or an explicit error · the accounts balance
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

from tests.faults.test_app import App
from tests.faults.trial import Trial, left
from tests.faults.wire import (
    CHAT,
    DONE,
    LAST,
    STREAM,
    asking,
    chunk,
    completion,
    head,
    mistake,
    piece,
    read,
    request,
    whole,
)

if TYPE_CHECKING:
    from tests.net.raw import Peer

MARK = re.compile(rb"<[0-9a-f]{12}>")
SAID = re.compile(rb'"content"\s*:\s*"((?:[^"\\]|\\.)*)"')
CHANGES: dict[str, Any] = {
    "timeouts": {"first_token": 1, "stall": 0.5, "total": 2},
    "retry": {"attempts": 2, "budget": 1.0},
    "circuit_breaker": {"minimum_requests": 5, "timeout": 0.1, "success_threshold": 1},
    "json_guard": {"max_retries": 1, "backoff_base": 0.01, "jitter": 0.01},
    "cache": {"max_size": 20, "ttl_seconds": 0.5},
}
SCHEMA = {"type": "object", "properties": {"says": {"type": "string"}}, "required": ["says"]}
JUDGED = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
SCHEMED = b'"json_schema"'
STATUSES = {200, 400, 429, 500, 502, 503, 504, 529}


@dataclass
class Seen:
    """What became of all calls."""

    ends: dict[str, int] = field(default_factory=dict)
    cacheable: int = 0

    def count(self, end: str) -> None:
        self.ends[end] = self.ends.get(end, 0) + 1


def marks(wire: bytes) -> set[bytes]:
    """The marks in *wire*, also those of which an event holds one half and the next the other."""
    return {*MARK.findall(wire), *MARK.findall(b"".join(SAID.findall(wire)))}


class Model:
    """A model server that answers with the mark of the question, and does something wrong every now and then."""

    def __init__(self, dice: Random, wrong: float) -> None:
        self.dice = dice
        self.wrong = wrong

    async def __call__(self, peer: Peer) -> bool | None:
        asked = peer.last
        dice = self.dice
        mark = (MARK.findall(asked) or [b"<none>"])[0].decode()
        text = json.dumps({"says": mark}) if SCHEMED in asked else f"{mark} says the model"
        if b'"stream": true' in asked or b'"stream":true' in asked:
            cut = dice.randrange(len(text))
            parts = [piece(text[:cut]), piece(text[cut:]), piece("", "stop"), DONE]
            wire = STREAM + b"".join(map(chunk, parts)) + LAST
        else:
            wire = whole(completion(text))
        then = "keep"
        if dice.random() < self.wrong:
            wire, then = self._spoil(wire)
        pieces = self._split(wire)
        for part in pieces:
            if peer.writer.is_closing():
                return False
            await peer.send(part)
        if then == "keep":
            return True
        if then == "stay":
            await left(peer)
            return False
        await asyncio.sleep(0.001)
        getattr(peer, then)()
        return False

    def _spoil(self, wire: bytes) -> tuple[bytes, str]:
        """Something that is wrong with *wire*, and how the connection ends."""
        dice = self.dice
        way = dice.randrange(12)
        at = dice.randrange(len(wire))
        if way <= 2:
            return wire[:at], dice.choice(("fin", "rst"))
        if way == 3:
            return wire[:at], "stay"
        if way == 4:
            spoilt = wire[:at] + bytes([dice.randrange(256)]) + wire[at + 1 :]
            if marks(spoilt) <= marks(wire):  # else it would be the mark of another question
                wire = spoilt
            return wire, "fin"
        if way == 5:
            return wire[:at] + wire[at + 1 :], "fin"
        if way == 6:
            return wire + wire, "keep"
        if way == 7:
            other = f"<{dice.getrandbits(48):012x}> is nobody's"
            return wire + whole(completion(other)), "keep"
        if way == 8:
            status = dice.choice(
                (b"500 No", b"503 No", b"429 No", b"400 No", b"302 Go", b"529 Busy", b"100 Go", b"999 No")
            )
            return whole(mistake(), status=status), dice.choice(("keep", "fin"))
        if way == 9:
            return dice.randbytes(dice.randrange(200)), "fin"
        if way == 10:
            return whole(mistake("no", dice.choice((None, 429, 400, "x")))), "keep"
        return head(*[b"X-Many: 1"] * dice.choice((2, 600)), b"Content-Length: 2") + b"{}", "keep"

    def _split(self, wire: bytes) -> list[bytes]:
        dice = self.dice
        if dice.random() < 0.5 or not wire:
            return [wire]
        cuts = sorted(dice.randrange(len(wire)) for _ in range(dice.randrange(1, 6)))
        return [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]


async def call(trial: Trial, dice: Random, number: int, seen: Seen) -> None:
    """One call of any kind, held against the invariant."""
    text = f"<{dice.randrange(1 << 48):012x}>" if dice.random() < 0.6 else f"<{number % 7:012x}>"
    stream, judged = dice.random() < 0.5, dice.random() < 0.3
    body = asking(text, stream=stream, **({"response_format": JUDGED} if judged else {}))
    body["model"] = dice.choice(("creative", "balanced", "fast", "llama", "qwen"))
    fields, path = [], CHAT
    leaves = dice.random() < 0.15
    if leaves or dice.random() < 0.2:
        fields.append("Cache-Control: no-store")
    else:
        seen.cacheable += 1
    if leaves:
        async with App(trial) as app:
            app.say(request(body, *fields, path=path))
            await asyncio.sleep(dice.random() * 0.02)
            dice.choice((app.reset, app.writer.write_eof, app.writer.close))()
        seen.count("left")
        return
    wire = await trial.send(request(body, *fields, path=path))
    seen.count(judge(wire, text, stream=stream, judged=judged))


def judge(wire: bytes, text: str, *, stream: bool, judged: bool) -> str:
    """Hold an answer against the invariant; how the call ended."""
    answer, _ = read(wire)
    assert marks(answer.body) <= {text.encode()}, (text, wire)
    assert answer.status in STATUSES, wire
    assert answer.fields["x-request-id"], wire
    if answer.status != 200:
        assert not answer.cut, wire
        assert answer.error["message"], wire
        return str(answer.status)
    if answer.cut:
        assert stream, wire
        error = json.loads(answer.datas[-1])["error"]
        assert error["code"] in ("upstream_stream_interrupted", "upstream_timeout"), wire
        assert b"\n\ndata: [DONE]" not in answer.body, wire  # not as an event: in a spoilt one it may stand
        return "interrupted"
    if stream and b'"error"' in answer.body:
        return "told of an error"
    if judged:
        if stream:
            datas = [json.loads(data) for data in answer.datas if data != b"[DONE]"]
            said = "".join(
                (c.get("delta") or {}).get("content") or "" for data in datas for c in data.get("choices", ())
            )
        else:
            said = json.loads(answer.body)["choices"][0]["message"]["content"]
        assert readable(said), wire
    return "answered"


async def play(seed: int, *, calls: int = 60, at_once: int = 12, wrong: float = 0.3) -> Seen:
    """Play one storm; everything about it comes from *seed*."""
    dice = Random(seed)
    seen = Seen()
    async with Trial(CHANGES) as trial:
        for model in trial.models.values():
            model.play = Model(Random(dice.random()), wrong)
        before = await trial.books()
        numbers = iter(range(calls))

        async def caller() -> None:
            for number in numbers:
                await call(trial, dice, number, seen)

        await asyncio.gather(*(caller() for _ in range(at_once)))
        for model in trial.models.values():
            model.play = Model(Random(0), 0.0)
        await trial.balanced()
        after = await trial.books()
        moved = after.metrics - before.metrics
        assert moved["cache_hits_total"] + moved["cache_misses_total"] == seen.cacheable, (seed, seen)
        ways = {name: value for name, value in moved.items() if name.startswith("guardproxy_requests_total")}
        told = sum(value for name, value in ways.items() if '"own"' not in name)
        here = sum(count for end, count in seen.ends.items() if end != "left")
        looked = sum(value for name, value in moved.items() if name.startswith("guardproxy_cache_lookups_total"))
        assert told == looked, (seed, moved)  # each was a hit, a miss or passed by
        assert here <= told <= here + seen.ends.get("left", 0), (seed, seen, told)
    return seen


def readable(said: str) -> bool:
    """Whether what a judged answer says satisfies the schema."""
    try:
        return isinstance(json.loads(said)["says"], str)
    except (ValueError, TypeError, KeyError):
        return False
