"""What the cache costs and saves, `python -m bench.cached`; it writes its tables into docs/cache.md with ``--write``.

Here belongs the timing of lookups, keys, sweeps and flights, and the weighing of what is kept.  Which policy keeps
what, is `policies`'; what a hit costs on the wire is `hop`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from bench import policies
from bench.inside import Inside
from guardproxy.core.lru import Lru
from guardproxy.core.units import Bytes
from guardproxy.core.values import Call, Record, Reply, Target
from guardproxy.guards.cache import Cache, Settings
from guardproxy.openai.identity import Identity
from tests.app.stand import Stand, asking, request

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/cache.md"
CALLERS = 1000
PATIENT = {
    "timeouts": {"connect": 10, "first_token": 20, "stall": 20, "total": 60},
    "limits": {"connections": 4096, "connections_per_client": 4096},
}
"""What the storm of identical calls is made against."""


def best(what: Callable[[], object], times: int, rounds: int = 30) -> float:
    """Microseconds of one, by the best of many short rounds: the machine's noise only ever adds."""
    gc.disable()
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(times):
            what()
        took.append((time.perf_counter() - begun) / times)
    gc.enable()
    return min(took) * 1e6


def lookups() -> list[tuple[str, str]]:
    """A fresh entry found among 10² to 10⁶, with and without what is around it."""
    rows = []
    inside = Inside(uvloop.new_event_loop())
    body = inside.bodies(1)[0]
    inside.miss(body)
    call = inside.read(body, inside.loop.time())
    cache = inside.house.cache
    assert cache is not None
    now = inside.loop.time()

    def admit() -> None:
        assert type(cache.admit(call, Record(now), now)) is Reply

    target = call.targets[0] if call.targets else inside.house.modes.admit(call, Record(now), now).targets[0]  # type: ignore[union-attr] # no guard before it refuses this call
    call.targets = (target,)
    cache.key.remember(cache.key(call, target))
    rows.append(("key of a body that has been of use, 171 B", f"{best(lambda: cache.key(call, target), 2000):.2f} µs"))
    fresh = [inside.read(inside.bodies(1)[0], inside.loop.time()) for _ in range(2000)]
    one = iter(fresh * 40)
    rows.append(("key of a body that is new, 171 B", f"{best(lambda: cache.key(next(one), target), 50):.2f} µs"))
    rows.append(("whole of `admit` for a hit: directives, key, lookup, reply", f"{best(admit, 2000):.2f} µs"))
    for power in range(2, 7):
        lru: Lru[int] = Lru(1 << 30, 1 << 60, 600.0)
        keys = [number.to_bytes(32, "big") for number in range(10**power)]
        for key in keys:
            lru.put(key, 0, 1000, 0.0)
        some = iter(keys[:: max(1, 10**power // 60_000)] * 10_000)
        rows.append((f"lookup among 10^{power}", f"{best(lambda: lru.get(next(some), 1.0), 1000):.2f} µs"))  # noqa: B023 -- used up within the round
        if power == 6:
            rows += _sweep(lru)
    return rows


def _sweep(lru: Lru[int]) -> list[tuple[str, str]]:
    pauses, done = [], False
    gc.disable()
    while not done:
        begun = time.thread_time()  # others on this machine are not to blame
        done = lru.sweep(1e6)
        pauses.append(time.thread_time() - begun)
    gc.enable()
    pauses.sort()
    return [
        ("sweep of 10^6 expired entries: slices of 200, median", f"{statistics.median(pauses) * 1e3:.2f} ms"),
        ("… the 99th percentile", f"{pauses[int(len(pauses) * 0.99)] * 1e3:.2f} ms"),
    ]


def hashing() -> list[tuple[str, str]]:
    """Keys of large bodies: a new one is encoded anew and hashed, every time."""
    rows = []
    inside = Inside(uvloop.new_event_loop())
    vary = Settings().vary
    text = "a brief for a summer perfume, " * 30
    for size in (4_000, 64_000, 1_000_000, 8_000_000):
        turns = [{"role": "user", "content": text} for _ in range(max(1, size // 900))]
        doc = {"model": "llama", "messages": turns, "temperature": 0.7}
        for how, body in (
            ("", json.dumps(doc, separators=(",", ":"))),
            (", with blanks", json.dumps(doc)),
            (", spelled unlike ours", json.dumps(doc).replace("0.7", "0.70")),
        ):
            call = inside.read(body.encode(), 0.0)
            target = Target("llama", "llama-id", "creative")

            def forgetting(call: Call = call, target: Target = target) -> bytes:
                return Identity(vary, {})(call, target)

            took = best(forgetting, max(1, 200_000 // size), 20)
            rows.append((f"key of a new body of {len(body) / 1000:,.0f} kB{how}", f"{len(body) / took:,.0f} MB/s"))
    return rows


def weight() -> list[tuple[str, str]]:
    """What entries are said to weigh against what the process grows by; each size in a process of its own."""
    rows = []
    for size in (200, 2_000, 20_000):
        many = min(100_000, 150_000_000 // (size + 700))
        command = [sys.executable, "-m", "bench.cached", "--weigh", str(size), str(many)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        said, grown = json.loads(done.stdout)
        told_ = f"{said / 1e6:.1f} MB said, {grown / 1e6:.1f} MB grown: {said / grown:.2f}"
        rows.append((f"{many:,} answers of {size:,} B", told_))
    return rows


def weigh(size: int, many: int) -> tuple[int, int]:
    """Keep so many answers of this size; what they are said to weigh, and how much the process has grown."""
    cache = Cache(Settings(max_size=1 << 30, max_bytes=Bytes(1 << 40)))
    inside = Inside(uvloop.new_event_loop())
    target = Target("llama", "llama-id", "creative")
    call = inside.read(inside.bodies(1)[0], 1.0)
    call.targets = (target,)
    headers = [(b"Content-Type", b"application/json"), (b"X-Model", b"some")]
    record = Record(1.0, target=target)

    def keep(number: int) -> None:
        call.key = number.to_bytes(32, "little")
        record.cache = ""
        reply = Reply(200, b"%08d" % number + os.urandom(size - 8), list(headers), keepable=True)
        cache.settle(call, reply, record, 1.0)

    for number in range(100):
        keep(number)
    gc.collect()
    before, said = _resident(), cache.entries.bytes
    for number in range(100, many + 100):
        keep(number)
    gc.collect()
    return cache.entries.bytes - said, _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def _storm() -> list[tuple[str, str]]:
    async with Stand(PATIENT) as stand:
        stand.sims["llama"].faults = "latency=3"
        host, _, port = stand.app.removeprefix("http://").partition(":")
        command = [sys.executable, "-m", "bench.cached", "--callers", host, port]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        found = json.loads(out)
        asked = stand.asked("llama")
    times = sorted(found["times"])
    leader = times[0]
    return [
        (f"{CALLERS:,} callers at once: upstream calls", str(asked)),
        ("… answered 200", f"{found['answered']:,}"),
        ("… the same bytes", "yes" if found["alike"] else "no"),
        ("… behind the first answer: median", f"{(statistics.median(times) - leader) * 1e3:.0f} ms"),
        ("… the 99th percentile", f"{(times[int(len(times) * 0.99)] - leader) * 1e3:.0f} ms"),
    ]


async def _callers(host: str, port: int) -> dict[str, Any]:
    """A thousand callers on connections that are open already, all asking at the same moment."""
    sent = request(asking("the same rose")).replace(b"Connection: close\r\n", b"")
    lines = [await asyncio.open_connection(host, port) for _ in range(CALLERS)]
    bodies = set()
    times, answered = [], 0

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
        body = await reader.readexactly(int(length))
        times.append(time.monotonic())
        answered += head.startswith(b"HTTP/1.1 200")
        bodies.add(body)

    await asyncio.gather(*(one(*line) for line in lines))
    for _, writer in lines:
        writer.close()
    return {"times": times, "answered": answered, "alike": len(bodies) == 1}


def alone() -> list[tuple[str, str]]:
    """What a flight costs a miss that nobody joins."""
    inside = Inside(uvloop.new_event_loop())
    flights = inside.house.rules.flights
    call = inside.read(inside.bodies(1)[0], 1.0)
    call.key = b"k" * 32
    record = Record(1.0)

    def fly() -> None:
        if flights.find(call.key) is None:
            flights.lead(call.key, record).end(None)

    return [("a flight that nobody joins: found, led, ended", f"{best(fly, 5000):.2f} µs")]


def told(rows: list[tuple[str, str]]) -> str:
    """A table."""
    return "\n".join(["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


def main() -> int:
    """Measure, print, and write where that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m bench.cached", description="what the cache costs and saves")
    parser.add_argument("--write", action="store_true", help="write the tables into docs/cache.md")
    parser.add_argument("--weigh", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--callers", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.weigh:
        print(json.dumps(weigh(*args.weigh)))
        return 0
    if args.callers:
        print(json.dumps(asyncio.run(_callers(args.callers[0], int(args.callers[1])))))
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        storm = runner.run(_storm())
    parts = {"cost": told([*alone(), *lookups(), *hashing()]), "flights": told(storm), "weight": told(weight())}
    rows = ["| Zipf exponent | cache / all bytes | LRU | S3-FIFO | W-TinyLFU |", "|---|---|---:|---:|---:|"]
    rows += [f"| {e} | {share:.0%} | {lru:.1%} | {s3:.1%} | {w:.1%} |" for e, share, lru, s3, w in policies.table()]
    parts["policies"] = "\n".join(rows)
    text = DOCUMENT.read_text()
    for name, table in parts.items():
        print(f"\n{name}\n{table}")
        begin, end = f"<!-- bench: {name} -->\n", "\n<!-- /bench -->"
        if args.write:
            head, _, rest = text.partition(begin)
            text = head + begin + table + end + rest.partition(end)[2]
    if args.write:
        DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
