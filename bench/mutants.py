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


class Row(NamedTuple):
    """The mutants of one module."""

    name: str
    tried: int
    killed: int
    """Or that never ended."""
    survived: int
    uncovered: int
    """That no test reaches."""


def rows(results: Path) -> list[Row]:
    """What there is, by module."""
    found: list[Row] = []
    for path in sorted(results.glob("guardproxy/*/*.py.meta")):
        codes = [code for code in json.loads(path.read_text())["exit_code_by_key"].values() if code is not None]
        if codes:
            name = str(path.relative_to(results / "guardproxy")).removesuffix(".meta")
            survived, uncovered = codes.count(SURVIVED), codes.count(UNCOVERED)
            found.append(Row(name, len(codes), len(codes) - survived - uncovered, survived, uncovered))
    return found


def main() -> int:
    """Print the table and write it into the page."""
    found = rows(RESULTS)
    lines = ["| module | mutants | killed | survived | reached by no test | score |", "|---|---|---|---|---|---|"]
    tried, killed = sum(row.tried for row in found), sum(row.killed for row in found)
    rest = sum(row.survived for row in found), sum(row.uncovered for row in found)
    for row in [*found, Row("**all**", tried, killed, *rest)]:
        share = f"{row.killed / row.tried:.1%}"
        lines.append(f"| {row.name} | {row.tried:,} | {row.killed:,} | {row.survived} | {row.uncovered} | {share} |")
    text = "\n".join([*lines, ""])
    print(text)
    DOCUMENT.write_text(table.replaced(DOCUMENT.read_text(), "mutants", text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
