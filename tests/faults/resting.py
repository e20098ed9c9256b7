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
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.faults.program import Program, program
from tests.faults.soak import Line
from tests.faults.trial import NEVER
from tests.faults.wire import asking, request

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


async def idle(count: int = 10_000) -> Idle:
    """Open so many connections, ask once over each, and let them rest."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 2000, max(count + 2000, _hard())))
    with tempfile.TemporaryDirectory() as folder:
        changes = {**CHANGES, "limits": {"connections": count + 100}}
        async with program(Path(folder), changes, files=count + 2000) as run:
            alone, before = await _call(run), run.rss()
            host, _, port = run.app.rpartition(":")
            resting = []
            for number in range(count):
                sock = socket.create_connection((host, int(port)))
                sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                resting.append(sock)
                if number % 100 == 99:
                    await asyncio.sleep(0.01)
            for sock in resting:
                while not sock.recv(4096).endswith(b"ok\n"):
                    pass
            await asyncio.sleep(1.0)
            among, after = await _call(run), run.rss()
            for sock in resting:
                sock.close()
            return Idle(count, (after - before) / count, alone, among)


async def _call(run: Program) -> float:
    """The median of some calls, seconds."""
    line, took = Line(run), []
    for _ in range(100):
        at = time.monotonic()
        assert (await line.ask(request(asking(), NEVER, close=False))).startswith(b"HTTP/1.1 200")
        took.append(time.monotonic() - at)
    line.drop()
    return sorted(took)[50]


def _hard() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


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
