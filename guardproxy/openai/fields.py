"""Header fields: which of them go on, in which direction.

Here belongs the sorting of header fields (RFC 9110 §7.6.1).  Names and values stay the bytes that they were.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardproxy.core.values import Headers

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ),
)
_NOT_UP = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id"}
_NOT_DOWN = HOP_BY_HOP | {b"content-length", b"x-request-id", b"date", b"server"}
_PER_REQUEST = frozenset(
    (
        b"set-cookie",
        b"date",
        b"age",
        b"x-request-id",
        b"request-id",
        b"openai-processing-ms",
        b"cf-ray",
        b"retry-after",
        b"traceparent",
    ),
)
OWN = b"x-guardproxy-"
JSON = b"application/json"
EVENTS = b"text/event-stream"
_USUAL = frozenset((b"keep-alive", b"close"))
_UP, _DOWN, _KEPT, _LISTS = 1, 2, 4, 8
"""What may become of a field: it goes to the upstream, to the caller, may be shown to others, lists others itself."""


@lru_cache(maxsize=2048)
def _fate(name: bytes) -> int:
    """What becomes of the field *name*, however it is spelled; remembered, since every request brings the same few."""
    lower = name.lower()
    own = lower.startswith(OWN)
    found = _LISTS if lower == b"connection" else 0
    if lower not in _NOT_UP and not own:
        found |= _UP
    if lower not in _NOT_DOWN and not own:
        found |= _DOWN
    if lower not in _PER_REQUEST and not lower.startswith((b"x-ratelimit-", b"ratelimit")):
        found |= _KEPT
    return found


def upward(headers: Headers) -> Headers:
    """The caller's fields that go upstream."""
    return _going(headers, _UP)


def downward(headers: Headers) -> Headers:
    """The upstream's fields that go to the caller; framing is written anew."""
    return _going(headers, _DOWN)


def kept(headers: Headers) -> Headers:
    """The fields of *headers* that may be shown again to another caller: those that are not of one request."""
    return [pair for pair in headers if _fate(pair[0]) & _KEPT]


def is_encoded(headers: Headers) -> bool:
    """Whether a body comes in a coding (``Content-Encoding``) that not everybody has asked for."""
    return (value(headers, b"content-encoding") or b"identity").strip().lower() != b"identity"


def lines(headers: Headers) -> bytes:
    """*headers* as they stand on the wire; remembered, since most answers of an upstream bring the same."""
    if not headers:
        return b""
    key = tuple(headers)
    found = _WRITTEN.get(key)
    if found is None:
        found = b"".join([b"%b: %b\r\n" % pair for pair in key])
        if len(found) <= _LARGE:
            if len(_WRITTEN) >= _MOST:
                _WRITTEN.clear()
            _WRITTEN[key] = found
    return found


_WRITTEN: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}
_MOST, _LARGE = 256, 2048
"""Blocks of lines that are remembered, and the bytes of one at the most."""


def retyped(headers: Headers, kind: bytes) -> Headers:
    """*headers* for another body than the one they came with: of this *kind*, and not encoded."""
    others = [pair for pair in headers if pair[0].lower() not in (b"content-type", b"content-encoding")]
    return [*others, (b"Content-Type", kind)]


def value(headers: Headers, name: bytes) -> bytes | None:
    """The first value of the field *name* (in lower case), or None."""
    for key, found in headers:
        if len(key) == len(name) and key.lower() == name:
            return found
    return None


def values(headers: Headers, name: bytes) -> list[bytes]:
    """All values of the field *name* (in lower case)."""
    return [found for key, found in headers if len(key) == len(name) and key.lower() == name]


def _going(headers: Headers, way: int) -> Headers:
    """The fields that go this *way*, those aside that a Connection field declares to be hop-by-hop."""
    going: Headers = []
    named: set[bytes] = set()
    for pair in headers:
        what = _fate(pair[0])
        if what & way:
            going.append(pair)
        elif what & _LISTS:
            named.update(part.strip().lower() for part in pair[1].split(b","))
    if named.issubset(_USUAL):
        return going
    return [pair for pair in going if pair[0].lower() not in named]
