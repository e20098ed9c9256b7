"""Ten times more than a model server bears: what gets through, how late, and what a refusal costs.

Here belongs the measurement (`make soak` writes it down); the limiter's rules are tested with `core.limiter`.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tests.app.stand import merged
from tests.faults.program import Program, program
from tests.faults.soak import Line
from tests.faults.trial import NEVER, left, says
from tests.faults.wire import WELL, asking, request, whole

if TYPE_CHECKING:
    from tests.net.raw import Peer

SLOTS, SECONDS, LINES = 8, 0.05, 400
"""The model server answers so many at once, each in so long, and queues the rest without bound."""
CHANGES = {
    "cache": {"enabled": False},
    "log": {"sample": 0.0},
    "load": {"enabled": True, "floor": 4, "initial": SLOTS, "ceiling": SLOTS, "queue": SLOTS, "queue_seconds": 0.5},
}


@dataclass
class Measured:
    """What came of it."""

    peak: float
    """Answers a second from as many callers as there are slots."""
    offered: float
    goodput: float
    p50: float
    p99: float
    """Seconds of calls that were answered."""
    refused: float
    """Refusals a second."""
    miss_us: float
    refusal_us: float
    """Processor time of one call, µs."""
    recovery: float
    """Seconds from the end of the flood to the first answer of a caller who comes alone."""


class Slots:
    """A model server that bears so much and no more."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(SLOTS)

    async def __call__(self, peer: Peer) -> bool:
        async with self._free:
            await asyncio.sleep(SECONDS)
        await peer.send(whole(WELL))
        return True


async def closed(run: Program, callers: int, seconds: float) -> tuple[int, int, float]:
    """Callers who ask again as soon as they are answered; answers, refusals, and processor time."""
    until, counts, before = time.monotonic() + seconds, [0, 0], run.cpu()

    async def one() -> None:
        line = Line(run)
        while time.monotonic() < until:
            came = await line.ask(request(asking(), NEVER, close=False))
            counts[not came.startswith(b"HTTP/1.1 200")] += 1
        line.drop()

    await asyncio.gather(*(one() for _ in range(callers)))
    return counts[0], counts[1], run.cpu() - before


async def flood(run: Program, rate: float, seconds: float) -> tuple[int, list[float], int]:
    """Calls that come whatever happens; how many, how long those took that were answered, and refusals."""
    lines = [Line(run) for _ in range(LINES)]
    took: list[float] = []
    refused = offered = 0
    tasks = set()

    async def one(line: Line) -> None:
        nonlocal refused
        at = time.monotonic()
        came = await line.ask(request(asking(), NEVER, close=False))
        if came.startswith(b"HTTP/1.1 200"):
            took.append(time.monotonic() - at)
        else:
            refused += 1
        lines.append(line)

    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        while offered < passed * rate and lines:
            task = asyncio.ensure_future(one(lines.pop()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            offered += 1
        await asyncio.sleep(0.001)
    if tasks:
        await asyncio.wait(tasks)
    for line in lines:
        line.drop()
    return offered, took, refused


async def measure(seconds: float = 5.0) -> Measured:
    """All of it."""
    with tempfile.TemporaryDirectory() as folder:
        async with program(Path(folder), CHANGES) as run:
            run.llama.play = says(whole(WELL), then="keep")
            answered, _, cpu = await closed(run, 4, seconds / 2)
            miss = cpu / answered
            run.llama.play = Slots()
            answered, _, _ = await closed(run, SLOTS, seconds)
            peak = answered / seconds
            offered, took, refused = await flood(run, 10 * peak, seconds)
            at = time.monotonic()
            line = Line(run)
            while not (await line.ask(request(asking(), NEVER, close=False))).startswith(b"HTTP/1.1 200"):
                pass
            recovery = time.monotonic() - at
            took.sort()

            async def stuck(peer: Peer) -> bool:
                await left(peer)
                return False

            run.write(merged(CHANGES, {"load": {"queue": 0}}))  # or some would wait in line before they are refused
            run.signal(signal.SIGHUP)
            await run.until(lambda: [line for line in run.log() if line["msg"] == "reloaded"])
            run.llama.play = stuck
            holders = [asyncio.ensure_future(run.send(request(asking(), NEVER))) for _ in range(2 * SLOTS)]
            await asyncio.sleep(1.0)  # every place is taken
            answered, turned, cpu = await closed(run, 4, seconds / 2)
            for holder in holders:
                holder.cancel()
            await asyncio.gather(*holders, return_exceptions=True)
            return Measured(
                peak,
                offered / seconds,
                len(took) / seconds,
                took[len(took) // 2],
                took[int(len(took) * 0.99)],
                refused / seconds,
                miss * 1e6,
                cpu / max(turned, 1) * 1e6,
                recovery,
            )


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


def words(it: Measured, resting: Idle | None = None) -> str:
    """The figures, for people; those of resting connections are measured where they are not given."""
    resting = resting or uvloop.run(idle())
    return f"""
## Connections that rest

{resting.count:,} connections over which nothing is asked take {resting.each / 1024:.1f} KiB each; a call among them
takes {resting.among * 1e3:.2f} ms, without them {resting.alone * 1e3:.2f} ms.

## Ten times too much

A model server that answers {SLOTS} calls at once, each in {SECONDS * 1000:.0f} ms, and queues the rest without bound;
`load` bounds what it is sent ({SLOTS} at once, {SLOTS} in line). Callers come whatever happens.

| | |
|---|---|
| peak, {SLOTS} callers in turn | {it.peak:.0f} answers a second |
| offered | {it.offered:.0f} calls a second ({it.offered / it.peak:.1f} × the peak) |
| answered meanwhile | {it.goodput:.0f} a second ({it.goodput / it.peak:.0%} of the peak) |
| time of those answered | p50 {it.p50 * 1000:.0f} ms, p99 {it.p99 * 1000:.0f} ms |
| refused with 503 `overloaded` | {it.refused:.0f} a second |
| processor time of a refusal | {it.refusal_us:.0f} µs ({it.refusal_us / it.miss_us:.2f} of a miss) |
| first answer after the flood | {it.recovery * 1000:.0f} ms |
"""


if __name__ == "__main__":
    sys.stdout.write(words(uvloop.run(measure())))
