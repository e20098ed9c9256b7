"""Programs that are measured: started on a core, read from /proc, ended by their id.

Here belongs all that concerns a process and its children; what they serve is `systems`.  Linux only, as /proc is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@final
@dataclass(frozen=True, slots=True)
class Usage:
    """What a program has taken so far."""

    cpu: float
    """Seconds of CPU: all threads, all children."""
    system: float
    """Seconds of them in the kernel, by the clock tick: good for shares over seconds of work."""
    user: float
    rss: int
    """Bytes resident."""


def usage(pid: int) -> Usage:
    """Read the program *pid* and everything that it started."""
    cpu = system = user = 0.0
    rss = 0
    for one in family(pid):
        with contextlib.suppress(OSError, ValueError, IndexError):
            place = Path(f"/proc/{one}")
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            user += int(fields[11]) / TICKS
            system += int(fields[12]) / TICKS
            rss += int((place / "statm").read_text().split()[1]) * PAGE
            cpu += _precise(place, (int(fields[11]) + int(fields[12])) / TICKS)
    return Usage(cpu, system, user, rss)


def _precise(place: Path, ticked: float) -> float:
    """Nanoseconds on the CPU of every living thread, where the kernel counts them; else clock ticks."""
    total = 0
    for thread in (place / "task").iterdir():
        try:
            total += int((thread / "schedstat").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return ticked
    return total / 1e9 or ticked


def family(pid: int) -> list[int]:
    """*pid* and its descendants that live."""
    found = [pid]
    for one in found:  # grows while it is read
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


@final
class Running:
    """A program that runs, on one core, until `end`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.started = time.perf_counter()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )
        self.pid = self.process.pid

    def wait_for(self, port: int, path: str, seconds: float) -> float:
        """Wait until a GET of *path* is answered 200; tell how long after the start that was.

        Raises `TimeoutError`, and `ChildProcessError` where the program has ended.
        """
        while time.perf_counter() - self.started < seconds:
            if self.process.poll() is not None:
                raise ChildProcessError(f"ended with {self.process.returncode}")
            if answers(port, path):
                return time.perf_counter() - self.started
            time.sleep(0.005)
        raise TimeoutError(f"not ready after {seconds:g} s")

    def usage(self) -> Usage:
        """What it has taken so far."""
        return usage(self.pid)

    def end(self) -> None:
        """End it and what it has started: politely, then not."""
        members = family(self.pid)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in members:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
            until = time.perf_counter() + 3
            while time.perf_counter() < until:
                if self.process.poll() is not None and not any(_lives(pid) for pid in members):
                    return
                time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def answers(port: int, path: str) -> bool:
    """Whether a GET of *path* on *port* is answered 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def free_port() -> int:
    """A port on loopback that nobody has at present."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
