"""How the costs grow: with the size of bodies, the number of streams, the number of kept answers.

Here belong the series in which one thing grows and all else stays.  What systems cost beside each other is `hop`'s.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, final

from bench import workload
from bench.lab import Row, row
from bench.process import usage
from guardproxy.core.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.lab import Lab, Subject

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
STREAMS = (1, 10, 100, 500, 1000, 2000)
PACE = 50
"""ms between two events of a stream: 20 a second."""
ENTRIES = (100, 1_000, 10_000, 100_000, 1_000_000)
IDLE = 1000
"""Streams that are open and silent while memory is read."""
CALLERS = 4
"""Callers at once where bodies are large."""


@final
@dataclass(slots=True)
class Growth:
    """The series; each maps what grows to what it costs."""

    relayed: dict[tuple[str, int], Row] = field(default_factory=dict)
    """By system and bytes of the answer: answers that nobody reads along with."""
    prompts: dict[int, Row] = field(default_factory=dict)
    """By bytes of the request: guarded calls."""
    streams: dict[int, Row] = field(default_factory=dict)
    """By streams at once: one event. Where fewer come than 20 a second of each, the core is full."""
    lookups: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By entries: µs of a lookup that finds, and of storing one more."""
    idle_stream: float = 0.0
    """Bytes resident per open, silent stream."""


def run(lab: Lab, *, seconds: float, quick: bool) -> Growth:
    """Measure every series on guardproxy, and relaying on nginx beside it."""
    growth = Growth()
    subjects = [lab.start(name) for name in ("guardproxy", "nginx")]
    proxy = subjects[0]
    assert proxy is not None, lab.absent
    for size in SIZES[::2] if quick else SIZES:
        for subject in (None, *(one for one in subjects if one is not None)):
            name = "direct" if subject is None else subject.name
            lab.say(f"relaying answers of {size:,} bytes: {name}")
            growth.relayed[name, size] = _relay(lab, subject, size, seconds)
        lab.say(f"guarded prompts of {size:,} bytes")
        growth.prompts[size] = _prompt(lab, proxy, size, seconds)
    for subject in subjects:
        if subject is not None:
            lab.stop(subject)
    proxy = lab.start("guardproxy")
    assert proxy is not None, lab.absent
    lab.streams(proxy, 20, PACE, 0.5)
    idle = 200 if quick else IDLE
    lab.say(f"{idle} silent streams")
    before = proxy.run.usage().rss
    growth.idle_stream = (lab.streams(proxy, idle, 5000, 1)[1] - before) / idle
    for number in (1, 100, 1000) if quick else STREAMS:
        lab.say(f"{number} streams of {1000 // PACE} events a second")
        growth.streams[number] = lab.streams(proxy, number, PACE, max(seconds, 2.0))[0]
    lab.stop(proxy)
    for number in ENTRIES[:4] if quick else ENTRIES:
        lab.say(f"{number:,} kept answers")
        growth.lookups[number] = lookup(number)
    return growth


def _relay(lab: Lab, subject: Subject | None, size: int, seconds: float) -> Row:
    port = lab.upstream if subject is None else subject.port
    prefix = "/qwen" if subject is not None and subject.name == "guardproxy" else ""
    text = f"GET {prefix}/bytes/{size} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: bench\r\n\r\n"
    return _asked(lab, subject, text, seconds)


def _prompt(lab: Lab, subject: Subject, size: int, seconds: float) -> Row:
    spare = len(workload.body())
    return _asked(
        lab, subject, workload.request(subject.port, workload.body(filling=max(0, size - spare)), {}), seconds
    )


def _asked(lab: Lab, subject: Subject | None, text: str, seconds: float) -> Row:
    port, pid = (lab.upstream, lab.model.pid) if subject is None else (subject.port, subject.run.pid)
    lab.client("closed", port, text, seconds=0.3, connections=CALLERS)
    before = usage(pid)
    told = lab.client("closed", port, text, seconds=seconds, connections=CALLERS)
    return row(before, usage(pid), told["requests"], told)


def lookup(entries: int, samples: int = 20_000) -> tuple[float, float]:
    """µs to find one of so many kept answers, and to keep one more where the oldest must go."""
    cache: Lru[bytes] = Lru(entries, 1 << 40, 600.0, 0.0)
    keys = [_key(number) for number in range(entries)]
    for key in keys:
        cache.put(key, b"answer", 1000, 0.0)
    asked = Random(1).choices(keys, k=samples)
    begun = time.perf_counter()
    for key in asked:
        cache.get(key, 1.0)
    found = time.perf_counter() - begun
    more = [_key(entries + number) for number in range(samples)]
    begun = time.perf_counter()
    for key in more:
        cache.put(key, b"answer", 1000, 1.0)
    return found / samples * 1e6, (time.perf_counter() - begun) / samples * 1e6


def _key(number: int) -> bytes:
    return hashlib.blake2b(number.to_bytes(8), digest_size=32).digest()


def linear(rows: dict[int, Row]) -> Sequence[tuple[int, float]]:
    """Of each size the ms of CPU per MB."""
    return [(size, one.cpu / 1e3 / (size / 1e6)) for size, one in rows.items()]
