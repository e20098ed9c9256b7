"""The framing of answers: where one begins, and where it ends (RFC 9112 § 6).

Here belongs what one connection's bytes mean: llhttp reads the grammar, in its strict mode; which answers
have no body, which end with the connection and what may not be framed at all is decided here.  Not here:
sockets, and what follows from an answer's end (connection).

`feed` takes bytes as they come; what they brought stands in the attributes until the next call.  Any split
of the same bytes brings the same head, the same body and the same end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import httptools

if TYPE_CHECKING:
    from guardproxy.core.values import Headers

MAX_INTERIM = 16
"""How many 1xx answers may come before the real one."""


class _FramingError(Exception):
    """Stops the parser; says what is wrong."""


@final
class Framing:
    """Reads the answers that come over one connection, one at a time."""

    __slots__ = (
        "_bodyless", "_extra", "_fields", "_interim", "_keep", "_max_fields", "_max_head", "_parser", "_room",
        "_slack", "complete", "head", "pieces", "status", "until_eof",
    )  # fmt: skip

    def __init__(self, max_head: int, max_fields: int) -> None:
        self._max_head = max_head
        self._max_fields = max_fields
        self._parser = httptools.HttpResponseParser(self)
        # An interim answer with `Connection: close` is followed by the real one; ends are judged here anyway.
        self._parser.set_dangerous_leniencies(lenient_keep_alive=True)
        self._fields: Headers = []
        self.expect(bodyless=False)

    def expect(self, *, bodyless: bool) -> None:
        """Make ready for the next answer; *bodyless*: to a HEAD."""
        self.status = 0
        """The answer's status, 0 until its head is complete."""
        self.head: Headers | None = None
        """The answer's header fields; whoever tells them on sets this to None."""
        self.pieces: list[bytes] = []
        """The body's bytes; whoever tells them on sets this to an empty list."""
        self.complete = False
        """Whether the answer has ended."""
        self.until_eof = False
        """Whether the answer ends with the connection."""
        self._bodyless = bodyless
        self._keep = True
        self._extra = False
        self._room = self._max_head
        self._interim = self._slack = 0

    @property
    def reusable(self) -> bool:
        """Whether, the answer being complete, another may follow on this connection."""
        return self._keep and not self._extra

    def feed(self, data: bytes) -> str:
        """Take what came; return what is wrong with it, or nothing.  What came before the wrong counts."""
        feed = self._parser.feed_data
        told = self.status
        try:
            if told:
                feed(data)
            elif len(data) <= self._room:
                self._room -= len(data)
                feed(data)
            else:  # cut at the limit, so that a head is too large or not however its bytes were split
                view = memoryview(data)
                feed(view[: self._room])
                if not self.status:
                    return f"sent a head of more than {self._max_head} bytes"
                feed(view[self._room :])
        except httptools.HttpParserError as error:
            self._extra = True
            if isinstance(error.__context__, _FramingError):
                return str(error.__context__)
            reason = str(error)
            return f"broke HTTP: {reason[:1].lower()}{reason[1:]}"
        if self.pieces:
            self._slack = 0
        elif told and not self.complete:
            self._slack += len(data)
            if self._slack > self._max_head:
                return "sent trailers or chunk extensions without end"
        return ""

    def close(self) -> None:
        """Let the parser go, which holds our methods: without the circle nothing has to be collected."""
        if hasattr(self, "_parser"):
            del self._parser

    # -- from the parser

    def on_message_begin(self) -> None:
        """A head begins: an interim answer's, the answer's, or bytes behind the end."""
        self._fields = []
        self._extra = self.complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header field, or a trailer field: those are let go."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """A head is complete: decide what it is, and how its body ends."""
        if self.complete:
            return
        parser = self._parser
        status, version = parser.get_status_code(), parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise _FramingError(f"answered in HTTP/{version}")
        if len(self._fields) > self._max_fields:
            raise _FramingError(f"sent more than {self._max_fields} header fields")
        if not 200 <= status <= 599:
            self._skip(status)
            return
        sized, chunked = self._coding()
        self.status = status
        self.head = self._fields
        self._fields = []
        if self._bodyless:
            # llhttp waits for a body now: this parser, and so the connection, cannot be used again.
            self.complete, self._keep = True, False
        elif chunked and version == "1.0":  # RFC 9112 § 6.1
            self._keep = False
        elif status not in (204, 304) and not sized and not chunked:
            self.until_eof, self._keep = True, False

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self.complete:
            self.pieces.append(body)

    def on_message_complete(self) -> None:
        """An answer's end: the interim ones do not count."""
        if self.status and not self.complete:
            self.complete = True
            self._keep = self._keep and self._parser.should_keep_alive()

    # -- within

    def _skip(self, status: int) -> None:
        """Let an interim answer pass; anything else that is no final status is refused."""
        if not 100 <= status <= 199:
            raise _FramingError(f"answered with status {status}")
        if status == 101:
            raise _FramingError("switched protocols without being asked")
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise _FramingError(f"sent more than {MAX_INTERIM} interim answers")

    def _coding(self) -> tuple[bool, bool]:
        """Whether the head has a length, and whether it says chunked."""
        sized = chunked = False  # both together, and lengths malformed or twice, llhttp has refused
        for name, value in self._fields:
            size = len(name)
            if size == 14:
                sized = sized or name.lower() == b"content-length"
            elif size == 17 and name.lower() == b"transfer-encoding":
                if chunked or value.strip().lower() != b"chunked":
                    raise _FramingError("sent a transfer coding that is not chunked")
                chunked = True
        return sized, chunked
