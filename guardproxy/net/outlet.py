"""How an answer leaves.

Here belongs the one answer that each request has: what may follow what, and what frames its body.  Not here: how
a head is written (head), what the answer says (the handler) and when its connection ends (caller).

    state     reply, prepared   begin     write       flush   end       abort
    new       ended             held      error       –       error     aborted
    held      ended             error     streaming   stream. ended     aborted
    streaming error             error     same        –       ended *)  aborted
    ended     error             error     error       –       –         –
    aborted   error             error     –           –       –         –

    *) aborted where fewer bytes came than were declared: a caller must see a cut as a cut.

Once the caller has gone everything is taken and nothing is sent.  Whoever answers beyond the handler's own time has
taken `charge`: he is told where nobody waits for the answer any more, and says `finish` when he is done with it.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol, final

from guardproxy.net.head import CHUNKED, CLOSE, KEEP, compose, date, declared

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.values import Headers

WHOLE = 64 * 1024
"""Bytes; a longer body is handed to the socket as it is instead of being copied behind its head."""
LAST_CHUNK = b"0\r\n\r\n"
_BODILESS = (b"204", b"304")


class State(IntEnum):
    """How far an answer has come."""

    NEW = 0
    HELD = 1
    STREAMING = 2
    ENDED = 3
    ABORTED = 4


class Framing(IntEnum):
    """What tells the caller where the body ends."""

    CHUNKS = 0
    LENGTH = 1
    CLOSE = 2
    """Nothing but the end of the connection: HTTP/1.0."""
    NONE = 3
    """There is no body: HEAD, 204, 304."""


class Line(Protocol):
    """What an outlet needs of the connection under it."""

    transport: asyncio.Transport | None

    @property
    def writing_paused(self) -> bool:
        """Whether more is waiting to be read by the caller than should be."""

    def leaving(self) -> bool:
        """Whether the proxy is about to leave."""

    def last(self) -> bool:
        """Whether no request can follow the one being answered."""

    def relieved(self, then: Callable[[], None]) -> None:
        """Have *then* called once, as soon as writing is no longer paused or the caller has gone."""

    def answered(self) -> None:
        """Whoever had charge of the answer is done with it."""

    def broke(self, mistake: Exception) -> None:
        """Whoever had charge of the answer met a mistake of ours."""

    def cut(self, *, reset: bool) -> None:
        """End the connection; with *reset* so that even a reader without framing sees it was cut."""


@final
class Outlet:
    """The one answer to one request."""

    __slots__ = (
        "_framing", "_head_only", "_held", "_left", "_line", "_old", "begun", "closing", "finished", "gone", "left",
        "needed", "pausing", "state",
    )  # fmt: skip

    def __init__(self, line: Line, *, head_only: bool, old: bool, closing: bool) -> None:
        self._line = line
        self._head_only = head_only
        self._old = old
        self._held = b""
        self._left = 0
        self._framing = Framing.CHUNKS
        self.state = State.NEW
        self.begun = False
        """Whether anything has been written."""
        self.gone = False
        """Whether the caller has left."""
        self.left: Callable[[], None] | None = None
        """Called where the caller leaves, or the proxy ends, before `finish`; None: nobody has taken charge."""
        self.pausing = False
        """Whether whoever has charge only lets time pass before he asks again."""
        self.needed = False
        """Whether others listen, so that it goes on though the caller has left."""
        self.finished = False
        """Whether whoever had charge is done with it."""
        self.closing = closing
        """Whether the connection ends with this answer; may be set before its head leaves."""

    def __repr__(self) -> str:
        return f"<Outlet {self.state.name.lower()}{' begun' * self.begun}{' gone' * self.gone}>"

    @property
    def over(self) -> bool:
        """Whether nothing more can be said."""
        return self.state >= State.ENDED

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer in one block; a HEAD request gets the length alone."""
        self._replaceable()
        if status in (204, 304):
            head, body = compose(status, headers, self._connection()), b""
        else:
            length = len(body)
            if self._head_only:
                length, body = declared(headers, length), b""
            head = compose(status, headers, b"Content-Length: %d\r\n%b" % (length, self._connection()))
        self.state = State.ENDED
        self._send(head, body)

    def prepared(self, head: bytes, body: bytes) -> None:
        """Answer with a ready *head*: status line and fields without Date, those of the framing and the blank line."""
        self._replaceable()
        ours = date() + self._connection()
        bodiless = head[9:12] in _BODILESS
        if not bodiless:
            ours = b"Content-Length: %d\r\n%b" % (len(body), ours)
        self.state = State.ENDED
        self._send(b"%b%b\r\n" % (head, ours), b"" if bodiless or self._head_only else body)

    def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Start a stream: its head leaves with the first write, at `flush` or at the end, whichever comes first."""
        if self.state is not State.NEW:
            raise self._misuse("begun")
        framing = b""
        if self._head_only or status in (204, 304):
            self._framing = Framing.NONE
            if length is not None and status != 204:
                framing = b"Content-Length: %d\r\n" % length
        elif length is not None:
            self._framing, self._left = Framing.LENGTH, length
            framing = b"Content-Length: %d\r\n" % length
        elif self._old:
            self._framing, self.closing = Framing.CLOSE, True
        else:
            framing = CHUNKED
        self._held = compose(status, headers, framing + self._connection())
        self.state = State.HELD

    def write(self, chunk: bytes) -> None:
        """Send a piece of the body; an empty one is nothing.  Raises `ValueError` beyond the declared length."""
        if self.state not in (State.HELD, State.STREAMING):
            if self.state is State.ABORTED:
                return
            raise self._misuse("written to")
        if not chunk:
            return
        self.state = State.STREAMING
        held, self._held = self._held, b""
        if self._framing is Framing.CHUNKS:
            self._send(b"%b%x\r\n" % (held, len(chunk)), chunk, b"\r\n")
            return
        if self._framing is Framing.NONE:
            if held:
                self._send(held)
            return
        if self._framing is Framing.LENGTH:
            self._left -= len(chunk)
            if self._left < 0:
                self.abort()
                raise ValueError("more was written than the declared length")
        self._send(held, chunk)

    def flush(self) -> None:
        """Send the head now, where it is still held back."""
        if self.state is State.HELD:
            held, self._held = self._held, b""
            self.state = State.STREAMING
            self._send(held)

    def end(self) -> None:
        """End a stream as it must end."""
        if self.over:
            return
        if self.state is State.NEW:
            raise self._misuse("ended")
        if self._framing is Framing.LENGTH and self._left:
            self.abort()
            return
        held, self._held = self._held, b""
        self.state = State.ENDED
        if self._framing is Framing.CHUNKS:
            held += LAST_CHUNK
        if held:
            self._send(held)

    def abort(self) -> None:
        """End so that the caller sees a cut: what was written still leaves, but no end of the body."""
        if self.over:
            return
        self.state, self.closing = State.ABORTED, True
        self._held = b""
        if not self.gone:
            self._line.cut(reset=self._framing is Framing.CLOSE and self.begun)

    def charge(self, left: Callable[[], None]) -> None:
        """Take charge of the answer beyond the handler's time; *left* is called where nobody waits for it any more."""
        self.left = left

    def pause(self) -> bool:
        """Time has to pass before anybody is asked again; False where there is none left, since the proxy leaves."""
        self.pausing = not self._line.leaving()
        return self.pausing

    def finish(self) -> None:
        """Nothing more will be done for this answer: the next request may be served."""
        if not self.finished:
            self.left = None
            self.finished = True
            self._line.answered()

    def fail(self, mistake: Exception) -> None:
        """Whoever has charge of the answer met a mistake of ours: answer so, and tell the operator."""
        self._line.broke(mistake)

    def abandon(self) -> None:
        """No others listen any more: call it off, where the caller has gone or was cut."""
        self.needed = False
        if self.left is not None and (self.state is State.ABORTED or (self.gone and not self.over)):
            self.left()

    def choked(self) -> bool:
        """Whether the caller reads so slowly that writing should wait for `relieved`, or `drain`."""
        return self._line.writing_paused and not self.gone

    def relieved(self, then: Callable[[], None]) -> None:
        """Have *then* called once, as soon as the caller has read enough, or has gone."""
        self._line.relieved(then)

    async def drain(self) -> None:
        """Wait until the caller has read enough, or has gone; nothing is raised."""
        while self.choked():
            relief: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.relieved(lambda: None if relief.done() else relief.set_result(None))  # noqa: B023 -- awaited here
            await relief

    def _connection(self) -> bytes:
        if self.closing or self._line.last():
            self.closing = True
            return CLOSE
        return KEEP if self._old else b""

    def _send(self, head: bytes, body: bytes = b"", tail: bytes = b"") -> None:
        if self.gone:
            return
        transport = self._line.transport
        if transport is None or transport.is_closing():
            self.gone = True
        elif len(body) <= WHOLE:
            transport.write(b"%b%b%b" % (head, body, tail) if body else head)
            self.begun = True
        else:
            transport.writelines((head, body, tail))
            self.begun = True

    def _replaceable(self) -> None:
        if self.state > State.HELD:
            raise self._misuse("given")
        self._held = b""

    def _misuse(self, what: str) -> RuntimeError:
        return RuntimeError(f"an answer that is {self.state.name.lower()} cannot be {what}")
