"""A caller who sends exactly the bytes a test says, and a front for him to call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from guardproxy.net.server import Server, ServerLimits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from guardproxy.core.values import Headers
    from guardproxy.net.server import Handler, Outlet, Request

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOON = 3.0
"""Seconds after which a test that waits has failed."""


def post(body: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join(
        [b"POST /v1/x HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *fields, b"", body],
    )


def envelope(status: int, code: str, message: str) -> tuple[Headers, bytes]:
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": code}}).encode()
    headers = [(b"Content-Type", b"application/json")]
    if status == 503:
        headers.append((b"Retry-After", b"1"))
    return headers, body


@dataclass
class Heard:
    """One answer, as a strict reader takes it."""

    status: int
    fields: dict[bytes, bytes]
    body: bytes
    head: bytes

    @property
    def code(self) -> str:
        assert self.fields[b"content-type"] == b"application/json"
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return str(error["code"])


class Phone:
    """The caller's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def half_close(self) -> None:
        self.writer.write_eof()

    async def hang_up(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def head(self) -> bytes:
        async with asyncio.timeout(SOON):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def hear(self, *, bodiless: bool = False) -> Heard:
        """Read one answer: fails where two readers could take it differently."""
        async with asyncio.timeout(SOON):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *lines = head[:-4].split(b"\r\n")
            assert line.startswith(b"HTTP/1.1 ")
            pairs = [(name.lower(), value) for name, _, value in (item.partition(b": ") for item in lines)]
            fields = dict(pairs)
            assert len(fields) == len(pairs), pairs
            status = int(line[9:12])
            body = b""
            assert not (b"content-length" in fields and b"transfer-encoding" in fields)
            if bodiless or status in (204, 304):
                pass
            elif b"content-length" in fields:
                body = await self.reader.readexactly(int(fields[b"content-length"]))
            elif b"transfer-encoding" in fields:
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += await self.reader.readexactly(size)
                    assert await self.reader.readexactly(2) == b"\r\n"
                assert await self.reader.readexactly(2) == b"\r\n"
            else:
                body = await self.reader.read()
        return Heard(status, fields, body, head)

    async def rest(self, within: float = SOON) -> bytes:
        """Read until the server closes."""
        async with asyncio.timeout(within):
            return await self.reader.read()

    async def silent(self, seconds: float = 0.05) -> bool:
        """Whether nothing comes for a while and the connection stays."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False


@dataclass
class House:
    """A front that listens, and what it let be known."""

    server: Server
    address: str
    faults: list[tuple[BaseException, Request | None]]
    phones: list[Phone] = field(default_factory=list)

    async def dial(self, address: str | None = None, **options: int) -> Phone:
        address = address or self.address
        if address.startswith("unix:"):
            phone = Phone(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
        else:
            host, _, port = address.rpartition(":")
            sock = socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET)
            if window := options.get("window"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            sock.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(sock, (host.strip("[]"), int(port)))
            except OSError:
                sock.close()
                raise
            phone = Phone(*await asyncio.open_connection(sock=sock, limit=2**16))
        self.phones.append(phone)
        return phone

    async def ask(self, *parts: bytes) -> Heard:
        """Send on a fresh connection, and read one answer."""
        phone = await self.dial()
        phone.send(*parts)
        return await phone.hear()

    @property
    def phases(self) -> list[str]:
        return sorted(repr(caller) for caller in self.server._front.callers)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that has no event."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - it has none
            await asyncio.sleep(0.002)


async def hello(request: Request, outlet: Outlet) -> None:
    outlet.reply(200, [(b"Content-Type", b"text/plain")], request.target.encode())


async def echo(request: Request, outlet: Outlet) -> None:
    outlet.reply(200, [], await request.body.read(1 << 20, 2.0))


@contextlib.asynccontextmanager
async def serving(handler: Handler = hello, *, address: str = "127.0.0.1:0", **limits: float) -> AsyncIterator[House]:
    faults: list[tuple[BaseException, Request | None]] = []
    server = Server(
        handler,
        settings=ServerLimits(**limits),  # type: ignore[arg-type]
        error=envelope,
        on_error=lambda error, request: faults.append((error, request)),
    )
    await server.start(address)
    house = House(server, server.addresses[0], faults)
    try:
        yield house
    finally:
        for phone in house.phones:
            await phone.hang_up()
        await server.close(0)
        assert server.connections == 0
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if others:
            await asyncio.wait(others, timeout=SOON)
        assert not [task for task in others if not task.done()]
