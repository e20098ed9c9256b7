"""Connections that rest: what they take, and that nobody feels them.

Here belongs the measurement; `make soak` writes it down.  What a flood of calls does is `bench.overload`'s.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import tempfile
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tests.faults.program import Program, program
from tests.faults.soak import Line
from tests.faults.trial import NEVER
from tests.faults.wire import asking, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SPARE = 2000
"""Files that are for other things."""
CHANGES = {"cache": {"enabled": False}, "log": {"sample": 0.0}}


@dataclass
class Idle:
    """What connections take that only rest."""

    count: int
    each: float
    """Bytes of memory."""
    alone: float
    among: float
    """Seconds of a call without them, and with them."""


@contextmanager
def room(most: int) -> Iterator[int]:
    """As many connections, up to *most*, as this machine lets both ends have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = most + SPARE
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, max(need, hard)))
    except (ValueError, OSError):  # only root may raise the harder bound
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(need, hard), hard))
    try:
        yield min(need, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) - SPARE
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))


@asynccontextmanager
async def resting(run: Program, count: int) -> AsyncIterator[list[socket.socket]]:
    """So many connections over which something has been asked once."""
    host, _, port = run.app.rpartition(":")
    connections: list[socket.socket] = []
    try:
        for number in range(count):
            connection = socket.create_connection((host, int(port)))
            connections.append(connection)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if number % 100 == 99:
                await asyncio.sleep(0.01)
        for connection in connections:
            while not connection.recv(4096).endswith(b"ok\n"):
                pass
        await asyncio.sleep(1.0)
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def idle(count: int = 10_000) -> Idle:
    """Open so many connections, ask once over each, and let them rest."""
    with room(count) as many, tempfile.TemporaryDirectory() as folder:
        changes = {**CHANGES, "limits": {"connections": many + 100}}
        async with program(Path(folder), changes, files=many + 1000) as run:
            alone, before = await _call(run), run.rss()
            async with resting(run, many):
                among, after = await _call(run), run.rss()
            return Idle(many, (after - before) / many, alone, among)


async def _call(run: Program) -> float:
    """The median of some calls, seconds."""
    line, took = Line(run), []
    for _ in range(100):
        at = time.monotonic()
        assert (await line.ask(request(asking(), NEVER, close=False))).startswith(b"HTTP/1.1 200")
        took.append(time.monotonic() - at)
    line.drop()
    return sorted(took)[50]


def words(resting: Idle | None = None) -> str:
    """The figures, for people; measured where they are not given."""
    resting = resting or uvloop.run(idle())
    return f"""
## Connections that rest

{resting.count:,} connections over which nothing is asked take {resting.each / 1024:.1f} KiB each; a call among them
takes {resting.among * 1e3:.2f} ms, without them {resting.alone * 1e3:.2f} ms.
"""


if __name__ == "__main__":
    sys.stdout.write(words())
