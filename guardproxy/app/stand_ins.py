"""Simulated model servers in the place of real ones, for a first look.

Here belongs starting one simulated server for each upstream that the environment does not name, and what a person is
told about it.  The servers themselves are `simulator`'s; each is a process of its own, so that it can be killed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Self, cast, final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.config.load import Loaded
    from guardproxy.config.settings import Config

_LOOPBACK = frozenset(("127.0.0.1", "localhost", "::1"))


@final
class StandIns:
    """Simulated servers for the upstreams of *config*, those aside whose URL *env* names (``QWEN_URL`` for qwen)."""

    def __init__(self, config: Config, env: Mapping[str, str]) -> None:
        self._config = config
        self._real = {name: variable for name in config.upstreams if env.get(variable := _variable(name))}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.urls: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start them all at once; raises `OSError` where one does not come up."""
        try:
            for name in self._config.upstreams:
                if name not in self._real:
                    self._processes[name] = self._start(name, self._port(name))
            for name in self._processes:
                self.urls[name] = self._announced(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End them."""
        for process in self._processes.values():
            _stop(process)

    def instead(self, loaded: Loaded) -> Loaded:
        """The same configuration, pointing at the simulated servers."""
        upstreams = {
            name: replace(upstream, url=self.urls[name]) if name in self.urls else upstream
            for name, upstream in loaded.config.upstreams.items()
        }
        return replace(loaded, config=replace(loaded.config, upstreams=upstreams))

    def greeting(self, app: str, admin: str) -> str:
        """What to do now, for a person."""
        lines = ["", "guardproxy is in front of"]
        for name, upstream in self._config.upstreams.items():
            if name in self.urls:
                lines.append(f"  {name:8} {self.urls[name]}  simulated, process {self._processes[name].pid}")
            else:
                lines.append(f"  {name:8} {upstream.url}  real, from {self._real[name]}")
        mode = next(iter(self._config.modes), None) or next(iter(self._config.upstreams))
        messages = '[{"role": "user", "content": "A brief for a summer perfume, as JSON"}]'
        lines += [
            "",
            f"apps:  OPENAI_BASE_URL=http://{app}/v1",
            f"ops:   http://{admin}/guard/ (live page)   http://{admin}/metrics   http://{admin}/health/llm",
            "",
            "try:",
            f"  curl -i http://{app}/v1/chat/completions -H 'Content-Type: application/json' \\",
            f'    -d \'{{"model": "{mode}", "response_format": {{"type": "json_object"}}, "messages": {messages}}}\'',
            "",
        ]
        return "\n".join(lines)

    def _announced(self, name: str) -> str:
        """Wait until it says where it listens."""
        line = cast("IO[str]", self._processes[name].stdout).readline()
        if not line:  # its port was taken: any other will do
            _stop(self._processes[name])
            self._processes[name] = self._start(name, 0)
            line = cast("IO[str]", self._processes[name].stdout).readline()
        if not line:
            message = f"the simulated server for {name} did not start"
            raise OSError(message)
        return line.split()[1]

    def _port(self, name: str) -> int:
        """The port of the configured URL, where that is on this machine."""
        parts = urlsplit(self._config.upstreams[name].url)
        return parts.port or 0 if parts.hostname in _LOOPBACK else 0

    def _start(self, name: str, port: int) -> subprocess.Popen[str]:
        model = self._config.upstreams[name].model or name
        command = [sys.executable, "-m", "guardproxy", "simulate", "--name", name, "--model", model]
        return subprocess.Popen(  # noqa: S603 -- our own program, with names from the configuration as arguments
            [*command, "--port", str(port), "--parent-pipe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def _variable(name: str) -> str:
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_URL"


def _stop(process: subprocess.Popen[str]) -> None:
    """End a process that we started; closing its stdin tells it so."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
