"""The documentation is a site without a broken link."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_site_builds(tmp_path):
    """Strictly: a link to a page, a heading or a file of the repository that is not there is an error."""
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    front = (tmp_path / "site/index.html").read_text()
    assert "guardproxy" in front
    assert 'href="kubernetes/' in front


def test_the_front_page_is_the_readme():
    """Written once; and what the menu names is there."""
    assert not (ROOT / "docs/index.md").exists()
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    pages = {page for entry in menu for page in _pages(entry)} - {"index.md"}
    assert {page for page in pages if not (ROOT / "docs" / page).exists()} == set()


def _pages(entry):
    for value in entry.values():
        if isinstance(value, str):
            yield value
        else:
            for inner in value:
                yield from _pages(inner)
