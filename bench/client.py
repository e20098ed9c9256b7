"""Callers: `python -m bench.client` reads one order as JSON from its stdin and prints what came of it as JSON.

Here belongs load that wrk cannot make (paced, streamed, large), and what stands in for wrk where it is absent.  It is
a process of its own, so that its own work falls on another core than what it measures.

| order | does |
|---|---|
| ``closed`` | *connections* callers, each asks again as soon as it is answered, for *seconds* |
| ``paced`` | *rate* calls a second whatever happens |
| ``streams`` | *connections* streams at once; prints ``ready`` once each has begun, then counts events for *seconds* |
"""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from time import perf_counter
from typing import Any, cast, final

import httptools
import uvloop

from bench.workload import MARK

RAMP = 0.0005
"""Seconds between two streams that begin."""


@final
class Caller(asyncio.Protocol):
    """One connection: asks, and is told when the answer is complete."""

    def __init__(self) -> None:
        self.errors = 0
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[bool] | None = None
        self._parser: Any = None

    async def ask(self, request: bytes) -> bool:
        """Send *request*; whether it was answered 200."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """More of an answer."""
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._end(ok=self._parser.get_status_code() == 200)

    def connection_lost(self, exc: Exception | None) -> None:
        """There will be no answer."""
        del exc
        self._end(ok=False)

    def _end(self, *, ok: bool) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(ok)


@final
class Listener(asyncio.Protocol):
    """One connection that streams: counts what comes."""

    def __init__(self, request: bytes, begun: asyncio.Semaphore) -> None:
        self.events = 0
        self.lost = False
        self._request = request
        self._begun: asyncio.Semaphore | None = begun

    def itself(self) -> Listener:
        """What asyncio wants to make."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """More events."""
        self.events += data.count(b"data: ")
        if self._begun is not None:
            self._begun.release()
            self._begun = None

    def connection_lost(self, exc: Exception | None) -> None:
        """No more of them."""
        del exc
        self.lost = True


def result(spans: list[float], seconds: float, errors: int) -> dict[str, float]:
    """Requests, and what half and 99 % of them took at most, in ms."""
    spans.sort()
    at = {part: spans[min(len(spans) - 1, int(len(spans) * part))] * 1e3 if spans else 0.0 for part in (0.5, 0.99)}
    return {"requests": len(spans), "seconds": seconds, "errors": errors, "p50": at[0.5], "p99": at[0.99]}


async def closed(order: dict[str, Any]) -> dict[str, float]:
    """Ask as fast as it is answered."""
    loop = asyncio.get_running_loop()
    text, number, spans = order["request"], count(), list[float]()
    until = perf_counter() + order["seconds"]
    errors = 0

    async def one() -> None:
        nonlocal errors
        _, caller = await loop.create_connection(Caller, "127.0.0.1", order["port"])
        while (begun := perf_counter()) < until:
            well = await caller.ask(text.replace(MARK, f"{next(number):08d}", 1).encode())
            errors += not well  # not in one line: the count is read before what is awaited
            spans.append(perf_counter() - begun)

    begun = perf_counter()
    await asyncio.gather(*(one() for _ in range(order["connections"])))
    return result(spans, perf_counter() - begun, errors)


async def paced(order: dict[str, Any]) -> dict[str, float]:
    """Ask at a steady pace, answered or not."""
    loop = asyncio.get_running_loop()
    text, spans, errors = order["request"], list[float](), 0
    idle = [(await loop.create_connection(Caller, "127.0.0.1", order["port"]))[1] for _ in range(order["connections"])]
    tasks: set[asyncio.Task[None]] = set()
    begun = perf_counter()

    async def one(text: bytes) -> None:
        nonlocal errors
        caller, sent = idle.pop(), perf_counter()
        well = await caller.ask(text)
        errors += not well
        spans.append(perf_counter() - sent)
        idle.append(caller)

    for number in range(int(order["rate"] * order["seconds"])):
        due = begun + number / order["rate"]
        await asyncio.sleep(max(0.0, due - perf_counter()))
        if idle:
            task = loop.create_task(one(text.replace(MARK, f"{number:08d}", 1).encode()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        else:
            errors += 1
    await asyncio.gather(*tasks)
    return result(spans, perf_counter() - begun, errors)


async def streams(order: dict[str, Any]) -> dict[str, float]:
    """Hold many streams at once and count their events."""
    loop = asyncio.get_running_loop()
    begun = asyncio.Semaphore(0)
    listeners: list[Listener] = []
    for number in range(order["connections"]):
        listener = Listener(order["request"].replace(MARK, f"{number:08d}", 1).encode(), begun)
        await loop.create_connection(listener.itself, "127.0.0.1", order["port"])
        listeners.append(listener)
        await asyncio.sleep(order.get("ramp", RAMP))
    for _ in listeners:
        await begun.acquire()
    print("ready", flush=True)
    before, started = sum(one.events for one in listeners), perf_counter()
    await asyncio.sleep(order["seconds"])
    events = sum(one.events for one in listeners) - before
    return {"events": events, "seconds": perf_counter() - started, "errors": sum(one.lost for one in listeners)}


if __name__ == "__main__":
    given = json.load(sys.stdin)
    orders = {"closed": closed, "paced": paced, "streams": streams}
    print(json.dumps(uvloop.run(orders[given["order"]](given))), flush=True)
