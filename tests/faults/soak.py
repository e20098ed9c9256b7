"""Hours in minutes: ``make soak MINUTES=5``, and a short one in the tests.

Here belongs the load (hundreds of connections, streamed and whole, judged and not, answered from the cache, cancelled),
and what is measured of the program meanwhile: memory, files, and that all is given back in the end.  What an answer
must be is `storm`'s, what goes wrong meanwhile is made in `trouble`.

    warm up ─► at rest: files, tasks ─► the same again, longer ─► at rest: as before? is the store used again?
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import uvloop

from tests.app.stand import merged
from tests.faults.program import Program, program
from tests.faults.storm import CHANGES, JUDGED, Model, Seen, judge
from tests.faults.trial import NEVER
from tests.faults.trouble import Shared, deaths, outages, reloads
from tests.faults.wire import asking, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

DOCS = Path(__file__).parents[2] / "docs"
WARM = 0.3
"""The part of the time after which memory is expected to grow no more."""
STEADY, STEPS = 5.0, 6.0
"""How much memory may grow once warm: MB per 100,000 calls, and MB besides, however few they are.

Memory grows in steps: an arena of Python is 1 MB, and a burst of callers touches some that none before it has.  On a
machine that others use as well, runs of half a minute to three minutes grew by 0.5 to 4 MB.  The leak that this was
made for, calls and configurations in circles of references, was 35 MB in 34,000 calls.
"""
LEFT = 3
"""Files more than before that are no leak: the store's connections, and one that is just being closed."""
SECOND = 10
"""Of so many callers one uses the other proxy."""
SETTINGS: dict[str, Any] = {
    "cache": {"max_size": 500, "ttl_seconds": 5},
    "timeouts": {"first_token": 5, "stall": 3, "total": 10},
    "drain": {"seconds": 5, "idle_seconds": 0.2},
    "log": {"sample": 0.0},
}
_TELLING = """
import asyncio, json, signal, sys
from collections import Counter
def tell(*_):
    tasks = Counter(task.get_coro().__qualname__ for task in asyncio.all_tasks())
    with open({path!r}, "a") as file:
        file.write(json.dumps(tasks) + "\\n")
signal.signal(signal.SIGUSR2, tell)
sys.argv[0] = "guardproxy"
from guardproxy.cli.main import main
sys.exit(main())
"""


@dataclass
class Sample:
    """The program at one moment."""

    seconds: float
    calls: int
    rss: int
    files: int


@dataclass
class Rest:
    """The program when nothing is under way."""

    files: int
    """Open files and sockets, without connections kept for reuse."""
    tasks: dict[str, int]
    """Tasks by what they run."""


@dataclass
class Soaked:
    """What came of it."""

    connections: int
    seen: Seen = field(default_factory=Seen)
    samples: list[Sample] = field(default_factory=list)
    troubles: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    cpu: float = 0.0
    rests: list[Rest] = field(default_factory=list)
    """Once warm, and in the end."""
    shared: float = -1.0
    """Answers found in the store that two proxies share; less than 0 where there was none."""
    unbalanced: str = ""
    """In what way the accounts do not balance."""
    unused: str = ""
    """Why the store is not used again after all that happened to it."""

    @property
    def calls(self) -> int:
        return sum(self.seen.ends.values())

    def trouble(self, kind: str) -> None:
        """Count one."""
        self.troubles[kind] = self.troubles.get(kind, 0) + 1

    @property
    def late(self) -> list[Sample]:
        """Those once it was warm."""
        return [one for one in self.samples if one.seconds >= WARM * self.samples[-1].seconds]

    @property
    def slope(self) -> float:
        """MB of memory per 100,000 calls once it was warm, by least squares."""
        late = self.late
        mean_x = sum(one.calls for one in late) / len(late)
        mean_y = sum(one.rss for one in late) / len(late)
        across = sum((one.calls - mean_x) ** 2 for one in late)
        return sum((one.calls - mean_x) * (one.rss - mean_y) for one in late) / max(across, 1) * 100_000 / 1e6

    @property
    def left_files(self) -> int:
        """Files open at rest in the end, less those at rest once warm."""
        return self.rests[-1].files - self.rests[0].files

    @property
    def left_tasks(self) -> dict[str, int]:
        """Tasks at rest in the end that were not there once warm."""
        warm, end = self.rests[0].tasks, self.rests[-1].tasks
        return {name: count - warm.get(name, 0) for name, count in end.items() if count > warm.get(name, 0)}

    def flaws(self) -> list[str]:
        """What must not be; nothing where all is well."""
        late = (self.samples[-1].calls - self.late[0].calls) / 100_000
        grown, bound = self.slope * late, STEPS + STEADY * late
        return [
            text
            for text, bad in (
                (f"{len(self.wrong)} answers were wrong, mixed or unreadable", self.wrong),
                (f"{self.left_files} files or sockets were left", self.left_files > LEFT),
                (f"tasks were left: {self.left_tasks}", self.left_tasks),
                (f"once warm memory grew by {grown:.1f} MB, {bound:.1f} may be", grown > bound),
                (self.unbalanced, self.unbalanced),
                (self.unused, self.unused),
            )
            if bad
        ]


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


async def soak(
    minutes: float, connections: int, *, wrong: float = 0.05, seed: int = 1, told: Callable[[str], None] | None = None
) -> Soaked:
    """Run it; what came of it.  *told* hears every ten seconds how far it is."""
    dice, soaked = Random(seed), Soaked(connections)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "other").mkdir()
        async with Shared() as store:
            changes = merged(merged(CHANGES, SETTINGS), store.settings)
            telling = (sys.executable, "-c", _TELLING.format(path=str(folder / "tasks")))
            async with program(folder, changes, prelude=telling) as run, beside(run, changes) as other:
                for model in run.models.values():
                    model.play = Model(Random(dice.random()), wrong)
                began = time.monotonic()
                for end in (WARM, 1.0):
                    until = began + minutes * 60 * end
                    work = [
                        caller(other if number % SECOND == SECOND - 1 else run, Random(dice.random()), soaked, until)
                        for number in range(connections)
                    ]
                    work.append(reloads(run, changes, dice, until, soaked.trouble))
                    work.append(deaths(run, dice, until, soaked.trouble))
                    if store.there:
                        work.append(outages(store, until, soaked.trouble))
                    await watched(run, soaked, work, began, told)
                    soaked.rests.append(await at_rest(run))
                soaked.cpu, deadline = run.cpu(), time.monotonic() + 60
                while (soaked.left_tasks or soaked.left_files > LEFT) and time.monotonic() < deadline:
                    soaked.rests[-1] = await at_rest(run)  # a check of a model may have been under way
                soaked.unbalanced = await unbalanced(run)
                if store.there:
                    soaked.unused = await unused(run, other)
                    soaked.shared = await run.metric("guardproxy_shared_hits_total")
                for one in (run, other):
                    mistakes = [line for line in one.log() if line["level"] == "error" and "mistake" in line["msg"]]
                    soaked.wrong += [json.dumps(line)[:600] for line in mistakes]
                    assert await one.stop() == 0
                for model in run.models.values():
                    model.raw.down()
    return soaked


@asynccontextmanager
async def beside(run: Program, changes: Mapping[str, Any]) -> AsyncIterator[Program]:
    """Another proxy in front of the same model servers, as in another pod."""
    other = Program(run.folder / "other", run.models)
    other.write(changes)
    await other.start()
    try:
        yield other
    finally:
        if other.process.returncode is None:
            other.process.kill()
            await other.process.wait()


async def watched(
    run: Program,
    soaked: Soaked,
    work: list[Coroutine[Any, Any, None]],
    began: float,
    told: Callable[[str], None] | None,
) -> None:
    """Do the *work*, and look at the program every second meanwhile."""
    tasks = [asyncio.ensure_future(one) for one in work]
    while any(not task.done() for task in tasks):
        now = Sample(time.monotonic() - began, soaked.calls, run.rss(), run.files())
        soaked.samples.append(now)
        assert run.process.returncode is None, run.output.read_text()[-2000:]
        for model in run.models.values():
            model.calls.clear()
        if told is not None and len(soaked.samples) % 10 == 1:
            told(
                f"{now.seconds:4.0f} s  {now.calls:7,} calls  {len(soaked.wrong)} wrong  {now.rss / 1e6:.1f} MB  "
                f"{now.files} files"
            )
        await asyncio.wait(tasks, timeout=1.0)
    await asyncio.gather(*tasks)


async def unused(run: Program, other: Program) -> str:
    """Why what one proxy was told does not reach the other; nothing where it does."""
    deadline = time.monotonic() + 60
    for number in range(1_000_000):
        written = await run.metric("guardproxy_shared_writes_total")
        body = asking(f"<{number:012x}> again")
        if (await run.ask(body, NEVER)).status == 200:
            await asyncio.sleep(0.2)
            seen = await other.ask(body, NEVER)
            if await run.metric("guardproxy_shared_writes_total") > written and "shared" in seen.fields["cache-status"]:
                return ""
        if time.monotonic() > deadline:
            up = [await one.metric("guardproxy_shared_store_up") for one in (run, other)]
            return f"the store that two proxies share is not used again (up: {up})"
        await asyncio.sleep(0.2)
    return ""


async def unbalanced(run: Program) -> str:
    """How many calls are not accounted for: each was a hit, a miss or passed by; nothing where all are."""
    lines = await numbers(run)
    calls = sum(
        value for name, value in lines.items() if name.startswith("guardproxy_requests_total") and '"own"' not in name
    )
    looked = sum(value for name, value in lines.items() if name.startswith("guardproxy_cache_lookups_total"))
    told = {
        name: value
        for name, value in lines.items()
        if value and name.startswith(("guardproxy_requests_total", "guardproxy_cache_lookups", "cache_"))
    }
    return "" if calls == looked else f"{calls:.0f} calls, {looked:.0f} of them hits, misses or passed by: {told}"


async def numbers(run: Program) -> dict[str, float]:
    """All metrics."""
    lines = (await run.get("/metrics")).body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


async def at_rest(run: Program) -> Rest:
    """The program once nothing is under way."""
    deadline = time.monotonic() + 60
    while True:
        lines = await numbers(run)
        busy = lines["guardproxy_in_flight_requests"]
        pools = {name: value for name, value in lines.items() if name.startswith("guardproxy_upstream_connections")}
        kept = sum(value for name, value in pools.items() if 'state="idle"' in name)
        used = sum(value for name, value in pools.items() if 'state="open"' in name) - kept
        if not busy and not used and lines["guardproxy_client_connections"] <= 1:
            break
        assert time.monotonic() < deadline, (busy, pools)
        await asyncio.sleep(0.2)
    await asyncio.sleep(2.0)  # what was begun for a model that was down has been given up
    path, before = run.folder / "tasks", 0
    if path.exists():
        before = path.stat().st_size
    run.signal(signal.SIGUSR2)
    await run.until(lambda: path.exists() and path.stat().st_size > before)
    tasks = json.loads(path.read_text().splitlines()[-1])
    return Rest(run.files() - int(kept), tasks)


def main(minutes: float) -> int:
    """Run it, and write down what came of it; CI looks, and writes nothing."""
    from tests.faults import resting  # noqa: PLC0415 -- as below
    from tests.faults.soak_page import picture, words  # noqa: PLC0415 -- only where it is written down

    soaked = uvloop.run(soak(minutes, 500, told=lambda line: print(f"soak: {line}", flush=True)))  # noqa: T201
    text = words(soaked, minutes)
    if not os.environ.get("GUARDPROXY_CI"):
        (DOCS / "soak.svg").write_text(picture(soaked))
        (DOCS / "soak.md").write_text(text + resting.words())
    sys.stdout.write(text)
    for wrong in soaked.wrong[:5]:
        sys.stderr.write(wrong + "\n")
    for flaw in soaked.flaws():
        sys.stderr.write(f"soak: {flaw}\n")
    return 1 if soaked.flaws() else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
