"""The wheel and the source archive build clean, and hold what they should."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest

from guardproxy import __version__
from tests.e2e.places import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes: the wheel from the source archive, so that the archive is known to be enough."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel(dist: Path):
    """The package with its types, its license and its commit, and nothing beside it."""
    (file,) = dist.glob("*.whl")
    assert file.name == f"guardproxy-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(file) as wheel:
        names = wheel.namelist()
        assert {name.partition("/")[0] for name in names} == {"guardproxy", f"guardproxy-{__version__}.dist-info"}
        assert {"guardproxy/py.typed", "guardproxy/COMMIT"} <= set(names)
        commit = wheel.read("guardproxy/COMMIT").decode().strip()
        entry = wheel.read(f"guardproxy-{__version__}.dist-info/entry_points.txt").decode()
        assert "guardproxy = guardproxy.cli.main:main" in entry
        assert f"guardproxy-{__version__}.dist-info/licenses/LICENSE" in names
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert commit == head.stdout.strip()


def test_the_source_archive(dist: Path):
    """What is needed to build and to test; nothing of a workplace."""
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "hatch_build.py",
        "guardproxy/COMMIT",
        "Makefile",
        "tests/conftest.py",
        "LICENSE",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".e2e", "dist"))]


def test_the_bill_of_materials(tmp_path: Path):
    """Every locked package is in it, with its hashes."""
    file = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", "pyproject.toml", "-o", str(file)]
    done = subprocess.run([*command, "requirements.lock"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sbom = json.loads(file.read_text())
    named = {part["name"].lower() for part in sbom["components"]}
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert locked == named
    assert sbom["metadata"]["component"]["name"] == "guardproxy"
