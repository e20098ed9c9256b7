"""docs/faults.md: each row of the list, the tests that hold it, and what they say.

    python -m tests.faults.page > docs/faults.md

Here belongs the page alone.  Which tests hold a row is read from their marks; a row whose test is expected to fail is
open, and says why.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.catalogue import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
WHERE = ("tests/faults",)
HEAD = """# What can go wrong, and what then

The list that guardproxy is held to. Each row is played on the wire against the running proxy: the model server and
the app are sockets that a test writes bytes to. Four things are asserted of each: the bytes that the app gets, how
often each model server was asked, how circuit and metrics moved, and that nothing is left (tasks, sockets, permits,
bytes of the cache).

*Breaker*: F failure, T throttle (a gate with a deadline, not the circuit), S success, – ignored. *Retry*: **pre** =
only before the first byte has left for the app, within the retry budget and the deadline; another upstream or mode
first. *Mid* = after the first byte: an `error` event, no `[DONE]`, and the connection is closed without the last
chunk.

This page is generated (`make docs`) from [the list](../tests/faults/catalogue.py) and the marks of the tests; a test
holds it to both.

| # | fault | the app sees | breaker | retry | tests | status |
|---|---|---|---|---|---|---|
"""


class Marks:
    """Collects which tests carry which rows."""

    def __init__(self) -> None:
        self.tests: dict[int, set[tuple[str, str]]] = defaultdict(set)
        self.gaps: dict[int, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if PAGE.parents[1] / "tests" / "faults" not in item.path.parents:
                continue
            for mark in item.iter_markers("row"):
                for row in mark.args:
                    name = getattr(item, "originalname", None) or item.name
                    self.tests[row].add((str(item.path.relative_to(PAGE.parents[1])), name))
                    self.gaps[row].update(gap.kwargs["reason"] for gap in item.iter_markers("xfail"))


def marks() -> Marks:
    """Read the marks of all tests, running none."""
    found = Marks()
    root = PAGE.parents[1]
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        code = pytest.main(
            [
                "--collect-only",
                "-q",
                "-p",
                "no:cacheprovider",
                "--rootdir",
                str(root),
                *(str(root / place) for place in WHERE),
            ],
            [found],
        )
    finally:
        sys.stdout = output
    assert code == 0, code
    return found


def page(found: Marks) -> str:
    """Write the page."""
    lines, decisions = [], []
    for number, row in ROWS.items():
        tests = sorted(found.tests[number])
        links = ", ".join(f"[{name}](../{path})" for path, name in tests) or "–"
        gaps = found.gaps[number]
        status = "**no test**" if not tests else f"open: {'; '.join(sorted(gaps))}" if gaps else "held"
        if row.decision:
            status += f" ([decision](#decisions) {number})"
            decisions.append(f"- **{number}** {row.fault}: {row.decision}")
        fault, sees = (text.replace("|", "\\|") for text in (row.fault, row.sees))
        lines.append(f"| {number} | {fault} | {sees} | {row.breaker} | {row.retry} | {links} | {status} |")
    held = sum(bool(found.tests[number]) and not found.gaps[number] for number in ROWS)
    count = f"\n{held} of {len(ROWS)} rows are held.\n"
    return (
        HEAD
        + "\n".join(lines)
        + "\n"
        + count
        + "\n## Decisions\n\nWhere the proxy does something else than the first wording of a row, and why.\n\n"
        + "\n".join(decisions)
        + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(page(marks()))
