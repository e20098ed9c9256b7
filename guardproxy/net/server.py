"""The HTTP front: what listens, and how it ends.

Here belong the listening sockets, the count of callers and the end of both.  What a caller sends and gets is
elsewhere: caller (turns), inlet and outlet (a request, its answer).  Nothing outside of `net` knows what is in
front of a handler.

    serving   -- drain -->  draining  -- stop_accepting -->  deaf  -- close -->  closed
    Draining: answers carry ``Connection: close``, resting connections are closed, new ones still come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any, NoReturn, final

from aiohttp import web

from guardproxy.net.caller import Caller
from guardproxy.net.front import Envelope, Front, Handler, Hook, ServerLimits
from guardproxy.net.inlet import Body, Malformed, Request, TooLarge, TooSlow, Unreadable
from guardproxy.net.listen import UNIX, close_all, name_of, open_sockets
from guardproxy.net.outlet import Outlet

BACKLOG = 1024
"""Connections the kernel holds until they are accepted."""
LAST_WORDS = 1.0
"""Seconds for cancelled handlers to end, and again for what they wrote to be read."""
_PAUSE = 0.005
"""Seconds between two looks at who is still there."""


class _Register(web.Server):
    """aiohttp's register of connections; without its failsafe, which drops every setting where one is unknown."""

    def __init__(self, front: Front) -> None:
        super().__init__(_never)
        self._front = front

    def __call__(self) -> Caller:
        """Make the protocol of one connection."""
        settings = self._front.settings
        return Caller(
            self,
            self._front,
            self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=0,
            max_field_size=settings.line_bytes,
            max_headers=settings.fields,
            max_line_size=settings.line_bytes,
            read_bufsize=settings.body_buffer,
        )


@final
class Server:
    """Listens, and gives every request to one handler."""

    def __init__(
        self,
        handler: Handler,
        *,
        settings: ServerLimits | None = None,
        error: Envelope,
        on_error: Hook | None = None,
    ) -> None:
        self._front = Front(handler, settings or ServerLimits(), error, on_error)
        self._manager: _Register | None = None
        self._listening: list[asyncio.AbstractServer] = []
        self._paths: list[tuple[Path, int]] = []
        self.addresses: list[str] = []
        """Where it listens, port 0 resolved."""

    def __repr__(self) -> str:
        condition = "draining" if self._front.draining else "serving"
        return f"<Server {condition} {' '.join(self.addresses) or 'deaf'} connections={self.connections}>"

    @property
    def connections(self) -> int:
        """How many callers are connected."""
        return len(self._front.callers)

    @property
    def turned_away(self) -> int:
        """How many connections have been one too many."""
        return self._front.turned_away

    async def start(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        """Listen on ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT`` or ``unix:/path``; may be called for several.

        Raises `OSError` naming the address where it cannot be had, `ValueError` where it is none.
        """
        if self._manager is None:
            self._manager = _Register(self._front)
        loop = asyncio.get_running_loop()
        patience = self._front.settings.header_timeout
        secured: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": patience}
        sockets = await open_sockets(address)
        try:
            for sock in sockets:
                name = name_of(sock)
                if sock.family == socket.AF_UNIX:
                    self._remember(Path(name.removeprefix(UNIX)))
                    server: Any = await loop.create_unix_server(self._manager, sock=sock, backlog=BACKLOG, **secured)
                else:
                    server = await loop.create_server(self._manager, sock=sock, backlog=BACKLOG, **secured)
                self._listening.append(server)
                self.addresses.append(name)
        except BaseException:
            close_all(sockets)
            raise

    def drain(self, *, local: bool = False) -> None:
        """From now on every answer is the last on its connection; new connections still come in.

        Connections that only rest are closed; with *local* those from loopback stay until their next answer or the end:
        a caller may be sending on one at this moment, and is still served.
        """
        self._front.draining, self._front.gentle = True, local
        for caller in list(self._front.callers):
            caller.disturb()
            if not (local and caller.local):
                caller.release()

    async def stop_accepting(self) -> None:
        """Close the listening sockets; connections stay."""
        for server in self._listening:
            server.close()
        self._listening.clear()
        self.addresses.clear()
        self._tidy()
        await asyncio.sleep(_PAUSE)  # whoever is being accepted this moment is in, too

    async def close(self, grace: float) -> None:
        """End: requests at work have *grace* seconds, then their handlers are cancelled."""
        await self.stop_accepting()
        self.drain()
        clock = asyncio.get_running_loop().time
        until = clock() + grace
        while (busy := self._at_work()) and clock() < until:  # noqa: ASYNC110 - as below
            await asyncio.sleep(min(until - clock(), _PAUSE))
        self._front.stopping = True
        if tasks := [task for caller in busy if (task := caller.interrupt()) is not None]:
            await asyncio.wait(tasks, timeout=LAST_WORDS)
        until = clock() + LAST_WORDS
        while self._front.callers and clock() < until:  # noqa: ASYNC110 - an event would cost every connection
            await asyncio.sleep(_PAUSE)
        for caller in list(self._front.callers):
            caller.drop()
        await asyncio.sleep(0)

    def _remember(self, path: Path) -> None:
        self._paths.append((path, path.stat().st_ino))

    def _tidy(self) -> None:
        for path, inode in self._paths:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:  # else somebody else listens there by now
                    path.unlink()
        self._paths.clear()

    def _at_work(self) -> list[Caller]:
        return [caller for caller in list(self._front.callers) if caller.dismiss()]


async def _never(request: web.BaseRequest) -> NoReturn:
    """Stand where aiohttp wants a handler; nothing calls it."""
    raise AssertionError(request)


__all__ = [
    "Body",
    "Envelope",
    "Handler",
    "Hook",
    "Malformed",
    "Outlet",
    "Request",
    "Server",
    "ServerLimits",
    "TooLarge",
    "TooSlow",
    "Unreadable",
]
