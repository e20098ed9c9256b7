"""How a request comes in: its head as a value, its body whole or piece by piece.

Here belong what a handler sees of a request, the faults of one, and the rules for a head that go beyond those of
the parser.  Not here: the answer (outlet) and the connection that both travel on (caller).

Whatever two readers could understand in two ways is refused, never mended (RFC 9112 § 11.2).
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from aiohttp import hdrs
from aiohttp.web_protocol import RequestPayloadError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from aiohttp.http import RawRequestMessage
    from aiohttp.streams import StreamReader

    from guardproxy.core.values import Headers

_ABSOLUTE = re.compile(r"https?://([^/?#@]+)((?:[/?].*)?)", re.IGNORECASE)
_LENGTH_DIGITS = 18
"""A declared length of more digits is no length: 10^18 bytes are the traffic of years."""
_VERSIONS = ((1, 1), (1, 0))
_REFUSED = frozenset((hdrs.METH_CONNECT, hdrs.METH_TRACE))
"""No tunnels (RFC 9110 § 9.3.6), and nobody shows a caller's secrets to a script (§ 9.3.8)."""


class Unreadable(Exception):  # noqa: N818 - a condition of the request; nobody's error where a handler answers it
    """The request cannot be read to its end; the front answers it where the handler lets it through."""

    status = 400
    code = "invalid_request"


@final
class TooLarge(Unreadable):
    """The body is longer than the reader allows."""

    status = 413
    code = "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"the request body is larger than {limit} bytes")


@final
class TooSlow(Unreadable):
    """The body did not come in time."""

    status = 408
    code = "request_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request body did not arrive within {seconds:g} seconds")


@final
class Malformed(Unreadable):
    """Not HTTP/1.1 as RFC 9112 has it."""


@final
class Body:
    """What a request carries behind its head; read once, in one of the two ways, or not at all."""

    __slots__ = ("_invite", "_patience", "_stream", "length")

    def __init__(
        self, stream: StreamReader, length: int | None, patience: float, invite: Callable[[], None] | None
    ) -> None:
        self.length = length
        """Bytes declared; 0 where there is no body, None where only its end will tell."""
        self._stream = stream
        self._patience = patience
        self._invite = invite

    def at_hand(self, limit: int) -> bytes | None:
        """All of it, where it is here already, as most are; raises `TooLarge` beyond *limit* bytes."""
        length, stream = self.length, self._stream
        if length == 0:
            return b""
        if length is not None and length > limit:
            raise TooLarge(limit)
        if not stream.is_eof():
            return None
        if stream.total_bytes > limit:
            raise TooLarge(limit)
        return stream.read_nowait()

    async def read(self, limit: int, timeout: float) -> bytes:
        """Read all of it, at most *limit* bytes in at most *timeout* seconds; raises a kind of `Unreadable`."""
        if (whole := self.at_hand(limit)) is not None:
            return whole
        stream = self._stream
        if self._invite is not None:
            self._call()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout):
                while part := await stream.readany():
                    size += len(part)
                    if size > limit:
                        raise TooLarge(limit)
                    parts.append(part)
        except TimeoutError:
            raise TooSlow(timeout) from None
        except RequestPayloadError as error:
            raise Malformed(str(error)) from None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        """Yield it as it comes, and hold the caller back while nobody asks; raises a kind of `Unreadable`."""
        if self.length == 0:
            return
        if self._invite is not None:
            self._call()
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    part = await self._stream.readany()
            except TimeoutError:
                raise TooSlow(self._patience) from None
            except RequestPayloadError as error:
                raise Malformed(str(error)) from None
            if not part:
                return
            yield part

    def _call(self) -> None:
        """Tell a caller who waits for ``100 Continue`` that the body is wanted, once."""
        invite, self._invite = self._invite, None
        if invite is not None:
            invite()


@final
@dataclass(slots=True)
class Request:
    """One request, as it stood on the wire."""

    method: str
    target: str
    """Path and query in origin-form, or ``*``: ASCII without a fragment, neither decoded nor normalised."""
    headers: Headers
    arrived: float
    """When its head was complete: the loop's clock, which uvloop keeps in milliseconds."""
    local: bool
    """Whether the caller is on this machine: loopback or a unix socket."""
    body: Body
    version: tuple[int, int]


def measure(message: RawRequestMessage) -> int | None:
    """Hold the head against the rules; return the declared length of the body, None where it comes in chunks.

    Raises `Malformed`.
    """
    if message.version not in _VERSIONS:
        raise Malformed("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if message.method in _REFUSED:
        raise Malformed(f"{message.method} is not served here")
    headers = message.headers
    coding = headers.get(hdrs.TRANSFER_ENCODING)
    if coding is not None:
        # RFC 9112 § 6.1: chunked in HTTP/1.0 is a sign of a front that frames otherwise than we do.
        if not message.chunked or coding.lower() != "chunked" or message.version != (1, 1):
            raise Malformed("the only transfer coding understood is chunked, and only in HTTP/1.1")
        return None
    declared = headers.get(hdrs.CONTENT_LENGTH)
    if declared is None:
        return 0
    if len(declared) > _LENGTH_DIGITS:
        raise Malformed("Content-Length is out of range")
    return int(declared)


def locate(message: RawRequestMessage) -> tuple[str, Headers]:
    """Return the target in origin-form and the header fields; raises `Malformed`.

    The host of an absolute-form target takes the place of the Host field (RFC 9112 § 3.2.2).
    """
    target = message.path
    headers = list(message.raw_headers)
    if not target.isascii() or "#" in target:
        raise Malformed("the request target has a fragment or a character that is not ASCII")
    if target[0] == "/" or (target == "*" and message.method == hdrs.METH_OPTIONS):
        return target, headers
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Malformed("the request target is neither a path nor an http url")
    authority, rest = absolute.groups()
    headers = [(name, value) for name, value in headers if name.lower() != b"host"]
    headers.insert(0, (b"Host", authority.encode()))
    return (rest if rest[:1] == "/" else "/" + rest), headers
