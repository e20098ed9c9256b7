"""The place where load meets systems: a model server on one core, what is measured on the other.

Here belongs the order of one measurement: start, warm up, read /proc, load, read again.  What is measured in which
order is `hop`'s and `growth`'s; what comes of it is written by `report`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, final

from bench import peers, workload
from bench.process import Running, free_port, usage
from bench.systems import SYSTEMS, Place, Plan

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 32
"""Callers at once, where nothing else is said."""
MISSING = "not installed"
ROOT = Path(__file__).resolve().parent.parent


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What one measurement, or the median of several, came to."""

    cpu: float
    """µs of CPU that the system took per request (or event)."""
    kernel: float
    """Share of it in the kernel, 0 to 1."""
    rate: float
    """Requests (or events) a second."""
    p50: float
    """ms."""
    p99: float
    """ms."""
    rss: int
    """Bytes, after the load."""
    busy: float
    """Share of its core that the system used, 0 to 1: where it is low, load was the limit and not the system."""
    errors: int = 0


@final
@dataclass(frozen=True, slots=True)
class Subject:
    """A system that runs."""

    name: str
    port: int
    plan: Plan
    run: Running
    ready: float
    """Seconds from its start until it answered."""
    idle: int
    """Bytes resident before any load."""


@final
class Lab:
    """A model server, a folder, and the systems in front of it; `close` ends all of them."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("this needs two cores: one for what is measured, one for the load")
        self.core, self.other = cores[0], cores[1]
        self.peers = folder
        self.say = say
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.upstream = free_port()
        self.wrk = peers.find(folder, "wrk")
        self.subjects: dict[str, Subject] = {}
        self.absent: dict[str, str] = {}
        command = [sys.executable, "-m", "bench.upstream", str(self.upstream)]
        self.model = Running(command, core=self.other, log=self.folder / "model.log", cwd=ROOT)
        self.model.wait_for(self.upstream, "/", 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, name: str) -> Subject | None:
        """Start the system *name*; None, with the reason in `absent`, where it cannot be had."""
        folder = self.folder / f"{name.replace(' ', '-')}-{len(list(self.folder.iterdir()))}"
        folder.mkdir()
        port = free_port()
        plan = SYSTEMS[name](Place(port, self.upstream, folder, self.peers))
        if plan is None:
            self.absent[name] = MISSING
            return None
        run = Running(plan.command, core=self.core, log=folder / "log", env=plan.env, cwd=ROOT)
        try:
            ready = run.wait_for(port, plan.ready, plan.patience)
        except (OSError, TimeoutError) as error:
            run.end()
            self.absent[name] = f"does not start: {error}"
            return None
        time.sleep(0.3)
        subject = Subject(name, port, plan, run, ready, run.usage().rss)
        self.subjects[name] = subject
        return subject

    def stop(self, subject: Subject) -> None:
        """End it."""
        subject.run.end()
        self.subjects.pop(subject.name, None)

    def close(self) -> None:
        """End everything that was started here."""
        for subject in list(self.subjects.values()):
            self.stop(subject)
        self.model.end()
        if not any(why != MISSING for why in self.absent.values()):  # else its log says why
            shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, subject: Subject | None, seconds: float, **kind: Any) -> Row:
        """Ask *subject* (None: the model server itself) as fast as it answers."""
        port, plan = (self.upstream, None) if subject is None else (subject.port, subject.plan)
        text = workload.request(port, workload.body(**kind), {} if plan is None else plan.headers)
        pid = self.model.pid if subject is None else subject.run.pid
        before = usage(pid)
        told = (
            self._wrk(port, text, seconds)
            if self.wrk
            else self.client("closed", port, text, seconds=seconds, connections=CONNECTIONS)
        )
        after = usage(pid)
        return row(before, after, told["requests"], told)

    def client(self, order: str, port: int, text: str, **particulars: Any) -> dict[str, float]:
        """Have a caller of ours carry out *order*."""
        process = self._client({"order": order, "port": port, "request": text, **particulars})
        answer, _ = process.communicate()
        return self._read(answer)

    def streams(
        self, subject: Subject | None, number: int, pace_ms: int, seconds: float, **particulars: Any
    ) -> tuple[Row, int]:
        """Hold *number* streams at once; what one event costs, and the bytes resident while all are open."""
        port, headers = (self.upstream, {}) if subject is None else (subject.port, subject.plan.headers)
        pid = self.model.pid if subject is None else subject.run.pid
        many = int((seconds + number * 0.002 + 30) * 1000 / pace_ms)
        text = workload.request(port, workload.body(events=many, pace_ms=pace_ms), headers)
        order = {"order": "streams", "port": port, "request": text, "connections": number, "seconds": seconds}
        process = self._client({**order, **particulars})
        assert process.stdout is not None
        process.stdout.readline()
        before = usage(pid)
        answer = process.stdout.readline()
        after = usage(pid)
        process.wait()
        told = self._read(answer)
        return row(before, after, told["events"], {"p50": 0.0, "p99": 0.0, **told}), after.rss

    def _client(self, order: dict[str, Any]) -> subprocess.Popen[str]:
        command = ["taskset", "-c", str(self.other), sys.executable, "-m", "bench.client"]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        process.stdin = None
        return process

    def _wrk(self, port: int, text: str, seconds: float) -> dict[str, float]:
        script = self.folder / "load.lua"
        script.write_text(workload.lua(text))
        command = [
            "taskset",
            "-c",
            str(self.other),
            str(self.wrk),
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{max(1, round(seconds))}s",
        ]
        done = subprocess.run(
            [*command, "-s", str(script), f"http://127.0.0.1:{port}"],
            env=peers.surroundings(self.peers), capture_output=True, text=True, check=True,
        )  # fmt: skip
        return self._read(done.stdout.strip().splitlines()[-1])

    @staticmethod
    def _read(answer: str) -> dict[str, float]:
        told: dict[str, float] = json.loads(answer)
        return told


def row(before: Any, after: Any, number: float, told: dict[str, float]) -> Row:
    """One row out of two looks at a process and what the caller saw in between."""
    number, ticked = max(number, 1), (after.user - before.user) + (after.system - before.system)
    cpu = after.cpu - before.cpu
    kernel = (after.system - before.system) / ticked if ticked else 0.0
    span = told["seconds"]
    return Row(
        cpu / number * 1e6, kernel, number / span, told["p50"], told["p99"], after.rss, cpu / span, int(told["errors"])
    )


def median(rows: list[Row]) -> Row:
    """The middle of each figure; errors are summed."""
    middle = {name: statistics.median(getattr(one, name) for one in rows) for name in Row.__slots__ if name != "errors"}
    return Row(**{**middle, "rss": int(middle["rss"])}, errors=sum(one.errors for one in rows))
