"""One request under way: its upload, its second chance, its cancellation.

Here belongs what happens between the request's first byte and its answer's last, whichever connection
carries it.  Not here: framing (connection) and where connections come from (upstream).

A reused connection that dies before any byte of the answer was closed by the upstream while it was idle, as
far as anybody can know: the request goes once more, unseen, over a fresh one, unless a part of a body that
cannot be had again has been sent, or its caller says that it must not be repeated (RFC 9110 § 9.2.2).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol, final

from guardproxy.core.values import Fault, Kind
from guardproxy.net.connection import Connection
from guardproxy.net.inlet import Unreadable
from guardproxy.net.party import Sink as _Sink
from guardproxy.net.upload import Upload

Body = bytes | AsyncIterator[bytes] | None


class Sink(_Sink, Protocol):
    """What an exchange tells while its answer comes in: called from the loop, must not raise, never waits.

    Exactly one of `end` and `lost` is called, last; none after `Exchange.cancel`.
    """

    def lost(self, fault: Fault) -> None:
        """The answer will not come, or not be complete."""


class Pool(Protocol):
    """Where an exchange's connection comes from and goes to."""

    def release(self, connection: Connection, *, keep: bool) -> None:
        """Take a connection back."""

    def free(self) -> None:
        """A connection is no more: another may be opened."""

    def reopen(self, exchange: Exchange) -> asyncio.Task[Connection | Fault]:
        """Start the exchange once more on a fresh connection, in the place of the one that died."""

    def fault(self, code: str, what: str, *, status: int = 502, kind: Kind = Kind.FAILURE, sent: bool = True) -> Fault:
        """Say what happened."""


@final
class Exchange:
    """A request under way."""

    __slots__ = (
        "_body", "_bodyless", "_connection", "_consumed", "_gate", "_head", "_paused", "_pool", "_repeat", "_retry",
        "_upload", "reused", "sent", "sink",
    )  # fmt: skip

    def __init__(self, pool: Pool, head: bytes, body: Body, sink: Sink, *, bodyless: bool, repeat: bool) -> None:
        self.sink = sink
        self.sent = False
        """Whether any of the request may have reached the upstream."""
        self.reused = False
        """Whether its connection had carried another before."""
        self._pool = pool
        self._head = head
        self._body = body
        self._bodyless = bodyless
        self._repeat = repeat
        self._connection: Connection | None = None
        self._paused = False
        self._consumed = False
        self._gate: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._retry: asyncio.Task[Connection | Fault] | None = None

    # -- from whoever asked

    def pause(self) -> None:
        """Read no more of the answer until `resume`; what was read already may still come."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    def cancel(self) -> None:
        """Close the connection at once; the sink hears nothing more.  Does nothing once the exchange is over."""
        connection, self._connection = self._connection, None
        self._stop()
        if self._retry is not None:
            self._retry.cancel()  # gives its place back itself
            self._retry = None
        if connection is not None:
            connection.drop()
            self._pool.free()

    def __repr__(self) -> str:
        condition = "again" if self._retry else repr(self._connection) if self._connection else "over"
        return f"<Exchange {condition}{' paused' if self._paused else ''}>"

    # -- from the pool

    def start(self, connection: Connection) -> None:
        """Send the request over *connection*."""
        self._connection = connection
        self._retry = None
        self.reused = connection.used
        self.sent = True
        body = self._body
        if body is None or isinstance(body, bytes):
            connection.begin(self, self._head, body or b"", bodyless=self._bodyless, more=False)
        else:
            connection.begin(self, self._head, b"", bodyless=self._bodyless, more=True)
            if self._upload is None:
                self._upload = asyncio.get_running_loop().create_task(self._send_body(body))
            self.room()
        if self._paused:
            connection.pause()

    @property
    def waiting(self) -> bool:
        """Whether it still wants a connection for its second try."""
        return self._retry is not None

    def failed(self, fault: Fault) -> None:
        """There was no connection for the second try."""
        self._retry = None
        self._stop()
        self.sink.lost(fault)

    # -- from the connection

    def room(self) -> None:
        """More of the request may be written."""
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(None)

    def enough(self) -> None:
        """The answer is there already: stop sending."""
        self._stop()

    def done(self, connection: Connection, keep: bool) -> None:
        """The answer is complete."""
        self._connection = None
        self._stop()
        if self._paused and keep:
            connection.resume()
        self._pool.release(connection, keep=keep)
        self.sink.end()

    def broken(self, connection: Connection, code: str, what: str) -> None:
        """There will be no (more of the) answer."""
        self._connection = None
        if self.reused and self._repeat and not self._consumed and not connection.touched:
            self._retry = self._pool.reopen(self)
            return
        self._stop()
        self._pool.free()
        self.sink.lost(self._pool.fault(code, what))

    # -- within

    def _stop(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None

    async def _send_body(self, body: AsyncIterator[bytes]) -> None:
        left = body.length if isinstance(body, Upload) else None
        try:
            async for chunk in body:
                if chunk:  # an empty chunk would be the end
                    connection = await self._writable()
                    self._consumed = True
                    if left is None:
                        connection.write(b"%x\r\n%b\r\n" % (len(chunk), chunk), last=False)
                    else:
                        left -= len(chunk)
                        connection.write(chunk, last=left <= 0)
            if left is None:
                connection = await self._writable()
                self._consumed = True
                connection.write(b"0\r\n\r\n", last=True)
        except Unreadable as fault:  # the caller's own doing: he is told which
            self._upload = None
            self._source_failed(str(fault), fault.code, fault.status)
        except Exception as error:  # noqa: BLE001 - whatever the source of the body raises ends here as a fault
            self._upload = None
            self._source_failed(f"its body could not be read ({type(error).__name__})")
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                with contextlib.suppress(Exception):  # how the source tidies up is its own matter
                    await close()

    async def _writable(self) -> Connection:
        """The connection, as soon as there is one and it takes more."""
        while True:
            connection = self._connection
            if connection is None or connection.full:
                self._gate = asyncio.get_running_loop().create_future()
                await self._gate
                self._gate = None
            elif connection.stirring():
                # An early answer is read before a write can fail and take it along: this round and the next, for
                # asyncio runs what is ready before what it has just found readable.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                if self._connection is connection and not connection.full:
                    return connection
            else:
                return connection

    def _source_failed(self, why: str, code: str = "invalid_request", status: int = 400) -> None:
        connection = self._connection
        if connection is None and self._retry is None:
            return
        self.cancel()
        self.sink.lost(
            self._pool.fault(
                code,
                f"was not sent the whole request: {why}",
                status=status,
                kind=Kind.IGNORED,
            )
        )
