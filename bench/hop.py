"""The hop, system by system: whole answers as fast as they come, streams at a pace, and what is added at rest.

Here belongs the choice of what is compared with what.  The systems are asked in turn, in several rounds, so that what
troubles the machine troubles all of them; the medians are compared.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from bench import workload
from bench.lab import CONNECTIONS, Row, median
from bench.systems import SYSTEMS

if TYPE_CHECKING:
    from bench.lab import Lab, Subject

KINDS: dict[str, dict[str, Any]] = {"miss": {}, "hit": {"unique": False}, "schema miss": {"schema": True}}
"""What guardproxy is asked; the others know no difference and get the first."""
STREAMS, PACE = 100, 50
"""Streams at once, and ms between two events of each: 2,000 events a second."""
LASTING = frozenset(("litellm", "portkey", "sglang-router"))
"""Started once: they take too long, or have to find their model server first."""
SLOW = frozenset(("litellm", "portkey", "naive aiohttp"))
"""Not worth every round of the stream's load."""


@final
@dataclass(slots=True)
class Hop:
    """Everything that was found."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    """By system and kind, ``stream`` among them."""
    spread: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """µs of CPU in the best round and in the worst."""
    ready: dict[str, float] = field(default_factory=dict)
    """Seconds from start to the first answer."""
    idle: dict[str, int] = field(default_factory=dict)
    """Bytes resident before any load."""
    rest: dict[str, tuple[float, float]] = field(default_factory=dict)
    """ms: p50 and p99 of a call at 200 a second."""
    absent: dict[str, str] = field(default_factory=dict)


def run(lab: Lab, *, rounds: int, seconds: float, only: frozenset[str]) -> Hop:
    """Start what there is and measure it all."""
    hop = Hop()
    names = [name for name in SYSTEMS if not only or name in only]
    found: dict[tuple[str, str], list[Row]] = {}
    for number in range(rounds):
        for name in ("direct", *names):
            lab.say(f"whole answers, round {number + 1} of {rounds}: {name}")
            subject = _renewed(lab, hop, name)
            if name != "direct" and subject is None:
                continue
            for kind, particulars in _kinds(subject).items():
                lab.load(subject, 1, **particulars)
                found.setdefault((name, kind), []).append(lab.load(subject, seconds, **particulars))
    hop.rows |= {key: median(rows) for key, rows in found.items()}
    hop.spread = {key: (min(row.cpu for row in rows), max(row.cpu for row in rows)) for key, rows in found.items()}
    hop.absent = {**dict.fromkeys(SYSTEMS.keys() - names, "not asked for"), **lab.absent}
    subjects = [None, *lab.subjects.values()]
    _stream(lab, hop, subjects, rounds, seconds)
    _rest(lab, hop, subjects, rounds, seconds)
    for subject in subjects:
        if subject is not None:
            lab.stop(subject)
    return hop


def _renewed(lab: Lab, hop: Hop, name: str) -> Subject | None:
    """A fresh process of system *name*, where that is quickly had: where its memory lies makes a difference too."""
    old = lab.subjects.get(name)
    if name == "direct" or name in lab.absent or (old is not None and name in LASTING):
        return old
    if old is not None:
        lab.stop(old)
    subject = lab.start(name)
    if subject is not None:
        hop.ready[name], hop.idle[name] = subject.ready, subject.idle
    return subject


def starts(lab: Lab, times: int) -> tuple[float, int]:
    """Seconds from start to ready, and bytes resident at rest: the middle of several starts of guardproxy."""
    ready, idle = [], []
    for number in range(times):
        lab.say(f"start {number + 1} of {times}")
        subject = lab.start("guardproxy")
        assert subject is not None, lab.absent
        ready.append(subject.ready)
        idle.append(subject.idle)
        lab.stop(subject)
    return statistics.median(ready), int(statistics.median(idle))


def _name(subject: Subject | None) -> str:
    return "direct" if subject is None else subject.name


def _kinds(subject: Subject | None) -> dict[str, dict[str, Any]]:
    return KINDS if subject is not None and subject.name == "guardproxy" else {"miss": {}}


def _stream(lab: Lab, hop: Hop, subjects: list[Subject | None], rounds: int, seconds: float) -> None:
    found: dict[tuple[str, str], list[Row]] = {}
    for number in range(rounds):
        for subject in subjects:
            name = _name(subject)
            if name in SLOW and number:
                continue
            lab.say(f"streams, round {number + 1} of {rounds}: {name}")
            streams = STREAMS // 10 if name == "litellm" else STREAMS
            one, _ = lab.streams(subject, streams, PACE, seconds)
            if one.rate > streams * 1000 / PACE / 2:  # else it does not stream, or loses most of it
                found.setdefault((name, "stream"), []).append(one)
    hop.rows |= {key: median(rows) for key, rows in found.items()}


def _rest(lab: Lab, hop: Hop, subjects: list[Subject | None], rounds: int, seconds: float) -> None:
    found: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds):
        for subject in subjects:
            name = _name(subject)
            if name == "litellm":
                continue  # it cannot
            lab.say(f"200 requests a second, round {number + 1} of {rounds}: {name}")
            port, headers = (lab.upstream, {}) if subject is None else (subject.port, subject.plan.headers)
            text = workload.request(port, workload.body(), headers)
            told = lab.client("paced", port, text, rate=200, seconds=seconds, connections=CONNECTIONS)
            found.setdefault(name, []).append((told["p50"], told["p99"]))
    for name, pairs in found.items():
        hop.rest[name] = (statistics.median(p50 for p50, _ in pairs), statistics.median(p99 for _, p99 in pairs))
