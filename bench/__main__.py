"""`python -m bench`: measure everything, print it, and write it into the documents.

Here belong the arguments and the order of the parts.  A full run takes less than ten minutes, ``--quick`` less than
ninety seconds (too short for figures that are shown to anybody).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from bench import growth, hop, peers, plot, table, verdict
from bench.lab import ROOT, Lab
from bench.systems import SYSTEMS

DOCUMENT = ROOT / "docs/performance.md"
PICTURE = ROOT / "docs/performance.svg"
QUICK = frozenset(SYSTEMS) - {"litellm", "portkey"}
"""What a quick run looks at: those two take longer to start than the rest of it."""


def machine() -> str:
    """What this was measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    when = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"{when}; {model}, {os.cpu_count()} cores, {memory} GB; Linux {platform.release().split('-')[0]}; "
        f"CPython {platform.python_version()}; load average at the end {load} (the benchmark itself makes 2).\n"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def inside(core: int) -> dict[str, dict[str, dict[str, float]]]:
    """Run `bench.inside` on the core of what is measured."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "bench.inside"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told: dict[str, dict[str, dict[str, float]]] = json.loads(done.stdout)
    return told


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="what the hop costs on this machine")
    parser.add_argument("--quick", action="store_true", help="a minute instead of ten; writes nothing")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / peers.FOLDER, help="where `python -m bench.peers` put the others"
    )
    parser.add_argument("--only", default="", help="systems, separated by commas")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as they are")
    given = parser.parse_args()
    begun = time.perf_counter()

    def say(what: str) -> None:
        print(f"{time.perf_counter() - begun:6.1f} s  {what}", file=sys.stderr, flush=True)

    only = frozenset(filter(None, given.only.split(","))) or (QUICK if given.quick else frozenset())
    with Lab(given.peers, say) as lab:
        rounds, seconds = (1, 1.0) if given.quick else (5, 3.0)
        start = hop.starts(lab, 2 if given.quick else 7)
        found = hop.run(lab, rounds=rounds, seconds=seconds, only=only)
        grown = growth.run(lab, seconds=seconds / 2, quick=given.quick)
        say("guardproxy's own code")
        own = inside(lab.core)
    calls, stages = own["calls"], own["stages"]
    aims = verdict.aims(found, grown, start, calls["miss"])  # type: ignore[arg-type] # figures out of JSON
    parts = {
        "machine": machine(),
        "hop": table.hop_table(found),
        "rest": table.rest_table(found),
        "reach": verdict.verdicts(aims),
        "growth": table.growth_tables(grown),
    }
    others = {"miss": "miss", "hit": "hit", "event": "stream"}
    for name, kind in others.items():
        parts[name] = table.stage_table(stages[name], found.rows["guardproxy", kind])
    print("\n".join(f"## {name}\n\n{text}" for name, text in parts.items()))
    if not given.quick and not given.no_write and not only:
        document = DOCUMENT.read_text()
        for name, text in parts.items():
            document = table.replaced(document, name, text)
        DOCUMENT.write_text(document)
        PICTURE.write_text(picture(found))
    say("done")
    return 0


def picture(found: hop.Hop) -> str:
    """The table's first column, drawn."""
    figures = [
        (f"{name}, {kind}" if name == "guardproxy" else name, one.cpu, name == "guardproxy")
        for (name, kind), one in sorted(found.rows.items(), key=lambda item: item[1].cpu)
        if kind != "stream" and name != "direct"
    ]
    return plot.bars("What the hop costs on one core", "CPU µs per request", figures)


if __name__ == "__main__":
    sys.exit(main())
