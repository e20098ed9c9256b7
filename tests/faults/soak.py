"""Hours in minutes: ``make soak MINUTES=5``, and a short one in the tests.

Here belongs the load (hundreds of connections, streamed and whole, judged and not, answered from the cache, cancelled),
the trouble (faults of every kind, reloads, model servers that are killed and come back) and what is measured of the
program meanwhile: memory, files, and that all is given back in the end.  What an answer must be is `storm`'s.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from tests.app.stand import merged
from tests.faults.program import Program, program
from tests.faults.storm import CHANGES, JUDGED, Model, Seen, judge
from tests.faults.wire import asking, request

DOCS = Path(__file__).parents[2] / "docs"
WARM = 0.5
"""The part of the time after which memory is expected to grow no more."""
SETTINGS: dict[str, Any] = {
    "cache": {"max_size": 500, "ttl_seconds": 5},
    "timeouts": {"first_token": 5, "stall": 3, "total": 10},
    "drain": {"seconds": 5, "idle_seconds": 0.2},
    "log": {"sample": 0.0},
}


@dataclass
class Sample:
    """The program at one moment."""

    seconds: float
    calls: int
    rss: int
    files: int


@dataclass
class Soaked:
    """What came of it."""

    connections: int
    seen: Seen = field(default_factory=Seen)
    samples: list[Sample] = field(default_factory=list)
    reloads: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)
    cpu: float = 0.0
    left_files: int = 0
    """Files open at rest in the end, less those at rest in the beginning."""

    @property
    def calls(self) -> int:
        return sum(self.seen.ends.values())

    @property
    def slope(self) -> float:
        """MB of memory per 100,000 calls once it was warm, by least squares."""
        late = [one for one in self.samples if one.seconds >= WARM * self.samples[-1].seconds]
        mean_x = sum(one.calls for one in late) / len(late)
        mean_y = sum(one.rss for one in late) / len(late)
        across = sum((one.calls - mean_x) ** 2 for one in late)
        return sum((one.calls - mean_x) * (one.rss - mean_y) for one in late) / max(across, 1) * 100_000 / 1e6


class Line:
    """One connection of an app, kept between calls; made anew where it has ended."""

    def __init__(self, run: Program) -> None:
        self._run = run
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, wire: bytes) -> bytes:
        """Send one request and read one answer, however it ends."""
        for _ in range(2):
            kept = self._writer is not None
            if self._writer is None:
                host, _, port = self._run.app.rpartition(":")
                self._reader, self._writer = await asyncio.open_connection(host, int(port))
            came = b""
            try:
                self._writer.write(wire)
                async with asyncio.timeout(60):
                    came = await self._answer()
            except ConnectionError:
                pass
            if came or not kept:
                return came  # a kept connection may have been closed as we wrote: once more
            self.drop()
        return b""

    async def _answer(self) -> bytes:
        came = bytearray(await self._until(b"\r\n\r\n"))
        head = bytes(came).lower()
        if b"content-length: " in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            came += await self._reader.readexactly(length) if length else b""
        elif came:
            while line := await self._until(b"\r\n"):
                came += line
                size = int(line, 16)
                try:
                    came += await self._reader.readexactly(size + 2)
                except asyncio.IncompleteReadError as cut:
                    came += cut.partial
                    break
                if not size:
                    break
        if b"connection: close" in head or not came.endswith((b"\r\n", b"}")):
            self.drop()
        return bytes(came)

    async def _until(self, mark: bytes) -> bytes:
        try:
            return await self._reader.readuntil(mark)
        except asyncio.IncompleteReadError as end:
            self.drop()
            return end.partial

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None


async def caller(run: Program, dice: Random, soaked: Soaked, until: float) -> None:
    """One app: asks, reads, thinks, and leaves now and then."""
    line = Line(run)
    while time.monotonic() < until:
        text = f"<{dice.randrange(1 << 48):012x}>" if dice.random() < 0.7 else f"<{dice.randrange(50):012x}>"
        stream, judged = dice.random() < 0.5, dice.random() < 0.2
        body = asking(text, stream=stream, **({"response_format": JUDGED} if judged else {}))
        body["model"] = dice.choice(("creative", "balanced", "fast", "llama", "qwen"))
        wire = request(body, close=False)
        if dice.random() < 0.03:
            leaver = Line(run)
            leaving = asyncio.ensure_future(leaver.ask(wire))
            await asyncio.sleep(dice.random() * 0.05)
            leaver.drop()
            leaving.cancel()
            await asyncio.wait([leaving])
            soaked.seen.count("left")
            continue
        try:
            came = await line.ask(wire)
            soaked.seen.count(judge(came, text, stream=stream, judged=judged))
        except (AssertionError, ValueError, KeyError, TimeoutError) as wrong:
            soaked.wrong.append(repr(wrong)[:3000])
            line.drop()
        await asyncio.sleep(dice.random() * 0.2)
    line.drop()


async def trouble(run: Program, dice: Random, soaked: Soaked, until: float) -> None:
    """Reloads, and model servers that are killed and come back."""
    models = list(run.models.values())
    while time.monotonic() < until:
        await asyncio.sleep(2.0)
        run.write(merged(merged(CHANGES, SETTINGS), {"cache": {"ttl_seconds": dice.choice((4, 5, 6))}}))
        run.signal(signal.SIGHUP)
        soaked.reloads += 1
        await asyncio.sleep(2.0)
        model = dice.choice(models)
        model.raw.down()
        for task in list(model.raw.tasks):
            task.cancel()
        soaked.kills += 1
        await asyncio.sleep(0.5)
        server = await asyncio.start_server(model.raw.play, "127.0.0.1", model.raw.port)
        model.raw.down = server.close


async def soak(minutes: float, connections: int, *, wrong: float = 0.05, seed: int = 1) -> Soaked:
    """Run it; what came of it."""
    dice = Random(seed)
    soaked = Soaked(connections)
    with tempfile.TemporaryDirectory() as folder:
        async with program(Path(folder), merged(CHANGES, SETTINGS)) as run:
            for model in run.models.values():
                model.play = Model(Random(dice.random()), wrong)
            rest = await at_rest(run)
            began = time.monotonic()
            until = began + minutes * 60
            work = [caller(run, Random(dice.random()), soaked, until) for _ in range(connections)]
            tasks = [asyncio.ensure_future(one) for one in (*work, trouble(run, dice, soaked, until))]
            while any(not task.done() for task in tasks):
                soaked.samples.append(Sample(time.monotonic() - began, soaked.calls, run.rss(), run.files()))
                assert run.process.returncode is None, run.output.read_text()[-2000:]
                for model in run.models.values():
                    model.calls.clear()
                await asyncio.sleep(1.0)
            await asyncio.gather(*tasks)
            soaked.cpu = run.cpu()
            soaked.left_files = await at_rest(run) - rest
            mistakes = [line for line in run.log() if line["level"] == "error" and "mistake" in line["msg"]]
            soaked.wrong += [json.dumps(line)[:600] for line in mistakes]
            assert await run.stop() == 0
            for model in run.models.values():
                model.raw.down()
    return soaked


async def at_rest(run: Program) -> int:
    """Files open once nothing is under way, without the connections that are kept for reuse."""
    deadline = time.monotonic() + 60
    while True:
        lines = dict(
            line.rsplit(" ", 1) for line in (await run.get("/metrics")).body.decode().splitlines() if line[:1] != "#"
        )
        busy = float(lines["guardproxy_in_flight_requests"])
        pools = {
            name: float(value) for name, value in lines.items() if name.startswith("guardproxy_upstream_connections")
        }
        kept = sum(value for name, value in pools.items() if 'state="idle"' in name)
        used = sum(value for name, value in pools.items() if 'state="open"' in name) - kept
        if not busy and not used:
            return run.files() - int(kept)
        assert time.monotonic() < deadline, (busy, pools)
        await asyncio.sleep(0.2)


def main(minutes: float) -> int:
    """Run it, and write down what came of it."""
    from tests.faults import resting  # noqa: PLC0415 -- as below
    from tests.faults.soak_page import picture, words  # noqa: PLC0415 -- only where it is written down

    soaked = uvloop.run(soak(minutes, 500))
    (DOCS / "soak.svg").write_text(picture(soaked))
    text = words(soaked, minutes) + resting.words()
    (DOCS / "soak.md").write_text(text)
    sys.stdout.write(text)
    for wrong in soaked.wrong[:5]:
        sys.stderr.write(wrong + "\n")
    return 1 if soaked.wrong or soaked.left_files > 3 else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
