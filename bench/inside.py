"""Where the microseconds are: every stage of a call, timed alone in this process, without a socket.

Here belongs the calling of guardproxy's own code with a performer that answers at once.  What the kernel, the event
loop and aiohttp add is the difference to what `hop` measures from outside.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from typing import TYPE_CHECKING, Any, final

import uvloop

from bench import upstream, workload
from guardproxy.app.house import build
from guardproxy.app.sinks import Sinks
from guardproxy.config.load import loads
from guardproxy.core.values import Answer, Call, Record, Reply
from guardproxy.flow.story import story
from guardproxy.net import dress
from guardproxy.net.framing import Framing
from guardproxy.net.request import compose
from guardproxy.openai.scan import Scan
from guardproxy.telemetry.feed import Feed
from guardproxy.telemetry.log import Log
from guardproxy.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.steps import Ask

HEADERS = [
    (b"Host", b"127.0.0.1:8000"),
    (b"User-Agent", b"bench"),
    (b"Accept", b"*/*"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"171"),
]
ANSWERED = [(b"Server", b"fake"), (b"Content-Type", b"application/json"), (b"Content-Length", b"617")]
BODY = upstream.completion()
EVENT = b"data: " + upstream.TOKEN.split(b"data: ")[1].split(b"\r\n")[0]


@final
class Inside:
    """guardproxy's own code, built as the program builds it, with nobody at the other end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.house = build(loads("{}", env={}), loop, time.time)
        config = self.house.config
        self.log = Log(os.open(os.devnull, os.O_WRONLY), time.time)
        metrics = Metrics(list(config.upstreams), list(config.modes))
        self.sinks = Sinks(metrics, self.log, Feed(time.time), None, loop, time.time)
        self._count = 0

    def bodies(self, count: int, **kind: Any) -> list[bytes]:
        """Bodies, no two alike, and unlike all given before."""
        self._count += count
        text = workload.body(**kind)
        return [text.replace(workload.MARK, f"{n:08d}").encode() for n in range(self._count - count, self._count)]

    def read(self, body: bytes, now: float) -> Call:
        """The call that arrives with *body*."""
        reading = self.house.reading
        place = reading.place("POST", workload.PATH)
        assert not isinstance(place, Reply)
        call = reading.call("POST", place, HEADERS, body, now)
        assert isinstance(call, Call)
        return call

    def miss(self, body: bytes) -> Record:
        """A whole call as the pure floors see it: read, admitted, told, judged, settled."""
        now = self.loop.time()
        record = Record(now)
        admitted = self.house.rules.admit(self.read(body, now), record, now)
        assert isinstance(admitted, Call), admitted
        telling = story(admitted, self.house.rules, record, now)
        telling.send(None)
        try:
            telling.send(answer(now))
        except StopIteration as end:
            record.reply = end.value
        return record

    def hit(self, body: bytes) -> Record:
        """The same for an answer that is kept."""
        now = self.loop.time()
        record = Record(now)
        record.call = self.read(body, now)
        reply = self.house.rules.admit(record.call, record, now)
        assert isinstance(reply, Reply), reply
        record.reply = reply
        return record


def answer(now: float) -> Answer:
    """What the model server sends."""
    return Answer(now, 200, ANSWERED, BODY, first=now)


def timed(what: Callable[[Any], object], arguments: list[Any], rounds: int = 50) -> float:
    """Microseconds that *what* takes, by the best of many short rounds: the machine's noise only ever adds."""
    share = len(arguments) // rounds
    gc.disable()
    best = float("inf")
    for number in range(rounds):
        part = arguments[number * share : (number + 1) * share]
        begun = time.perf_counter()
        for one in part:
            what(one)
        best = min(best, (time.perf_counter() - begun) / len(part))
    gc.enable()
    return best * 1e6


def whole_calls(count: int = 20_000) -> dict[str, float]:
    """µs of the guards' own code for a miss, a miss with a schema, and a hit."""
    inside = Inside(uvloop.new_event_loop())
    miss = timed(inside.miss, inside.bodies(count))
    schema = timed(inside.miss, inside.bodies(count, schema=True))
    again = inside.bodies(1, unique=False)
    inside.miss(again[0])
    return {"miss": miss, "schema": schema, "hit": timed(inside.hit, again * count)}


def stages(count: int = 5_000) -> dict[str, dict[str, float]]:
    """µs of each stage of a miss, a hit and a streamed event, in the order in which they happen."""
    inside = Inside(uvloop.new_event_loop())
    house, rules, loop = inside.house, inside.house.rules, inside.loop
    place = house.reading.place("POST", workload.PATH)
    assert not isinstance(place, Reply)
    now = loop.time()
    bodies = inside.bodies(count)
    calls = [inside.read(body, now) for body in bodies]
    miss: dict[str, float] = {
        "request line": timed(lambda _: house.reading.place("POST", workload.PATH), bodies),
        "body and header fields to a call": timed(
            lambda body: house.reading.call("POST", place, HEADERS, body, now), bodies
        ),
        "admit: mode, key, lookup": timed(lambda call: rules.admit(call, Record(now), now), calls),
    }
    records = [Record(now) for _ in calls]
    stories = [story(call, rules, record, now) for call, record in zip(calls, records, strict=True)]
    asks: list[Ask] = []
    miss["permit, aim"] = timed(lambda told: asks.append(told.send(None)), stories)
    miss["request head for upstream"] = timed(
        lambda one: compose(b"POST", b"/v1/chat/completions", b"127.0.0.1:18001", one.headers, len(one.body)), asks
    )
    framing = Framing(65536, 128)

    def frame(data: bytes) -> None:
        framing.expect(bodyless=False)
        framing.feed(data)

    miss["answer's framing"] = timed(frame, [upstream.COMPLETION] * count)
    ended: list[Reply] = []

    def end(told: Any) -> None:
        try:
            told.send(answer(now))
        except StopIteration as stop:
            ended.append(stop.value)

    miss["examine, observe, judge, settle"] = timed(end, stories)
    pairs = list(zip(ended, records, strict=True))
    for reply, record in pairs:
        record.reply = reply
    miss["reply's head"] = timed(lambda pair: dress.block(*pair), pairs)
    miss["metrics, feed, log line"] = told(inside, records)
    return {"miss": miss, "hit": _hit(inside, count), "event": _event(count)}


def told(inside: Inside, records: list[Record], batch: int = 64) -> float:
    """Microseconds that telling of one call takes; *batch* calls are told of at once, as they are under load.

    Between two calls half a megabyte is read, as if the kernel and the parsers had been at work: what telling needs
    has to be fetched anew then, once a batch.
    """
    work, best = bytes(512 << 10), float("inf")
    gc.disable()
    for start in range(0, len(records) - batch, batch):
        spent = 0.0
        for record in records[start : start + batch]:
            sum(work[::64])
            begun = time.perf_counter()
            inside.sinks.record(record)
            spent += time.perf_counter() - begun
        begun = time.perf_counter()
        inside.sinks.fold()
        best = min(best, (spent + time.perf_counter() - begun) / batch)
    gc.enable()
    return best * 1e6


def _hit(inside: Inside, count: int) -> dict[str, float]:
    rules, now = inside.house.rules, inside.loop.time()
    body = inside.bodies(1, unique=False)[0]
    inside.miss(body)
    calls = [inside.read(body, now) for _ in range(count)]
    record = inside.hit(body)
    assert record.reply is not None
    pair = (record.reply, record)
    return {
        "request line, body and fields to a call": timed(lambda one: inside.read(one, now), [body] * count),
        "admit: mode, key, lookup": timed(lambda call: rules.admit(call, Record(now), now), calls),
        "reply's head": timed(lambda one: dress.block(*one), [pair] * count),
        "metrics, feed, log line": told(inside, [record] * count),
    }


def _event(count: int) -> dict[str, float]:
    framing, scan = Framing(65536, 128), Scan()
    framing.expect(bodyless=False)
    framing.feed(upstream.EVENTS_HEAD)

    def frame(data: bytes) -> None:
        framing.feed(data)
        framing.pieces = []

    return {
        "chunk's framing": timed(frame, [upstream.TOKEN] * count),
        "reading along": timed(scan.feed, [EVENT + b"\n\n"] * count),
        "caller's chunk": timed(lambda chunk: b"%b%x\r\n%b\r\n" % (b"", len(chunk), chunk), [EVENT] * count),
    }


if __name__ == "__main__":
    print(json.dumps({"calls": whole_calls(), "stages": stages()}, indent=1))
