"""The bytes that come in on a connection, up to the queue of requests.

Here belongs what the parser cannot tell or does not do: how large a head has become, when one has begun, what a
fault in a body means for its reader, and that nothing behind a fault is read.  Not here: the rules for one
complete head (inlet) and what is answered (caller).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, BadStatusLine, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from guardproxy.net.inlet import Malformed
from guardproxy.net.patience import FRESH, HEAD, IDLE, Patient
from guardproxy.net.seam import Refused

if TYPE_CHECKING:
    import asyncio

    from aiohttp.streams import StreamReader

    from guardproxy.net.front import Front


class Intake(Patient):
    """A connection that keeps account of what it reads."""

    __slots__ = ("_doubt", "arrivals", "incoming", "partial")

    def __init__(self, manager: Any, front: Front, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, front, loop, **settings)
        self.arrivals: deque[float] = deque()
        """When the heads in the queue were complete."""
        self.incoming: StreamReader = EMPTY_PAYLOAD
        """The body that bytes are being read into."""
        self.partial = 0
        """Bytes of a head that is not complete yet."""
        self._doubt = False
        """Whether bytes behind the incoming body may have been lost (an upgrade was asked for)."""

    def data_received(self, data: bytes) -> None:
        """Feed the parser and keep account."""
        if self.deaf:
            return
        queue, incoming = self.queue, self.incoming
        queued, in_body = len(queue), not incoming.is_eof()
        read = incoming.total_bytes if self._doubt else 0
        try:
            self.feed(data)
        except Exception as error:  # noqa: BLE001 - bytes that the parser's authors did not foresee
            self._fault(in_words(error))
            return
        if len(queue) > queued:
            self._count_heads(data, queued)
            self.ready()
        elif self._doubt:
            # Where an upgrade's body ended exactly where these bytes do, nothing behind it was dropped.
            self._doubt = not incoming.is_eof() or incoming.total_bytes - read != len(data) or self.switched
            self.deaf = self._doubt and incoming.is_eof()
        elif data and not in_body:
            self._part_of_head(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of all bodies: each holds its connection, and that would be a circle."""
        super().connection_lost(exc)
        self.incoming = EMPTY_PAYLOAD
        self.queue.clear()

    def refuse_next(self, refused: Refused) -> None:
        """Note when, as for any request."""
        self.arrivals.append(self.now())
        super().refuse_next(refused)

    def _count_heads(self, data: bytes, queued: int) -> None:
        queue, bound = self.queue, self.front.settings.head_bytes
        large = self.partial + len(data) > bound
        now = self.now()
        for index in range(queued, len(queue)):
            message = queue[index][0]
            if not isinstance(message, RawRequestMessage):
                del queue[index]
                self._fault(in_words(message.exc))
                return
            if large and _weigh(message) > bound:
                while len(queue) > index:
                    queue.pop()
                self.refuse_next(_too_large(bound))
                return
            self.arrivals.append(now)
        message, self.incoming = queue[-1]
        self.partial = 0
        self._doubt = False
        if message.upgrade:
            # aiohttp drops what follows an upgrade that it does not know (h2c) in the same piece of bytes.
            end = data.find(b"\r\n\r\n") + 4 + self.incoming.total_bytes
            self._doubt = not self.incoming.is_eof() or end != len(data) or message.chunked or self.switched
            self.deaf = self._doubt and self.incoming.is_eof()

    def _part_of_head(self, data: bytes) -> None:
        if not self.partial and not data.strip(b"\r\n"):
            return  # some old clients end a body with a line break too many (RFC 9112 § 2.2)
        settings = self.front.settings
        self.partial += len(data)
        if self.partial > settings.head_bytes:
            self.refuse_next(_too_large(settings.head_bytes))
        elif self.phase in (FRESH, IDLE):
            self.rest(HEAD, settings.header_timeout)

    def _fault(self, refused: Refused) -> None:
        """Refuse what comes next; a fault in a body is told to its reader instead."""
        if self.incoming.is_eof():
            self.refuse_next(refused)
        else:
            self.deaf = True
            self.incoming.set_exception(Malformed(refused.text))


def in_words(error: BaseException) -> Refused:
    """Say what the parser holds against a request, and nothing of what it quotes: that may be a secret."""
    if isinstance(error, LineTooLong):
        return Refused(431, "request_too_large", "a line in the head of the request is too long")
    words = "the request is not valid HTTP"
    if type(error) in (BadHttpMessage, BadHttpMethod, BadStatusLine):
        lines = [line.strip(" :") for line in str(getattr(error, "message", "")).split("\n")]
        words = ": ".join([words, *(line for line in lines if line and line[:2] not in ("b'", 'b"') and line != "^")])
    return Refused(400, "invalid_request", words)


def _weigh(message: RawRequestMessage) -> int:
    """Tell the bytes of a head, near enough."""
    return len(message.path) + sum(len(name) + len(value) + 4 for name, value in message.raw_headers)


def _too_large(bound: int) -> Refused:
    return Refused(431, "request_too_large", f"the head of the request is larger than {bound} bytes")
