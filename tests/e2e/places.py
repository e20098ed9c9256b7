"""Environments for programs that nobody here wrote: each has one of its own, pinned to the last dependency.

A lock in ``locks/NAME.txt`` (or ``locks/NAME/package-lock.json``) is what is installed, into ``.e2e/NAME-HASH``: an
environment whose lock has not changed is there already.  `python -m tests.e2e.places --lock` writes all locks anew.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LOCKS = HERE / "locks"
WANTED = {
    "engine": ("xllamacpp", "gguf", "numpy"),
    "openai": ("openai",),
    "langchain": ("langchain-openai",),
    "litellm": ("litellm",),
    "instructor": ("instructor",),
    "pydantic-ai": ("pydantic-ai-slim[openai]",),
    "llm": ("llm",),
    "anthropic": ("anthropic",),
}
"""What each Python environment is for."""
NODE = "openai-node"
AT_ONCE = 2
"""Environments that are made at the same time."""


class Places:
    """Makes all environments in the background, as soon as it is made itself."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._python: dict[str, Future[Path]] = {name: self._pool.submit(_python, name) for name in WANTED}
        self._node = self._pool.submit(_node)

    def python(self, name: str) -> Path:
        """The interpreter of an environment, once it is there."""
        return self._python[name].result() / "bin" / "python"

    def node(self) -> Path:
        """The folder with the ``node_modules`` of the Node client."""
        return self._node.result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def version(name: str, package: str) -> str:
    """The version of *package* in the lock of *name*."""
    lines = (LOCKS / f"{name}.txt").read_text().splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def _folder(name: str, lock: Path) -> Path:
    digest = blake2b(lock.read_bytes() + sys.version.encode(), digest_size=4).hexdigest()
    return ROOT / ".e2e" / f"{name}-{digest}"


def _python(name: str) -> Path:
    lock = LOCKS / f"{name}.txt"
    folder = _folder(name, lock)
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", "--without-pip", folder)
        _install(folder, "--no-deps", "--only-binary", ":all:", "-r", lock)
        (folder / "ready").touch()
    return folder


def _node() -> Path:
    lock = LOCKS / NODE
    folder = _folder(NODE, lock / "package-lock.json")
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(lock, folder)
        _run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder, again=2)
        (folder / "ready").touch()
    return folder


def _install(folder: Path, *what: str | Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q", "--no-compile")
    _run(*pip, *what, again=2)


def _run(*command: str | Path, cwd: Path | None = None, again: int = 0) -> str:
    """Run to the end; *again* so many times where that fails, as networks do."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode and again:
        time.sleep(3)
        return _run(*command, cwd=cwd, again=again - 1)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}{done.stderr}"
    return done.stdout


def _lock(name: str) -> None:
    folder = ROOT / ".e2e" / f"{name}-lock"
    shutil.rmtree(folder, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    _install(folder, *WANTED[name])
    frozen = _run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "freeze")
    (LOCKS / f"{name}.txt").write_text(frozen)
    shutil.rmtree(folder)


if __name__ == "__main__" and sys.argv[1:] == ["--lock"]:
    for each in WANTED:
        _lock(each)
