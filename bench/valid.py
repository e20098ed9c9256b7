"""What a valid answer costs: `python -m bench.valid` measures it and writes it into docs/json-guard.md.

Here belong the questions, the figures and the table.  Those who ask are `askers`, the model that errs is `erring`'s.

Tokens *wasted* are those beyond one right answer for each question.  Nobody waits before he asks again: waits would
make all of them slower by the same, and the one who asks again least often would look better for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, final
from urllib.request import Request, urlopen

from bench import erring, peers, plot, table
from bench.askers import RETRIES, at_the_end, through_proxy

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.askers import Asker

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs/json-guard.md"
PICTURE: Final = ROOT / "docs/valid-answers.svg"
AT_ONCE: Final = 40
"""Questions that are open at once."""
OURS, NAIVE = "guardproxy", "the app asks again at the end"
_SETTINGS = {
    OURS: {},
    "guardproxy, `early_abort: false`": {"early_abort": False},
    "guardproxy, `repair: false`": {"repair": False},
    "guardproxy, both off": {"early_abort": False, "repair": False},
}


Taken: TypeAlias = tuple[int, list[float]]
"""How many answers were valid in the end, and the seconds that each took."""


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What one of them came to."""

    valid: int
    tokens: float
    """Generated for each valid answer."""
    wasted: float
    """Of these, beyond one right answer."""
    p50: float
    """Seconds."""
    p95: float


async def measure(asker: Asker, questions: int) -> Taken:
    """Put all questions, `AT_ONCE` at a time."""
    gate, times = asyncio.Semaphore(AT_ONCE), list[float]()

    async def one(question: int) -> bool:
        async with gate:
            begun = time.perf_counter()
            valid = bool(await ask(question))
            times.append(time.perf_counter() - begun)
            return valid

    async with asker as ask:
        return sum(await asyncio.gather(*map(one, range(questions)))), times


def instructor(python: Path, model: str, questions: int) -> Taken:
    """The same by a Python of its own."""
    command = [str(python), str(ROOT / "bench/by_instructor.py"), model, *map(str, (questions, AT_ONCE, RETRIES))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    return said["valid"], said["times"]


def row(taken: Taken, generated: int, questions: int) -> Row:
    """The figures of one who asked."""
    valid, times = taken
    floor = sum(len(erring.tokens(erring.right(question))) for question in range(questions))
    times.sort()
    middle, late = times[len(times) // 2], times[int(len(times) * 0.95)]
    return Row(valid, generated / valid, (generated - floor) / valid, middle, late)


def rows_of(found: dict[str, Row], questions: int) -> str:
    """The table, each with its share of what the app's own loop costs."""
    naive = found[NAIVE]
    lines = [
        "| who asks | valid | tokens per answer | wasted | of the loop's | p50 s | p95 s | of the loop's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        shown = f"**{name}**" if name == OURS else name
        wasted, late = one.wasted / naive.wasted, one.p95 / naive.p95
        lines.append(
            f"| {shown} | {one.valid} of {questions} | {one.tokens:.0f} | {one.wasted:.1f} | {wasted:.2f} "
            f"| {one.p50:.2f} | {one.p95:.2f} | {late:.2f} |"
        )
    return "\n".join([*lines, ""])


def run(model: str, questions: int, folder: Path) -> tuple[dict[str, Row], list[str]]:
    """Measure everybody; and the names of those that are not installed."""
    askers: dict[str, Callable[[], Taken]] = {
        name: partial(lambda guard: asyncio.run(measure(through_proxy(model, **guard), questions)), guard)
        for name, guard in _SETTINGS.items()
    }
    askers[NAIVE] = lambda: asyncio.run(measure(at_the_end(model), questions))
    python = peers.find(folder, "instructor")
    if python is not None:
        askers["the app uses instructor"] = lambda: instructor(python, model, questions)
    found: dict[str, Row] = {}
    for name, ask in askers.items():
        print(name, file=sys.stderr, flush=True)
        _reset(model)
        taken = ask()
        found[name] = row(taken, _reset(model), questions)
    return found, [] if python is not None else ["instructor"]


def _reset(model: str) -> int:
    """How many tokens were generated since the last time."""
    with urlopen(Request(f"{model}/reset", method="POST")) as response:  # noqa: S310 -- our own model, on loopback
        return int(json.load(response)["generated"])


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.valid", description="what a valid answer costs")
    parser.add_argument("--questions", type=int, default=400, help="how many (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as they are")
    parser.add_argument(
        "--peers", type=Path, default=ROOT / peers.FOLDER, help="where `python -m bench.peers` put others"
    )
    given = parser.parse_args()
    command = [sys.executable, "-m", "bench.erring"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        model = f"http://127.0.0.1:{int(process.stdout.readline())}"
        try:
            found, absent = run(model, given.questions, given.peers)
        finally:
            process.terminate()
    text = rows_of(found, given.questions)
    text += "".join(f"\nNot measured, since it is not installed: {name}.\n" for name in absent)
    print(text)
    if not given.no_write:
        DOCUMENT.write_text(table.replaced(DOCUMENT.read_text(), "valid", text))
        figures = [(name.replace("`", ""), row.wasted, name == OURS) for name, row in found.items()]
        PICTURE.write_text(plot.bars("What a valid answer wastes", "tokens beyond one right answer", figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
