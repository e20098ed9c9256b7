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
_BODILESS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE"))
UNKNOWN_LENGTH = -1


@lru_cache(maxsize=256)
def role(name: bytes) -> int:
    """Whether a field name is none, one that this client writes itself, or the caller's."""
    if not _TOKEN.fullmatch(name):
        return BAD
    return OURS if name.lower() in _OURS else THEIRS


def compose(method: bytes, target: bytes, host: bytes, headers: Headers, length: int) -> bytes | str:
    """Write the head, or say why it cannot be; *length* is the body's, or `UNKNOWN_LENGTH`.

    Fields that frame the message or name the host are left out of *headers*: they are written here.
    """
    if role(method) == BAD or method == b"CONNECT":
        return "its method is none"
    if b" " in target or b"\t" in target or target[:1] not in b"/*" or not target:
        return "its target is no path"
    parts = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    lines = 3  # the two above and the empty one
    if length > 0 or (length == 0 and method not in _BODILESS):
        parts.append(b"Content-Length: %d\r\n" % length)
        lines += 1
    elif length == UNKNOWN_LENGTH:
        parts.append(b"Transfer-Encoding: chunked\r\n")
        lines += 1
    for name, value in headers:
        whose = role(name)
        if whose == THEIRS:
            parts += (name, b": ", value, b"\r\n")
            lines += 1
        elif whose == BAD:
            return "the name of a header field is none"
    parts.append(b"\r\n")
    head = b"".join(parts)
    # One scan instead of one per field: whatever is more than our own line ends came in with the caller.
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        return "a header field or the target holds CR, LF or NUL"
    return head
