"""The head of a request, as bytes.

Here belongs how a request line and header fields are written so that the upstream cannot read them in two
ways.  Not here: which fields go upstream (perform) and how the body gets there (connection, exchange).

Pure; a request that cannot be written is refused in words, never mended: dropping a field may drop a safeguard.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardproxy.core.values import Headers

BAD, OURS, THEIRS = 0, 1, 2
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 § 5.6.2
_OURS = frozenset(
    (b"connection", b"content-length", b"host", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_TWICE = frozenset((b"content_length", b"transfer_encoding"))
"""Names that servers behind CGI and WSGI take for those with a hyphen."""
_BODILESS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"))
UNKNOWN_LENGTH = -1
REQUEST_ID = b"X-Request-Id"
"""As this program spells it, and last where it is remembered how the others are written: no two have the same value."""
MOST, LARGE = 256, 2048
"""Heads that are remembered, and the bytes of one at the most: below a megabyte in all."""
_BROKEN = "a header field or the target holds CR, LF or NUL"


@lru_cache(maxsize=256)
def role(name: bytes) -> int:
    """Whether a field name is none, one that this client writes itself, or the caller's."""
    lower = name.lower()
    if not _TOKEN.fullmatch(name) or lower in _TWICE:
        return BAD
    return OURS if lower in _OURS else THEIRS


def compose(method: bytes, target: bytes, host: bytes, headers: Headers, length: int) -> bytes | str:
    """Write the head, or say why it cannot be; *length* is the body's, or `UNKNOWN_LENGTH`.

    Fields that frame the message or name the host are left out of *headers*: they are written here.
    """
    if role(method) == BAD or method == b"CONNECT":
        return "its method is none"
    if b" " in target or b"\t" in target or target[:1] not in b"/*" or not target:
        return "its target is no path"
    parts = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    if length > 0 or (length == 0 and method not in _BODILESS):
        parts.append(b"Content-Length: %d\r\n" % length)
    elif length == UNKNOWN_LENGTH:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    usual = tuple(headers)
    if usual and usual[-1][0] == REQUEST_ID:
        own = _lines(usual[-1:])
        usual = usual[:-1]
    else:
        own = b""
    known = _KNOWN.get(usual) or _remembered(usual)
    if isinstance(known, str) or isinstance(own, str):
        return known if isinstance(known, str) else str(own)
    parts += (known, own, b"\r\n")
    return _BROKEN if _breaks(target) else b"".join(parts)


def _remembered(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | str:
    """The lines of *headers*, remembered where they are not too many: most requests of an app bring the same."""
    lines = _lines(headers)
    if isinstance(lines, bytes) and len(lines) <= LARGE:
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        _KNOWN[headers] = lines
    return lines


def _lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | str:
    """Each field as its line, those aside that are ours to write; or why one of them cannot be written."""
    lines: list[bytes] = []
    for name, value in headers:
        whose = role(name)
        if whose == BAD:
            return "the name of a header field is none"
        if whose == THEIRS:
            if _breaks(value):
                return _BROKEN
            lines.append(b"%b: %b\r\n" % (name, value))
    return b"".join(lines)


_KNOWN: dict[tuple[tuple[bytes, bytes], ...], bytes] = {}


def _breaks(text: bytes) -> bool:
    """Whether *text* would not stay within its line."""
    return b"\n" in text or b"\r" in text or b"\0" in text
