"""Taking in a whole answer.

Here belongs the sink that gathers an answer into memory, within bounds of size and time.  What the answer means
is for the story; answers that go on to the caller while they come are `relay`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.core.values import Answer, Fault
from guardproxy.net.head import dated
from guardproxy.openai.fields import value

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.core.dialect import Scan
    from guardproxy.core.values import Headers, Outcome
    from guardproxy.net.clocks import Clocks
    from guardproxy.net.exchange import Exchange


@final
class Gather:
    """Gathers one answer; *over* is called once with an `Answer` or a `Fault`."""

    __slots__ = (
        "_clocks",
        "_first",
        "_headers",
        "_limit",
        "_loop",
        "_over",
        "_parts",
        "_scan",
        "_size",
        "_status",
        "_streams",
        "_upstream",
        "exchange",
    )

    def __init__(
        self,
        upstream: str,
        clocks: Clocks,
        limit: int,
        loop: asyncio.AbstractEventLoop,
        over: Callable[[Outcome], None],
    ) -> None:
        self._upstream = upstream
        self._clocks = clocks
        self._limit = limit
        self._scan: Scan | None = None
        self._streams: Callable[[Headers], bool] = bool
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._first = 0.0
        self._status = 0
        self._headers: Headers = []
        self.exchange: Exchange | None = None
        self._over: Callable[[Outcome], None] | None = over

    def release(self) -> None:
        """Nobody waits for it any more."""
        self._over = None

    def read_along(self, scan: Scan, streams: Callable[[Headers], bool]) -> None:
        """Have *scan* read along where the header fields say that it *streams*.

        So a model that sends comments but no content, or stops half-way, or can no longer be right, is noticed while
        it happens.
        """
        self._scan, self._streams = scan, streams

    def head(self, status: int, headers: Headers) -> None:
        """Status and header fields have come."""
        self._status = status
        self._headers = dated(headers) if status >= 400 else headers
        if self._scan is not None and (not self._streams(headers) or value(headers, b"content-encoding") is not None):
            self._scan = None  # asked for events it answers otherwise
            self._clocks.plain()

    def data(self, chunk: bytes) -> None:
        """A piece of the body has come."""
        if self._scan is None:
            self._first = self._first or self._loop.time()
        elif self._scan.feed(chunk) and self._scan.begun:
            now = self._loop.time()
            self._first = self._first or now
            self._clocks.beat(now)
        self._parts.append(chunk)
        if self._scan is not None and self._scan.hopeless and self._over is not None:
            if self.exchange is not None:
                self.exchange.cancel()  # every token from here on would be thrown away
            now, body = self._loop.time(), b"".join(self._parts)
            hopeless = self._scan.hopeless
            made = Answer(now, self._status, self._headers, body, first=self._first, hopeless=hopeless)
            made.scan, made.streamed = self._scan, True
            self._tell(made)
            return
        self._size += len(chunk)
        if self._size > self._limit:
            message = f"upstream {self._upstream} sent more than {self._limit} bytes (limits.response_bytes)"
            self.fail(Fault(self._loop.time(), "upstream_protocol", message, again=False))

    def end(self) -> None:
        """It is whole."""
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        now = self._loop.time()
        self._tell(Answer(now, self._status, self._headers, body, first=self._first or now, scan=self._scan))

    def lost(self, fault: Fault) -> None:
        """It will not become whole."""
        fault.first = self._first
        self._tell(fault)

    def fail(self, fault: Fault) -> None:
        """Stop: too much or too late."""
        if self.exchange is not None:
            self.exchange.cancel()
        self.lost(fault)

    def _tell(self, outcome: Answer | Fault) -> None:
        over, self._over = self._over, None
        if over is not None:
            over(outcome)
