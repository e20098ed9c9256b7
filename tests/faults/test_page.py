"""docs/faults.md says what the list and the tests say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.faults.catalogue import ROWS
from tests.faults.page import PAGE, Marks, page


def test_the_page_is_in_step(request):
    """`make docs` writes it anew; it names a test for every row that has one."""
    option, here = request.config.option, Path(__file__).parent
    collected = {item.path for item in request.session.items}
    if collected.issuperset(here.glob("test_*.py")) and not (option.keyword or option.markexpr):
        found = Marks()  # all tests are at hand: they need not be collected once more
        found.pytest_collection_modifyitems(request.session.items)
        made = page(found)
    else:
        command = [sys.executable, "-m", "tests.faults.page"]
        made = subprocess.run(command, cwd=PAGE.parents[1], capture_output=True, text=True, check=True).stdout
    assert made == PAGE.read_text(), "run `make docs`"


def test_the_list_is_whole():
    assert list(ROWS) == list(range(1, 98))


def test_every_threat_has_its_test():
    """docs/security.md names tests that there are."""
    page = (PAGE.parent / "security.md").read_text()
    named = re.findall(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)", page)
    assert len(named) > 15
    for name, path in named:
        assert f"def {name}(" in (PAGE.parents[1] / path).read_text(), (name, path)
