"""Where the flood comes down: a model server, a proxy in front of it, and callers, each a process of its own.

Here belongs how they are started, asked and ended.  What comes in which order is the main program's.

The proxy has a core to itself.  Callers and model server share the other one and take a fraction of it, because what
the model server bears is declared (`slots`) and no matter of the processor.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any, Self, final

from bench import workload
from bench.lab import ROOT
from bench.process import Running, free_port
from bench.upstream import MODEL

SLOTS, MILLISECONDS = 8, 50
CAPACITY = SLOTS * 1000 / MILLISECONDS
"""Calls a second that the model server answers."""
QUEUE = 16
LOAD: dict[str, Any] = {
    "enabled": True,
    "floor": SLOTS,
    "initial": SLOTS,
    "ceiling": SLOTS,
    "queue": QUEUE,
    "queue_seconds": 1,
}
SOUGHT: dict[str, Any] = {"enabled": True, "queue": QUEUE, "queue_seconds": 1}
"""The same line, and nothing said of what the model server bears."""
CONNECTIONS = 2000


@final
class Place:
    """All of them; they end with it."""

    def __init__(self, load: dict[str, Any] = LOAD) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._other = cores[-1]
        self._rounds = count()
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._model_port, self._port = free_port(), free_port()
        command = [sys.executable, "-m", "bench.overload.slots", str(self._model_port), str(SLOTS), str(MILLISECONDS)]
        self._model = Running(command, core=self._other, log=self._folder / "model.log", cwd=ROOT)
        self._model.wait_for(self._model_port, "/", 20)
        config = {
            "listen": f"127.0.0.1:{self._port}",
            "admin": "127.0.0.1:0",
            "upstreams": {"qwen": {"url": f"http://127.0.0.1:{self._model_port}", "model": MODEL}},
            "modes": {},
            "load": load,
        }
        path = self._folder / "guardproxy.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        command = [sys.executable, "-m", "guardproxy", "run", str(path)]
        self._proxy = Running(command, core=cores[0], log=self._folder / "log", cwd=ROOT)
        self._proxy.wait_for(self._port, "/readyz", 30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._proxy.end()
        self._model.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def written(self) -> int:
        """Lines of the log."""
        return (self._folder / "log").read_bytes().count(b"\n")

    def took(self, milliseconds: int) -> None:
        """Have the model server take so long for each answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._model_port}/took/{milliseconds}") as answer:
            answer.read()

    def come(self, *kinds: dict[str, Any]) -> list[dict[str, Any]]:
        """Have callers come whatever happens; see `callers`, *name* says what they ask."""
        orders = [{**kind, "request": self._request(kind["name"])} for kind in kinds]
        told = self._ask("bench.overload.callers", {"connections": CONNECTIONS, "kinds": orders})
        if told["short"]:
            raise RuntimeError("the callers had too few connections: this measures nothing")
        come: list[dict[str, Any]] = told["kinds"]
        return come

    def again(self, callers: int, seconds: float) -> tuple[int, int, float]:
        """Have *callers* ask again whenever they are answered: answers, refusals, seconds of the proxy's processor."""
        order = {"order": "closed", "request": self._request("again"), "connections": callers, "seconds": seconds}
        before = self._proxy.usage().cpu
        told = self._ask("bench.client", order)
        return told["requests"] - told["errors"], told["errors"], self._proxy.usage().cpu - before

    def _request(self, name: str) -> str:
        """What is asked: ``known`` is the same always, ``batch`` says that it can wait; no other comes twice."""
        text = workload.body(unique=name != "known").replace(workload.MARK, f"{next(self._rounds)} {workload.MARK}")
        return workload.request(self._port, text, {"X-Guardproxy-Priority": "batch"} if name == "batch" else {})

    def _ask(self, module: str, order: dict[str, Any]) -> dict[str, Any]:
        done = subprocess.run(
            ["taskset", "-c", str(self._other), sys.executable, "-m", module],
            cwd=ROOT, input=json.dumps({"port": self._port, **order}), capture_output=True, text=True, check=True,
        )  # fmt: skip
        told: dict[str, Any] = json.loads(done.stdout)
        return told
