"""The program itself, started as in a pod, in front of model servers that are sockets of the test.

Here belong starting it, its files, its signals and its end.  What it must do then is for the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.app.stand import merged
from tests.faults.trial import CALM, NAMES, Model
from tests.faults.wire import Seen, read, request
from tests.net.raw import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

SOON = 30.0
"""Seconds until a program that has not done what it should has failed."""


class Program:
    """A running proxy."""

    def __init__(self, folder: Path, models: dict[str, Model]) -> None:
        self.folder = folder
        self.models = models
        self.llama = models["llama"]
        self.config = folder / "guardproxy.yaml"
        self.output = folder / "output"
        self.app = self.admin = ""
        self.process: asyncio.subprocess.Process

    def write(self, changes: Mapping[str, Any]) -> None:
        """Write the configuration."""
        urls = {"upstreams": {model.name: {"url": model.url, "model": model.name} for model in self.models.values()}}
        self.config.write_text(json.dumps(merged(merged(CALM, urls), changes)))

    async def start(self, *words: str, stdout: Any = None, files: int = 0, prelude: tuple[str, ...] = ()) -> None:
        """Start it, with at most *files* open files, and wait until it is ready; *words* go to `guardproxy run`."""

        def limit() -> None:
            if files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        command = (*(prelude or (sys.executable, "-m", "guardproxy")), "run", str(self.config), *words)
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("GUARDPROXY", "QWEN", "LLAMA"))
        }
        with self.output.open("wb") as sink:
            self.process = await asyncio.create_subprocess_exec(
                *command, cwd=self.folder, env=env, stdout=stdout or sink, stderr=sink, preexec_fn=limit
            )
        if stdout is None:
            (ready,) = [line async for line in self._until("ready")][-1:]
            self.app, self.admin = ready["listen"], ready["admin"]

    async def _until(self, message: str) -> AsyncIterator[dict[str, Any]]:
        deadline = time.monotonic() + SOON
        while True:
            found = [line for line in self.log() if line["msg"] == message]
            if found:
                yield found[0]
                return
            assert self.process.returncode is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            await asyncio.sleep(0.05)

    def log(self) -> list[dict[str, Any]]:
        """What it has written so far."""
        lines = self.output.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    async def send(self, *parts: bytes, to: str = "") -> bytes:
        """Send bytes; answers what came until the connection ended, however."""
        host, _, port = (to or self.app).rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        came = bytearray()
        try:
            async with asyncio.timeout(SOON):
                writer.write(b"".join(parts))
                while more := await reader.read(1 << 20):
                    came += more
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
        return bytes(came)

    async def ask(self, body: Any = None, *fields: str, to: str = "", **more: Any) -> Seen:
        return read(await self.send(request(body, *fields, **more), to=to))[0]

    async def get(self, path: str) -> Seen:
        return await self.ask(None, method="GET", path=path, to=self.admin, host="127.0.0.1")

    async def metric(self, name: str) -> float:
        lines = (await self.get("/metrics")).body.decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name)

    async def until(self, true: Callable[[], object]) -> None:
        deadline = time.monotonic() + SOON
        while not true():
            assert time.monotonic() < deadline, "it did not become true in time"
            await asyncio.sleep(0.02)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; its exit code."""
        async with asyncio.timeout(SOON):
            return await self.process.wait()

    async def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return await self.ended()

    def cpu(self) -> float:
        """Seconds of processor time it has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:  # noqa: PTH123 -- of the kernel's
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self) -> int:
        """Files and sockets it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208 -- only the count

    def peak(self) -> int:
        """The most memory that it has ever taken, bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:  # noqa: PTH123 -- of the kernel's
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))

    def rss(self) -> int:
        """Bytes of memory it takes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:  # noqa: PTH123 -- of the kernel's
            return int(file.read().split()[1]) * resource.getpagesize()


@asynccontextmanager
async def program(
    folder: Path, changes: Mapping[str, Any] | None = None, *, start: bool = True, **how: Any
) -> AsyncIterator[Program]:
    """A program with *changes* to its configuration; killed in the end, if it has not ended."""
    models = {name: Model(name) for name in NAMES}
    async with serve(models["llama"]) as llama, serve(models["mistral"]) as mistral, serve(models["qwen"]) as qwen:
        for model, raw in zip(models.values(), (llama, mistral, qwen), strict=True):
            model.url, model.raw = raw.url, raw
        run = Program(folder, models)
        run.write(changes or {})
        try:
            if start:
                await run.start(**how)
            yield run
        finally:
            if hasattr(run, "process") and run.process.returncode is None:
                run.process.kill()
                await run.process.wait()
