"""Each threat that the page names has a test that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
_TEST = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
THREATS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## The threats")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| who ")
]


def test_there_are_threats():
    assert len(THREATS) > 20
    assert all(len(cells) == 4 and all(cells) for cells in THREATS), [cells for cells in THREATS if len(cells) != 4]


@pytest.mark.parametrize("cells", THREATS, ids=lambda cells: "-".join(cells[:2])[:80])
def test_each_has_a_test(cells):
    """By name, in a file that there is; a page that promises what nobody holds it to is worse than none."""
    tests = _TEST.findall(cells[3])
    assert tests, cells
    for name, path in tests:
        text = (ROOT / path).read_text()
        assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), (name, path)
        assert "@pytest.mark.skip" not in text


def test_rows_that_are_named_are_held():
    """Where it says which rows of a test are meant, that test holds them."""
    for name, path, rows in re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\) rows? ([\d, and]+)", PAGE):
        text = (ROOT / path).read_text()
        for row in re.findall(r"\d+", rows):
            assert re.search(rf"\b{row}\b", text), (name, path, row)
