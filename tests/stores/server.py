"""A real Redis for tests: on a free port of loopback, without a file, ended with the test.

async with Redis() as redis:
    redis.url; redis.pause(); redis.go_on(); redis.kill()
    async with redis.client() as client: ...
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from redis.asyncio import Redis as Client


def free_port() -> int:
    """A port that nobody has this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Redis:
    """A ``redis-server`` with these options."""

    def __init__(self, *options: str, port: int | None = None, tls: bool = False) -> None:
        self.port = free_port() if port is None else port
        self.options = options
        self.tls = tls
        self.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{self.port}/0"

    async def __aenter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        ports = ["--port", "0", "--tls-port", str(self.port)] if self.tls else ["--port", str(self.port)]
        program = shutil.which("redis-server")
        assert program is not None
        self.process = subprocess.Popen(  # noqa: ASYNC220 -- it starts in a moment, and is waited for below
            [program, "--bind", "127.0.0.1", *ports, "--save", "", "--dir", self._folder.name, *self.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 20
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return self
            except OSError:
                assert time.monotonic() < until, "redis-server does not come up"
                assert self.process.poll() is None, "redis-server has ended"
                await asyncio.sleep(0.02)

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()

    def client(self) -> Client:
        """Somebody who looks at what is in it."""
        return Client.from_url(self.url)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self.process.send_signal(signal.SIGCONT)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=store"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key
