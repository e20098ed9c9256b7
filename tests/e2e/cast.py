"""The programs of a play: model servers that can be killed, stopped and started again, and the proxy before them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOON = 30.0
"""Seconds after which something that has not happened will not."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(true: Callable[[], object], what: str, seconds: float = SOON) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def fetch(url: str, doc: Any = None, method: str | None = None, **headers: str) -> tuple[int, Any, str]:
    """Ask; answers status, header fields and text."""
    data = None if doc is None else json.dumps(doc).encode()
    fields = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(url, data, fields, method=method)  # noqa: S310 -- http, on loopback
    try:
        with urllib.request.urlopen(request, timeout=SOON) as answer:  # noqa: S310 -- as above
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


class Engine:
    """One llama.cpp server on one port."""

    def __init__(self, python: Path, script: Path, model: Path) -> None:
        self.name, self.port = model.stem, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [str(python), str(script), str(model), str(self.port), self.name]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it where it does not run, and wait until it is healthy."""
        if self._process is None:
            quiet = subprocess.DEVNULL
            env = {**os.environ, "GGML_NO_BACKTRACE": "1"}
            self._process = subprocess.Popen(self._command, stdout=quiet, stderr=quiet, env=env)
        until(self.healthy, f"{self.name} is healthy")

    def healthy(self) -> bool:
        try:
            return fetch(f"{self.url}/health")[0] == 200
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: connections are reset, the port is refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def slots(self) -> list[dict[str, Any]]:
        """What each of its slots is doing."""
        return list(json.loads(fetch(f"{self.url}/slots")[2]))

    def busy(self) -> int:
        """How many of its slots generate."""
        return sum(bool(slot["is_processing"]) for slot in self.slots())


class Proxy:
    """A running guardproxy."""

    def __init__(self, app: str, admin: str) -> None:
        self.app, self.admin = app, admin

    def chat(self, **doc: Any) -> tuple[int, Any, dict[str, Any]]:
        """Ask for a chat completion; answers status, header fields and document."""
        headers = doc.pop("headers", {})
        asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, **doc}
        status, fields, text = fetch(f"{self.app}/v1/chat/completions", asked, **headers)
        return status, fields, json.loads(text)

    def state(self) -> dict[str, Any]:
        return dict(json.loads(fetch(f"{self.admin}/guard/state")[2]))

    def circuit(self, name: str) -> str:
        return str(self.state()["breakers"][name]["state"])

    def metric(self, name: str) -> float:
        lines = fetch(f"{self.admin}/metrics")[2].splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name + " ")))

    def healthy(self) -> bool:
        return bool(json.loads(fetch(f"{self.app}/health/llm")[2])["status"] == "healthy")


@contextmanager
def proxy(config: dict[str, Any], folder: Path) -> Iterator[Proxy]:
    """Run the real program on *config* (JSON is YAML), on free ports."""
    file = folder / "guardproxy.yaml"
    file.write_text(json.dumps({"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", **config}))
    command = [sys.executable, "-m", "guardproxy", "run", str(file)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        drain: threading.Thread | None = None
        try:
            said: dict[str, Any] = {}
            while said.get("msg") != "ready":
                line = process.stdout.readline()
                assert line, (folder / "log").read_text()
                said = json.loads(line) if line.startswith("{") else {}
            # what it says later goes nowhere, but must not fill the pipe
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            yield Proxy(f"http://{said['listen']}", f"http://{said['admin']}")
            process.send_signal(signal.SIGTERM)
            assert process.wait(SOON) == 0
        finally:
            process.kill()
            process.wait()
            if drain is not None:
                drain.join()
            process.stdout.close()
