r"""One connection to an upstream, and what becomes of it.

Here belongs how a request is written, how what comes back reaches its sink, and whether the connection may
be used again.  Not here: what the bytes mean (framing), who uses a connection when (upstream) and what
becomes of a request whose connection has died (exchange).

    condition \ event     bytes              end of answer     clean FIN           lost, bad HTTP
    idle                 close              –                 close               close
    waiting (no byte)    → answering        –                 broken: reset       broken
    answering            tell head, data    done → idle       broken: reset       broken
    … until the end      tell data          –                 done → closed       broken
    closed               nothing            nothing           nothing             nothing

`done` and `broken` are told to the exchange at most once, and last.  Bytes behind the end of an answer, an
answer that came before its request was out, and every doubt close the connection instead of freeing it.
"""

from __future__ import annotations

import asyncio
import select
import ssl
from typing import TYPE_CHECKING, cast, final

from guardproxy.net.address import explain
from guardproxy.net.framing import Framing

if TYPE_CHECKING:
    from guardproxy.net.party import Owner, Party

TOGETHER = 64 * 1024
"""Bytes of body up to which head and body leave in one write."""
SLICE = 256 * 1024
"""Bytes of a larger body that are handed to the transport at a time."""
FLOOD = 64 * 1024
"""Bytes at once that tell of more to come: the loop reads up to two megabytes before it is anybody else's turn."""
_RESET, _PROTOCOL = "upstream_reset", "upstream_protocol"


@final
class Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time."""

    __slots__ = (
        "_framing", "_owner", "_party", "_paused", "_poll", "_rest", "_transport", "born", "closed", "full", "peer",
        "retired", "since", "touched", "unsent", "used",
    )  # fmt: skip

    def __init__(self, owner: Owner, now: float, max_head: int, max_fields: int) -> None:
        self.born = self.since = now
        """When it was opened, and when it was last put aside."""
        self.closed = True
        """Whether it is no more, or not yet."""
        self.retired = False
        """Whether its address is no longer one of the upstream's: not to be kept."""
        self.peer = ""
        """The address at its other end."""
        self.touched = False
        """Whether any byte of the present answer has come."""
        self.used = False
        """Whether it has carried an exchange to its end."""
        self.full = False
        """Whether the transport wants no more for now."""
        self.unsent = False
        """Whether part of the present request is still to be handed to the transport."""
        self._owner = owner
        self._framing = Framing(max_head, max_fields)
        self._party: Party | None = None
        self._rest: memoryview | None = None
        self._paused = False

    # -- from the pool and the exchange

    def begin(self, party: Party, head: bytes, body: bytes, *, bodyless: bool, more: bool) -> None:
        """Write a request and expect its answer; *bodyless*: a HEAD, *more*: the body follows by `write`."""
        self._party = party
        self.touched = False
        self.unsent = more
        self._framing.expect(bodyless=bodyless)
        if len(body) <= TOGETHER:
            self._transport.write(head + body if body else head)
        else:
            self._transport.write(head)
            self._rest = memoryview(body)
            self.unsent = True
            self._pump()

    def write(self, data: bytes, *, last: bool) -> None:
        """Write more of a request."""
        self.unsent = not last
        self._transport.write(data)

    def fit(self, now: float, idle: float, max_age: float) -> bool:
        """Whether it can carry a request: young, alive, and without a byte or FIN waiting to be read."""
        if self.closed or self.retired or now - self.since >= idle or now - self.born >= max_age:
            return False
        return not self._transport.is_closing() and not self._poll.poll(0)

    @property
    def alive(self) -> bool:
        """Whether it can be written to."""
        return not self.closed and not self._transport.is_closing()

    def stirring(self) -> bool:
        """Whether something waits to be read; best read before writing on, which may fail and lose it."""
        return bool(self._poll.poll(0))

    def drop(self) -> None:
        """Close it at once; nobody is told anything more."""
        self._party = self._rest = None
        if not self.closed:
            self.closed = True
            self._transport.abort()
            self._owner.forget(self)
        self._framing.close()

    def disown(self) -> None:
        """Drop it before anybody used it, also where the loop will not tell of its end: it holds its transport."""
        self.drop()
        if hasattr(self, "_transport"):
            del self._transport

    def pause(self) -> None:
        """Read nothing until `resume`."""
        self._paused = True
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._transport.resume_reading()

    def __repr__(self) -> str:
        if self.closed:
            condition = "closed"
        elif self._party is None:
            condition = "idle"
        else:
            condition = "answering" if self.touched else "waiting"
        return f"<Connection {condition}>"

    # -- from the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)
        self.closed = False
        name = transport.get_extra_info("peername")
        self.peer = str(name[0]) if isinstance(name, tuple) else ""
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._owner.remember(self)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        party = self._party
        if party is None:
            self._abandon()  # bytes that nobody asked for
            return
        self.touched = True
        framing = self._framing
        what = framing.feed(data)
        head = framing.head
        if head is not None:
            framing.head = None
            if self.unsent and framing.status >= 300:
                self._rest = None
                party.enough()
            party.sink.head(framing.status, head)
            if self._party is not party:
                return
        pieces = framing.pieces
        if pieces:
            framing.pieces = []
            party.sink.data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if self._party is not party:
                return
        if framing.complete:
            self._end(party, keep=framing.reusable)
        elif what:
            self._break(party, _PROTOCOL, what)
        elif len(data) >= FLOOD and not self._paused:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._breathe)

    def eof_received(self) -> None:  # noqa: D102
        party = self._party
        if party is None:
            self._abandon()
        elif self._framing.until_eof and self._said_goodbye():
            self._end(party, keep=False)
        else:
            self._break(party, _RESET, f"closed the connection {self._where()}")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        party, self._party = self._party, None
        self._rest = None
        self.closed = True
        self._owner.forget(self)
        self._framing.close()
        if party is None:
            self._owner.gone(self)
        else:
            how = "reset" if isinstance(exc, ConnectionResetError) else "broke" if exc else "closed"
            why = f" ({explain(exc)})" if exc and how == "broke" else ""
            party.broken(self, _RESET, f"{how} the connection {self._where()}{why}")

    def pause_writing(self) -> None:  # noqa: D102
        self.full = True

    def resume_writing(self) -> None:  # noqa: D102
        self.full = False
        if self._rest is not None:
            self._pump()
        elif self._party is not None:
            self._party.room()

    # -- within

    def _pump(self) -> None:
        """Hand the transport slices of a large body until it has enough."""
        rest = self._rest
        while rest is not None and not self.full and not self._transport.is_closing():
            self._transport.write(rest[:SLICE])
            rest = rest[SLICE:] if len(rest) > SLICE else None
        self._rest = rest
        self.unsent = rest is not None

    def _breathe(self) -> None:
        """Others have had their turn: read on."""
        if not self._paused and not self.closed:
            self._transport.resume_reading()

    def _end(self, party: Party, *, keep: bool) -> None:
        transport = self._transport
        self._party = self._rest = None
        unsent = self.unsent or transport.get_write_buffer_size()
        party.done(self, keep and not unsent and not transport.is_closing())

    def _break(self, party: Party, code: str, what: str) -> None:
        self.drop()
        party.broken(self, code, what)

    def _abandon(self) -> None:
        self.drop()
        self._owner.gone(self)

    def _where(self) -> str:
        if not self.touched:
            return "before it answered"
        return "before its answer was complete" if self._framing.status else "in the middle of a head"

    def _said_goodbye(self) -> bool:
        """Whether a TLS peer has ended the stream itself: a bare FIN may be anybody's (RFC 9112 § 9.8)."""
        tls = self._transport.get_extra_info("ssl_object")
        if tls is None:
            return True
        try:
            return not tls.read(1)
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLError:
            return False
