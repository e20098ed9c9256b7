"""Header fields: which of them go on, in which direction.

Here belongs the sorting of header fields (RFC 9110 §7.6.1).  Names and values stay the bytes that they were.
"""

from __future__ import annotations

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


def upward(headers: Headers) -> Headers:
    """The caller's fields that go upstream."""
    named = _named(headers)
    return [
        pair
        for pair in headers
        if (name := pair[0].lower()) not in _NOT_UP and not name.startswith(OWN) and name not in named
    ]


def downward(headers: Headers) -> Headers:
    """The upstream's fields that go to the caller; framing is written anew."""
    named = _named(headers)
    return [
        pair
        for pair in headers
        if (name := pair[0].lower()) not in _NOT_DOWN and not name.startswith(OWN) and name not in named
    ]


def kept(headers: Headers) -> Headers:
    """The fields of *headers* that may be shown again to another caller: those that are not of one request."""
    return [
        pair
        for pair in headers
        if (name := pair[0].lower()) not in _PER_REQUEST and not name.startswith((b"x-ratelimit-", b"ratelimit"))
    ]


def is_events(headers: Headers) -> bool:
    """Whether a body is a stream of server-sent events."""
    return (value(headers, b"content-type") or b"").lower().startswith(EVENTS)


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


def _named(headers: Headers) -> frozenset[bytes] | set[bytes]:
    """The fields that a Connection header declares to be hop-by-hop."""
    named: set[bytes] = set()
    for key, found in headers:
        if len(key) == 10 and key.lower() == b"connection":
            named.update(part.strip().lower() for part in found.split(b","))
    return named
