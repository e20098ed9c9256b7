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
"""As this program spells it; no two requests have the same value, so there is nothing to remember."""
SHORT = 256
"""Bytes of a value up to which its line is remembered: all of them together stay below two megabytes."""
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
    for name, value in headers:
        line = _line(name, value) if len(value) <= SHORT and name != REQUEST_ID else _write(name, value)
        if line is None:
            return "the name of a header field is none" if role(name) == BAD else _BROKEN
        parts.append(line)
    parts.append(b"\r\n")
    return _BROKEN if _breaks(target) else b"".join(parts)


def _write(name: bytes, value: bytes) -> bytes | None:
    """A field as its line; nothing where it is ours to write, None where it cannot be written."""
    whose = role(name)
    if whose == THEIRS:
        return None if _breaks(value) else b"%b: %b\r\n" % (name, value)
    return b"" if whose == OURS else None


_line = lru_cache(maxsize=4096)(_write)
"""The same, remembered: every request of an app brings the same few fields."""


def _breaks(text: bytes) -> bool:
    """Whether *text* would not stay within its line."""
    return b"\n" in text or b"\r" in text or b"\0" in text
