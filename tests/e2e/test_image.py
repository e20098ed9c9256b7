"""What the build of the image does, done without an engine: the same commands, into a clean prefix.

The first stage of the Dockerfile is read line by line and carried out, its folders put under a temporary one; then the
second stage's promises are held against what came of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guardproxy import __version__
from tests.e2e.cast import fetch, free_port, until
from tests.e2e.places import ROOT

pytestmark = pytest.mark.timeout(300)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "async-timeout==5.0.1 --hash=sha256:39e3809566ff85354557ec2398b55e096c8364bacac9405a7a1fa429e77fe76c"
"""What the client for Redis needs beside it before Python 3.11.3; the image's own is newer, and so is the lock."""
GOAL = 90
"""Megabytes that the image may have above its base."""


def instructions() -> list[list[tuple[str, str]]]:
    """The stages of the Dockerfile, as instructions with their arguments."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    stages: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        elif word and not word.startswith("#") and stages:
            stages[-1].append((word, rest.strip()))
    return stages


def copied() -> list[str]:
    """What .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/guardproxy, as the first stage makes it."""
    root = tmp_path_factory.mktemp("image")
    context, base = root / "context", root / "base"
    context.mkdir()
    for name in copied():
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, context / name)
    if sys.version_info < (3, 11, 3):
        with (context / "requirements.lock").open("a") as lock:
            lock.write(f"{OLDER}\n")
    subprocess.run([sys.executable, "-m", "venv", base], check=True)  # stands for the base image's Python
    env = {**os.environ, "PATH": f"{base / 'bin'}:{os.environ['PATH']}", "REVISION": COMMIT}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    folders = {name: f"{root}{name}" for name in ("/opt/guardproxy", "/src", "/dist")}

    def moved(text: str) -> str:
        return re.sub(r"(?<![\w.])(/opt/guardproxy|/src|/dist)\b", lambda found: folders[found[1]], text)

    (root / "opt").mkdir()
    for word, rest in instructions()[0]:
        if word == "ENV":
            env |= dict(pair.split("=", 1) for pair in rest.split())
        elif word == "WORKDIR":
            Path(moved(rest)).mkdir()
        elif word == "COPY":
            *sources, target = rest.split()
            for name in sources:
                place = Path(folders["/src"]) / target
                if (context / name).is_dir():
                    shutil.copytree(context / name, place)
                else:
                    shutil.copy(context / name, place)
        elif word == "RUN":
            run(moved(rest), folders["/src"], env)
        else:
            assert word == "ARG", word
    return Path(folders["/opt/guardproxy"])


def run(command: str, cwd: str, env: dict[str, str], tries: int = 2) -> None:
    done = subprocess.run(["sh", "-ec", command], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode and tries > 1 and " install " in command:  # networks fail
        return run(command, cwd, env, tries - 1)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return None


def test_the_context_is_no_more_than_the_build_copies():
    """Nothing else goes to the engine, and nothing that is copied is missing there."""
    wanted = {
        name for stage in instructions() for word, rest in stage if word == "COPY" and not rest.startswith("--")
        for name in (part.removeprefix("./") for part in rest.split()[:-1])
    }  # fmt: skip
    assert wanted == set(copied())


def test_the_program_in_it(prefix: Path, tmp_path: Path):
    """It knows its commit, finds nothing wrong with the configuration that is copied beside it, and serves."""
    program = prefix / "bin" / "guardproxy"
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout == f"guardproxy {__version__} (commit {COMMIT[:12]})\n"
    shutil.copytree(ROOT / "config", tmp_path / "etc")
    subprocess.run([program, "check", tmp_path / "etc/guardproxy.yaml"], check=True, cwd=tmp_path, capture_output=True)
    port = free_port()
    listen = ["-o", f"listen=127.0.0.1:{port}", "-o", "admin=127.0.0.1:0", "-o", "drain.idle_seconds=0.1"]
    command = [str(program), "run", str(tmp_path / "etc/guardproxy.yaml"), *listen]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: alive(port), "it is alive")
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()


def alive(port: int) -> bool:
    try:
        return fetch(f"http://127.0.0.1:{port}/healthz")[0] == 200
    except OSError:
        return False


def test_nothing_else_is_in_it(prefix: Path, capsys: pytest.CaptureFixture[str]):
    """No pip, no build tools, no tests; and it is small."""
    (site,) = (prefix / "lib").glob("python3.*/site-packages")
    installed = {path.name.partition("-")[0].lower() for path in site.glob("*.dist-info")}
    locked = set(re.findall(r"^([\w-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    known = {name.lower() for name in locked} | {"guardproxy", OLDER.partition("==")[0]}
    assert {name.replace("_", "-") for name in installed} <= known
    assert not {"pip", "setuptools", "wheel", "hatchling", "pytest"} & installed
    size = sum(path.stat().st_size for path in prefix.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    with capsys.disabled():
        sys.stdout.write(f"\nthe image is {size:.1f} MB above its base\n")
    assert size <= GOAL


def test_the_second_stage_keeps_its_promises():
    """Not root, by number; the signal and the check that Kubernetes' manifests use too; labels; no shell needed."""
    stage = dict(reversed(instructions()[1]))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", stage["USER"])
    assert stage["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(stage["ENTRYPOINT"]) == ["guardproxy"]
    assert json.loads(stage["CMD"])[0] == "run"
    health: Any = json.loads(stage["HEALTHCHECK"].partition("CMD ")[2])
    assert "/healthz" in health[-1]
    assert "org.opencontainers.image.revision" in stage["LABEL"]
    assert not [word for word, _ in instructions()[1] if word == "RUN"]
