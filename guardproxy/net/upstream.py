"""An upstream as the rest of the program sees it: something a request is sent to.

Here belongs the way of a request to a connection, and what is said where there is none.  Not here: which
connection it is (pool), how one is made (address), what an answer is (framing) and what a request goes
through (exchange).
"""

from __future__ import annotations

import asyncio
import errno
import ssl
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, final

from guardproxy.core.values import Fault, Kind
from guardproxy.net.address import Dialer, explain, fingerprint, parse, tls_context
from guardproxy.net.connection import Connection
from guardproxy.net.exchange import Exchange, Sink
from guardproxy.net.pool import Limits, Pool, Wait
from guardproxy.net.request import UNKNOWN_LENGTH, compose
from guardproxy.net.upload import Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from guardproxy.core.values import Headers

__all__ = ["Exchange", "Limits", "Sink", "Upstream"]

_OUT_OF = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL))
"""What this machine, not the upstream, has run out of."""


@final
class Upstream:
    """A model server, and the connections to it."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        settings: Limits | None = None,
        ca_file: str | None = None,
        client_cert: str | tuple[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens nothing yet; raises `ValueError` where *url* or a file cannot be used."""
        address = parse(url)
        self.name = name
        self.host_header = address.authority
        """What is sent as ``Host``."""
        self.base_path = address.base
        """What is put before every target: the path of the url without its ``/v1``."""
        self._base = address.base.encode("ascii")
        self._shown = address.path or address.authority.decode("ascii")
        self._limits = settings or Limits()
        self._clock = clock
        self._pool = Pool(self._limits, clock)
        tls = tls_context(ca_file, client_cert) if address.tls else None
        ours = (client_cert,) if client_cert is None or isinstance(client_cert, str) else client_cert
        self._files = (ca_file, *ours) if address.tls else ()
        self._read = fingerprint(*self._files)
        self._dialer = Dialer(address, tls, self._limits.dns_ttl, clock, self._pool.keep_only)
        self._tasks: set[asyncio.Task[Connection | Fault]] = set()

    @property
    def current(self) -> bool:
        """Whether its certificates are what is in the files now."""
        return fingerprint(*self._files) == self._read

    @property
    def open(self) -> int:
        """How many connections are open or being opened."""
        return self._pool.open

    @property
    def idle(self) -> int:
        """How many connections wait for use."""
        return len(self._pool.idle)

    @property
    def waiting(self) -> int:
        """How many requests wait for a connection."""
        return len(self._pool.waiters)

    def __repr__(self) -> str:
        condition = "closed, " if self._pool.closed else ""
        return f"<Upstream {self.name}: {condition}open {self.open}, idle {self.idle}, waiting {self.waiting}>"

    async def send(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        sink: Sink,
        repeat: bool = True,
    ) -> Exchange | Fault:
        """Send a request; its answer goes to *sink*.  Does not suspend where an idle connection can be used.

        *target* begins with a slash, ``/v1`` included.  Of *headers*, those that frame the message are left out.
        *repeat*: whether it may go once more where a reused connection turns out to have died.
        A large body is still being written when this returns, as one from an iterator is.
        """
        came = self._prepare(method, target, headers, body, sink, repeat)
        if type(came) is Exchange:
            connection = self._idle() or await self._obtain()
            if isinstance(connection, Fault):
                return connection
            came.start(connection)
        return came

    def at_once(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        sink: Sink,
        repeat: bool = True,
    ) -> Exchange | Fault | None:
        """Do what `send` does, where an idle connection can be used; None where none can, and nothing was done."""
        connection = self._idle()
        if connection is None:
            return None
        came = self._prepare(method, target, headers, body, sink, repeat)
        if type(came) is Exchange:
            came.start(connection)
        else:
            self._pool.release(connection, keep=True)
        return came

    def _idle(self) -> Connection | None:
        if not self._pool.idle:
            return None
        now = self._clock()
        if now >= self._dialer.expires:
            self._dialer.renew_soon()
        return self._pool.pop(now)

    def _prepare(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        sink: Sink,
        repeat: bool,
    ) -> Exchange | Fault:
        if isinstance(body, bytes):
            length = len(body)
        elif body is None:
            length = 0
        else:  # some servers read no chunks: what was declared is declared again
            declared = body.length if isinstance(body, Upload) else None
            length = UNKNOWN_LENGTH if declared is None else declared
        head = compose(method, self._base + target, self.host_header, headers, length)
        if isinstance(head, str):
            what = f"was not asked: {head}"
            return self.fault("invalid_request", what, status=400, kind=Kind.IGNORED, sent=False)
        return Exchange(self, head, body, sink, bodyless=method == b"HEAD", repeat=repeat)

    async def close(self) -> None:
        """Take no more requests and close what is idle; exchanges under way end by themselves."""
        self._pool.close()
        self._dialer.close()
        await asyncio.sleep(0)  # the transports tell of their end in the next round
        await asyncio.sleep(0)

    # -- for exchanges

    def release(self, connection: Connection, *, keep: bool) -> None:
        """Take a connection back."""
        self._pool.release(connection, keep=keep)

    def free(self) -> None:
        """Take back the place of a connection that is no more."""
        self._pool.free()

    def reopen(self, exchange: Exchange) -> asyncio.Task[Connection | Fault]:
        """Start *exchange* once more on a fresh connection, in the place that it holds."""
        task = asyncio.get_running_loop().create_task(self._connect())
        self._tasks.add(task)

        def opened(task: asyncio.Task[Connection | Fault]) -> None:
            # In a callback, for a task that is cancelled before its first step runs nothing of its own.
            self._tasks.discard(task)
            got = self._unused() if task.cancelled() else task.result()
            if isinstance(got, Connection) and exchange.waiting and got.alive:
                exchange.start(got)
                return
            if isinstance(got, Connection):
                got.drop()
                got = self._stillborn()
            self._pool.free()
            if exchange.waiting:
                exchange.failed(replace(got, sent=True))

        task.add_done_callback(opened)
        return task

    def fault(self, code: str, what: str, *, status: int = 502, kind: Kind = Kind.FAILURE, sent: bool = True) -> Fault:
        """Say what happened, in the name of this upstream."""
        retry_after = 1.0 if code == "overloaded" else None
        message = f"upstream {self.name!r} {what}"
        fault = Fault(self._clock(), code, message, status=status, kind=kind, retry_after=retry_after, sent=sent)
        fault.again = code != "upstream_protocol"  # bad HTTP is not bad luck
        return fault

    # -- within

    async def _obtain(self) -> Connection | Fault:
        """A connection that came free, or a new one."""
        limits = self._limits
        got: Connection | Fault | Wait = await self._pool.place()
        if got is Wait.FULL:
            return self._overloaded(
                f"has all {limits.pool_size} connections in use and {self.waiting} requests waiting"
            )
        if got is Wait.LATE:
            what = f"had all {limits.pool_size} connections in use for {limits.queue_timeout:g} s (queue timeout)"
            return self._overloaded(what)
        if got is Wait.CLOSED:
            return self._unused()
        if isinstance(got, Connection):
            return got
        try:
            opened = await self._connect()
        except BaseException:
            self._pool.free()
            raise
        if isinstance(opened, Fault):
            self._pool.free()
        return opened

    async def _connect(self) -> Connection | Fault:
        """Open a connection; who called holds its place."""
        limits = self._limits
        span = asyncio.timeout(limits.connect)
        connection = Connection(self._pool, self._clock(), limits.head_bytes, limits.head_fields)
        shaking = asyncio.Event()
        try:
            async with span:
                await self._dialer.dial(lambda: connection, shaking.set)
        except Exception as error:  # noqa: BLE001 - loops, ssl and resolvers differ in what they raise; all end here
            connection.drop()
            traceback.clear_frames(error.__traceback__)  # those of a library keep the error itself: a circle
            if span.expired() and shaking.is_set():
                what = f"did not end its TLS handshake within {limits.connect:g} s (connect timeout)"
                fault = self.fault("upstream_unreachable", what, sent=False)
                fault.again = False  # whoever does not speak TLS will not learn it meanwhile
                return fault
            if span.expired():
                what = f"could not be connected to ({self._shown}) within {limits.connect:g} s (connect timeout)"
                return self.fault("upstream_timeout", what, status=504, sent=False)
            if isinstance(error, OSError) and error.errno in _OUT_OF:
                return self._overloaded(f"could not be connected to: {explain(error)} on this side")
            what = f"could not be connected to ({self._shown}): {explain(error)}"
            fault = self.fault("upstream_unreachable", what, sent=False)
            fault.again = not isinstance(error, ssl.SSLError)  # a certificate does not mend itself meanwhile
            return fault
        except asyncio.CancelledError:
            connection.disown()  # uvloop does not tell a protocol of its end that was made in this very round
            del span  # holds the task, which holds how it ends, and so this frame: a circle
            raise
        if connection.alive:
            return connection
        connection.disown()
        return self._stillborn()

    def _stillborn(self) -> Fault:
        return self.fault("upstream_reset", "closed the connection before it was asked", sent=False)

    def _unused(self) -> Fault:
        return self.fault("upstream_unreachable", "is no longer used", kind=Kind.IGNORED, sent=False)

    def _overloaded(self, what: str) -> Fault:
        return self.fault("overloaded", what, status=503, kind=Kind.IGNORED, sent=False)
