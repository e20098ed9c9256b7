"""`python -m bench.mutants`: what `mutmut` has found, as a table in docs/mutants.md.

Here belongs reading its results; `make mutants` makes them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

from bench import table
from bench.lab import ROOT

DOCUMENT = ROOT / "docs/mutants.md"
RESULTS = ROOT / "mutants"
SURVIVED = 0
UNCOVERED = 33
_HEAD = "| module | mutants tried | killed | survived | reached by no test | not tried yet | score |"


class Row(NamedTuple):
    """The mutants of one module."""

    name: str
    tried: int
    killed: int
    """Or that never ended."""
    survived: int
    uncovered: int
    """That no test reaches."""
    waiting: int
    """That have not been tried: the run was interrupted."""


def rows(results: Path) -> list[Row]:
    """What there is, by module."""
    found: list[Row] = []
    for path in sorted(results.glob("guardproxy/*/*.py.meta")):
        every = list(json.loads(path.read_text())["exit_code_by_key"].values())
        codes = [code for code in every if code is not None]
        if codes:
            name = str(path.relative_to(results / "guardproxy")).removesuffix(".meta")
            survived, uncovered = codes.count(SURVIVED), codes.count(UNCOVERED)
            killed = len(codes) - survived - uncovered
            found.append(Row(name, len(codes), killed, survived, uncovered, every.count(None)))
    return found


def main() -> int:
    """Print the table and write it into the page."""
    found = rows(RESULTS)
    lines = [_HEAD, "|---|---|---|---|---|---|---|"]
    total = Row("**all**", *(sum(counts) for counts in zip(*(row[1:] for row in found), strict=True)))
    for row in [*found, total]:
        share = f"{row.killed / row.tried:.1%}"
        counts = f"{row.tried:,} | {row.killed:,} | {row.survived} | {row.uncovered} | {row.waiting}"
        lines.append(f"| {row.name} | {counts} | {share} |")
    text = "\n".join([*lines, ""])
    print(text)
    DOCUMENT.write_text(table.replaced(DOCUMENT.read_text(), "mutants", text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
