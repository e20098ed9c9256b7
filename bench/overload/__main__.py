"""`python -m bench.overload`: the flood, what it leaves of the service, and what a refusal costs.

Here belongs the order of the measurement, and how it is written into docs/load.md.  ``--quick`` takes a third of the
time and writes nothing.

What a refusal costs is told as a part of what an answer costs: the two are measured in turn, many times over, each as
fast as it goes, and the middle of the ratios is taken, since what troubles the machine troubles both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from typing import Any, final

from bench import table
from bench.__main__ import machine
from bench.lab import ROOT
from bench.overload.place import CAPACITY, MILLISECONDS, QUEUE, SLOTS, SOUGHT, Place

DOCUMENT = ROOT / "docs/load.md"
TIMES = 10
"""How much more comes than the model server bears."""
KNOWN, BATCH = 100, 160
"""Calls a second whose answer is kept, and of batch work."""
CALM = 0.5
"""Of the capacity: what goes on coming behind the flood."""
GOOD = 4.0
"""Times what an answer takes: one that is back by then is well."""
MANY = 64
"""Callers who ask again and again: some wait, the others are refused."""


@final
@dataclass(frozen=True, slots=True)
class Found:
    """All of it."""

    peak: float
    """Answers a second, with as many callers as there are slots."""
    flood: dict[str, Any]
    known: dict[str, Any]
    batch: dict[str, Any]
    calm: dict[str, Any]
    seconds: float
    lines: float
    """Of the log, a second."""
    miss: float
    refusal: float
    """Seconds of the processor."""
    ratios: list[float]
    sought: dict[str, Any]
    """The flood where nobody has said what the model server bears."""


def cost(place: Place, rounds: int, seconds: float) -> list[tuple[float, float, float]]:
    """Refusal by answer, answer, refusal: seconds of the processor; cheapest ratio first."""
    found = []
    for _ in range(rounds):
        place.took(0)
        well, turned, cpu = place.again(SLOTS, seconds)
        if turned:
            raise RuntimeError("calls were refused that should not be")
        miss = cpu / well
        place.took(MILLISECONDS)
        well, turned, cpu = place.again(MANY, seconds)
        refusal = (cpu - miss * well) / turned
        found.append((refusal / miss, miss, refusal))
    return sorted(found)


def measure(rounds: int, seconds: float) -> Found:
    """The flood, then the price."""
    with Place() as place:
        place.come({"name": "known", "rate": 10, "since": 0, "until": 0.5})
        answered, _, _ = place.again(SLOTS, seconds)
        before = place.written
        flood, batch, known, calm = place.come(
            {"name": "flood", "rate": TIMES * CAPACITY, "since": 0, "until": seconds},
            {"name": "batch", "rate": BATCH, "since": 0, "until": seconds},
            {"name": "known", "rate": KNOWN, "since": 0, "until": seconds},
            {
                "name": "calm",
                "rate": CALM * CAPACITY,
                "since": seconds,
                "until": seconds + 2,
                "good": GOOD * MILLISECONDS,
            },
        )
        calls = flood["well"] + batch["well"] + known["well"] + calm["well"]  # each has a line, as it always has
        lines = (place.written - before - calls) / seconds
        prices = cost(place, rounds, 1.0)
    with Place(SOUGHT) as place:
        place.come({"name": "calm", "rate": CALM * CAPACITY, "since": 0, "until": 5})
        (sought,) = place.come({"name": "flood", "rate": TIMES * CAPACITY, "since": 0, "until": seconds})
    ratios = [ratio for ratio, _, _ in prices]
    miss, refusal = (statistics.median(price[n] for price in prices) for n in (1, 2))
    return Found(answered / seconds, flood, known, batch, calm, seconds, lines, miss, refusal, ratios, sought)


def at(times: list[float], part: float) -> str:
    """What that part of *times* took at most."""
    return f"{times[min(len(times) - 1, int(len(times) * part))]:.0f} ms" if times else "–"


def words(it: Found) -> str:
    """The figures, for people."""
    goodput = (it.flood["well"] + it.batch["well"]) / it.seconds
    refused = (it.flood["refused"] + it.batch["refused"]) / it.seconds
    odd = sum(kind["else"] for kind in (it.flood, it.batch, it.known, it.calm))
    took, middle = it.flood["took"], statistics.median(it.ratios)
    return f"""{machine()}
| | |
|---|---|
| the model server bears | {CAPACITY:.0f} calls a second ({SLOTS} at once, {MILLISECONDS} ms each); before it stand {QUEUE} in line |
| peak, {SLOTS} callers in turn | {it.peak:.0f} answers a second |
| offered | {TIMES * CAPACITY:.0f} calls a second, {BATCH} of batch work, {KNOWN} whose answer is kept |
| answered meanwhile, kept ones aside | {goodput:.0f} a second, {goodput / it.peak:.0%} of the peak |
| … how late | p50 {at(took, 0.5)}, p99 {at(took, 0.99)}, worst {at(took, 1)} |
| … of batch work | {it.batch["well"]} of {it.batch["due"]} |
| where nobody has said what it bears, and the limit is sought | {it.sought["well"] / it.seconds:.0f} a second, {it.sought["well"] / it.seconds / it.peak:.0%} of the peak; p50 {at(it.sought["took"], 0.5)}, p99 {at(it.sought["took"], 0.99)} |
| kept answers | {it.known["well"]} of {it.known["due"]}; p99 {at(it.known["took"], 0.99)} |
| refused with 503 `overloaded` | {refused:.0f} a second; p50 {at(it.flood["turned"], 0.5)}, p99 {at(it.flood["turned"], 0.99)} |
| anything else | {odd} |
| lines in the log for those refused | {it.lines:.0f} a second |
| the flood ends, {CALM * CAPACITY:.0f} a second go on coming | all well (within {GOOD * MILLISECONDS:.0f} ms) after {it.calm["ill"]:.2f} s |
| processor time of a refusal | {it.refusal * 1e6:.0f} µs, {middle:.2f} of an answered call ({it.miss * 1e6:.0f} µs); {len(it.ratios)} rounds: {it.ratios[0]:.2f} to {it.ratios[-1]:.2f} |
"""  # noqa: E501 -- a table


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description="ten times more than a model bears")
    parser.add_argument("--quick", action="store_true", help="a third of the time; writes nothing")
    given = parser.parse_args()
    text = words(measure(5, 3.0) if given.quick else measure(15, 10.0))
    print(text)
    if not given.quick:
        DOCUMENT.write_text(table.replaced(DOCUMENT.read_text(), "overload", text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
