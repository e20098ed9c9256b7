"""The head of an answer, as bytes.

Here belongs how a status line and header fields are written.  Fields that frame the message are the outlet's
alone and left out of what others give; a field with a line break in it is refused, so that no value can become a
second answer.  Not here: when a head leaves (outlet).
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardproxy.core.values import Headers

CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
_STATUS = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}
_GIVEN, _OURS, _DATE, _LENGTH = range(4)
_ROLES = {
    b"connection": _OURS,
    b"content-length": _LENGTH,
    b"date": _DATE,
    b"keep-alive": _OURS,
    b"proxy-connection": _OURS,
    b"trailer": _OURS,
    b"transfer-encoding": _OURS,
    b"upgrade": _OURS,
}


@lru_cache(maxsize=512)
def _role(name: bytes) -> int:
    return _ROLES.get(name.lower(), _GIVEN)


@lru_cache(maxsize=2)
def _date(second: int) -> bytes:
    return b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()


def date() -> bytes:
    """The line that says what time it is (RFC 9110 § 6.6.1), written once a second."""
    return _date(int(time.time()))


def dated(headers: Headers) -> Headers:
    """*headers* as they came just now, with the date that their sender has left out (RFC 9110 § 6.6.1)."""
    if any(_role(name) == _DATE for name, _ in headers):
        return headers
    return [*headers, (b"Date", date()[6:-2])]


def compose(status: int, headers: Headers, framing: bytes) -> bytes:
    """Write a head up to and with its blank line; *framing* is the lines that are ours.

    Adds Date where there is none (RFC 9110 § 6.6.1).  Raises `ValueError` for what is no final status, and for a
    field that would break out of its line.
    """
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status of a final answer")
    parts = [_STATUS.get(status) or b"HTTP/1.1 %d \r\n" % status]
    lines, dated = 2, False
    for name, value in headers:
        role = _role(name)
        if role:
            if role != _DATE:
                continue
            dated = True
        parts += (name, b": ", value, b"\r\n")
        lines += 1
    if not dated:
        parts.append(date())
        lines += 1
    parts += (framing, b"\r\n")
    head = b"".join(parts)
    lines += framing.count(b"\n")
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise ValueError("a header field has a line break or NUL in it")
    return head


def declared(headers: Headers, length: int) -> int:
    """Tell the length that a relayed answer to HEAD declares, else that of the body there would have been."""
    for name, value in headers:
        if not length and _role(name) == _LENGTH and value.isdigit():
            return int(value)
    return length
