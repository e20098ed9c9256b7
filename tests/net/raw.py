"""A server that writes exactly the bytes a test says, and a sink that remembers what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import subprocess
import time
from typing import TYPE_CHECKING

from guardproxy.net.upstream import Exchange

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from guardproxy.core.values import Fault, Headers
    from guardproxy.net.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Clock:
    """The real clock, which a test may put forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Ear:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.status = 0
        self.headers: Headers = []
        self.chunks: list[bytes] = []
        self.faults: list[Fault] = []
        self.over = asyncio.Event()

    def head(self, status: int, headers: Headers) -> None:
        self.calls.append("head")
        self.status, self.headers = status, headers

    def data(self, chunk: bytes) -> None:
        assert chunk
        if self.calls[-1] != "data":
            self.calls.append("data")
        self.chunks.append(chunk)

    def end(self) -> None:
        self.calls.append("end")
        self.over.set()

    def lost(self, fault: Fault) -> None:
        self.calls.append("lost")
        self.faults.append(fault)
        self.over.set()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def fault(self) -> Fault:
        return self.faults[-1]

    async def heard(self) -> Ear:
        await asyncio.wait_for(self.over.wait(), 5)
        await asyncio.sleep(0)  # what would come twice comes now
        assert sum(call in ("end", "lost") for call in self.calls) == 1
        return self


async def ask(
    upstream: Upstream, body: object = b"{}", method: bytes = b"POST", target: bytes = b"/v1/x", **more: object
) -> Ear:
    """Send, and hear the answer out."""
    ear = Ear()
    got = await upstream.send(method, target, [], body, ear, **more)  # type: ignore[arg-type]
    assert not hasattr(got, "code"), got
    return await ear.heard()


async def send(upstream: Upstream, ear: Ear, body: object = b"{}") -> Exchange:
    got = await upstream.send(b"POST", b"/v1/x", [], body, ear)  # type: ignore[arg-type]
    assert isinstance(got, Exchange), got
    return got


class Peer:
    """One connection, seen from the server."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self.last = b""
        """The request read last."""

    async def request(self) -> bytes:
        """The next request, head and body; empty where the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"Content-Length: (\d+)", head):
                return head + await self.reader.readexactly(int(length[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        if b"Transfer-Encoding: chunked" in head:
            try:
                return head + await self._chunks()
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""
        return head

    async def _chunks(self) -> bytes:
        """A chunked body, as it stands on the wire."""
        parts = []
        while True:
            line = await self.reader.readuntil(b"\r\n")
            size = int(line, 16)
            parts += [line, await self.reader.readexactly(size + 2)]
            if not size:
                return b"".join(parts)

    async def send(self, *pieces: bytes) -> None:
        """Write each piece so that it arrives by itself."""
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.01)
            self.writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await self.writer.drain()

    async def gone(self) -> bool:
        """Whether the client closes within a second."""
        try:
            async with asyncio.timeout(1):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def fin(self) -> None:
        self.writer.close()

    def rst(self) -> None:
        sock = self.writer.get_extra_info("socket")
        if sock is not None:  # else the other side was first
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Raw:
    """A server that plays a script on every connection."""

    def __init__(self, script: Callable[[Peer], Awaitable[object]]) -> None:
        self.script = script
        self.peers: list[Peer] = []
        self.requests: list[bytes] = []
        self.port = 0
        self.url = ""
        self.errors: list[BaseException] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.down: Callable[[], None] = lambda: None
        """Listen no more."""

    async def play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.tasks.add(task)
        peer = Peer(len(self.peers), reader, writer)
        self.peers.append(peer)
        try:
            await self.script(peer)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - told when the test ends
            self.errors.append(error)
        finally:
            self.tasks.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()


@contextlib.asynccontextmanager
async def serve(
    script: Callable[[Peer], Awaitable[object]],
    *,
    host: str = "127.0.0.1",
    path: str = "",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Raw]:
    raw = Raw(script)
    server: asyncio.AbstractServer
    if path:
        server = await asyncio.start_unix_server(raw.play, path)
        raw.url = f"unix:{path}"
    else:
        server = await asyncio.start_server(raw.play, host, 0, ssl=tls)
        raw.port = server.sockets[0].getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        raw.url = f"{'https' if tls else 'http'}://{shown}:{raw.port}"
    raw.down = server.close
    try:
        yield raw
    finally:
        server.close()
        if raw.tasks:
            for task in list(raw.tasks):
                task.cancel()
            for _ in range(3):
                await asyncio.sleep(0.005)
        assert not raw.errors, raw.errors


def replies(*answers: bytes) -> Callable[[Peer], Awaitable[object]]:
    """A script that gives these answers on each connection, the last one for ever."""

    async def script(peer: Peer) -> None:
        number = 0
        while await peer.request():
            await peer.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def once(*pieces: bytes, end: str = "fin") -> Callable[[Peer], Awaitable[object]]:
    """A script that answers one request with these pieces and then goes, or stays."""

    async def script(peer: Peer) -> None:
        if not await peer.request():
            return
        await peer.send(*pieces)
        await asyncio.sleep(0.01)
        if end == "stay":
            await peer.gone()
        else:
            getattr(peer, end)()

    return script


def certificates(folder: Path) -> Path:
    """Make a CA and what it has signed."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test ca")
    for name, alt, days in (
        ("server", "DNS:model.test,DNS:localhost,IP:127.0.0.1", "2"),
        ("other", "DNS:elsewhere.test", "2"),
        ("old", "DNS:localhost,IP:127.0.0.1", "-1"),
        ("client", "DNS:proxy.test", "2"),
    ):
        (folder / f"{name}.ext").write_text(f"subjectAltName={alt}\nauthorityKeyIdentifier=keyid\n")
        openssl("req", *ec, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.crt", "-days", days, "-extfile", f"{name}.ext",
        )  # fmt: skip
        both = (folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text()
        (folder / f"{name}.pem").write_text(both)
    return folder
