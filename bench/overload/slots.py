"""A model server that bears so much and no more: `python -m bench.overload.slots PORT SLOTS MILLISECONDS`.

Here belongs what is overloaded.  It answers so many calls at once, each in so long, in the order in which they came,
and queues the rest without bound, as engines do.  What it bears is therefore known, and no matter of the processor.

``GET /took/N`` has each answer take N ms from then on.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import deque
from typing import cast, final

import uvloop

from bench.upstream import COMPLETION, PROBED

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TOOK = re.compile(rb"GET /took/(\d+) ")


@final
class Slots:
    """The places, and who waits for one."""

    def __init__(self, places: int, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = seconds
        self._free = places
        self._waiting: deque[Model] = deque()
        self._loop = loop

    def ask(self, model: Model) -> None:
        """Answer *model* when its turn has come and its time is over."""
        if not self.seconds:
            model.answer()
        elif self._free:
            self._free -= 1
            self._loop.call_later(self.seconds, self._over, model)
        else:
            self._waiting.append(model)

    def _over(self, model: Model) -> None:
        self._free += 1
        model.answer()
        while self._waiting and self._free:
            waits = self._waiting.popleft()
            if not waits.gone:
                self.ask(waits)


@final
class Model(asyncio.Protocol):
    """One connection."""

    def __init__(self, slots: Slots) -> None:
        self.gone = False
        self._slots = slots
        self._transport: asyncio.Transport | None = None
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        del exc
        self.gone = True

    def data_received(self, data: bytes) -> None:
        """Once a request is whole, wait for a place."""
        data = self._held + data
        end, declared = data.find(b"\r\n\r\n"), _LENGTH.search(data)
        if end < 0 or len(data) < end + 4 + (int(declared[1]) if declared else 0):
            self._held = data
            return
        self._held = b""
        if data.startswith(b"POST"):
            self._slots.ask(self)
            return
        if (took := _TOOK.match(data)) is not None:
            self._slots.seconds = int(took[1]) / 1000
        self._write(PROBED)

    def answer(self) -> None:
        """Say what a model says."""
        if not self.gone:
            self._write(COMPLETION)

    def _write(self, block: bytes) -> None:
        assert self._transport is not None
        self._transport.write(block)


async def serve(port: int, places: int, milliseconds: int) -> None:
    """Answer until the process is ended."""
    loop = asyncio.get_running_loop()
    slots = Slots(places, milliseconds / 1000, loop)
    server = await loop.create_server(lambda: Model(slots), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(*map(int, sys.argv[1:4])))
