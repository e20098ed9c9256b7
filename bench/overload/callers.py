"""Callers who come whatever happens: `python -m bench.overload.callers` reads an order as JSON, prints what came of it.

Here belongs load that does not wait for answers, from a process of its own that does next to nothing per call: ready
bytes with a number written into them, and a look at the status line and the length of what comes back.  How long a call
took counts from when it was due, not from when it could be sent.

An order has the *port*, how many *connections*, and a list of *kinds*, each a *request* (with `MARK` where it is to be
numbered) and its *rate* a second, *since* and *until* so many seconds.  What comes back has ``short``, how often no
connection was at hand, and for each kind:

| | |
|---|---|
| ``due`` | how many came |
| ``well``, ``refused``, ``else`` | how many were answered 200, 503, anything else or not at all |
| ``took``, ``turned`` | the ms of each that was answered, and refused; sorted |
| ``ill`` | the seconds after *since* at which the last one was due that was not answered within *good* ms |
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from itertools import count
from time import perf_counter
from typing import Any, cast, final

import uvloop

from bench.workload import MARK

TICK = 0.001
"""Seconds between two looks at who is due."""
GRACE = 5.0
"""Seconds that late answers are waited for."""


@final
class Kind:
    """One sort of caller."""

    numbers = count(time.time_ns() // 100_000 % 80_000_000)
    """None comes twice, in no run: what has been answered once is known."""

    def __init__(self, order: dict[str, Any]) -> None:
        before, self.numbered, after = order["request"].partition(MARK)
        self.before, self.after = before.encode(), after.encode()
        self.rate, self.since, self.until = order["rate"], order["since"], order["until"]
        self.good = order.get("good", float("inf"))
        self.due = 0
        self.odd = 0
        self.ill = 0.0
        self.took: dict[bytes, list[float]] = {b"200": [], b"503": []}

    def request(self) -> bytes:
        """The next one."""
        return b"%b%08d%b" % (self.before, next(self.numbers), self.after) if self.numbered else self.before

    def end(self, status: bytes, due: float, milliseconds: float) -> None:
        """One that was *due* then, in seconds after the beginning, has been told *status*."""
        took = self.took.get(status)
        if took is None:
            self.odd += 1
        else:
            took.append(milliseconds)
        if status != b"200" or milliseconds > self.good:
            self.ill = max(self.ill, due - self.since)

    def told(self) -> dict[str, Any]:
        """What became of them."""
        return {
            "due": self.due,
            "well": len(self.took[b"200"]),
            "refused": len(self.took[b"503"]),
            "else": self.odd,
            "ill": self.ill,
            "took": sorted(self.took[b"200"]),
            "turned": sorted(self.took[b"503"]),
        }


@final
class Line(asyncio.Protocol):
    """A connection: one call at a time."""

    def __init__(self, idle: list[Line], begun: float) -> None:
        self._idle = idle
        self._begun = begun
        self._transport: asyncio.Transport | None = None
        self._kind: Kind | None = None
        self._due = 0.0
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be at hand."""
        self._transport = cast("asyncio.Transport", transport)
        self._idle.append(self)

    def ask(self, kind: Kind, due: float) -> None:
        """Send a call that was *due* then, in seconds after the beginning."""
        assert self._transport is not None
        self._kind, self._due = kind, due
        self._transport.write(kind.request())

    def data_received(self, data: bytes) -> None:
        """Count it, once it is whole."""
        if self._held:
            data = self._held + data
        end = data.find(b"\r\n\r\n")
        at = data.find(b"Content-Length: ", 0, end)
        if end < 0 or at < 0 or len(data) < end + 4 + int(data[at + 16 : data.index(b"\r", at)]):
            self._held = data
            return
        self._held = b""
        self._end(data[9:12])
        self._idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is here any more."""
        del exc
        if self in self._idle:
            self._idle.remove(self)
        self._end(b"")

    def _end(self, status: bytes) -> None:
        kind, self._kind = self._kind, None
        if kind is not None:
            kind.end(status, self._due, (perf_counter() - self._begun - self._due) * 1e3)


async def flood(order: dict[str, Any]) -> dict[str, Any]:
    """Call at the pace that was ordered, for as long as was ordered."""
    loop, idle, begun = asyncio.get_running_loop(), list[Line](), perf_counter() + 1
    for _ in range(order["connections"]):
        await loop.create_connection(lambda: Line(idle, begun), "127.0.0.1", order["port"])
    kinds = [Kind(kind) for kind in order["kinds"]]
    short, everybody, last = 0, len(idle), max(kind.until for kind in kinds)
    passed = 0.0
    while passed < last:
        passed = perf_counter() - begun
        for kind in kinds:
            while kind.due < (min(passed, kind.until) - kind.since) * kind.rate:
                if idle:
                    idle.pop().ask(kind, kind.since + kind.due / kind.rate)
                else:
                    short += 1
                kind.due += 1
        await asyncio.sleep(TICK)
    late = perf_counter() + GRACE
    while len(idle) < everybody and perf_counter() < late:  # noqa: ASYNC110 -- an event would cost every call
        await asyncio.sleep(TICK)
    return {"short": short, "kinds": [kind.told() for kind in kinds]}


if __name__ == "__main__":
    told = json.dumps(uvloop.run(flood(json.load(sys.stdin))))
    os.set_blocking(sys.stdout.fileno(), True)  # else what a pipe does not hold at once is lost
    print(told, flush=True)
