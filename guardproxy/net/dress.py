"""What an answer says about itself.

Here belongs the writing of status line and header fields of an answer out of the record: `Cache-Status`, `Age` and
the ``X-Guardproxy-*`` fields.  How a body is framed is the outlet's.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from guardproxy.openai.fields import lines

if TYPE_CHECKING:
    from guardproxy.core.values import Headers, Record, Reply

_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


def own(record: Record) -> Headers:
    """The fields that are ours, for an answer that leaves as a stream."""
    return [*_about(record)[0], *_of_this(record)]


def early(record: Record) -> Headers:
    """What is known before the answer is: who is being asked, but not how many will have been."""
    return [pair for pair in own(record) if pair[0] != b"X-Guardproxy-Attempts"]


def late(record: Record) -> bytes:
    """The same fields as comments of a stream that began before they were known; a blank line ends them."""
    said = [*_about(record)[0], *(pair for pair in _of_this(record) if pair[0] == b"Age")]
    return b"%b\n" % b"".join([b": %b: %b\n" % pair for pair in said])


def block(reply: Reply, record: Record) -> bytes:
    """Status line and all header fields of a whole answer, without those of its framing and without the blank line."""
    start = reply.block or (_LINES.get(reply.status) or b"HTTP/1.1 %d Unknown\r\n" % reply.status)
    about = _about(record)[1]
    own = b"".join([b"%b: %b\r\n" % pair for pair in _of_this(record)])
    return b"%b%b%b%b" % (start, lines(reply.headers), about, own)


def _of_this(record: Record) -> Headers:
    """What no other answer says in the same words."""
    call = record.call
    own: Headers = []
    if record.cache[:3] == "hit":
        own.append((b"Age", b"%d" % record.age))
    if call is not None:
        own.append((b"X-Request-Id", call.id.encode()))
    return own


def _about(record: Record) -> tuple[Headers, bytes]:
    """What many answers say in the same words, as fields and as their lines."""
    call, target = record.call, record.target
    attempts = -1 if call is None or call.dialect is None else len(record.attempts) + record.asking + record.beside
    if target is None:
        return _said(record.cache, "", "", "", "", record.json, attempts)
    return _said(record.cache, target.upstream, target.mode, target.moved_from, target.reason, record.json, attempts)


@lru_cache(maxsize=1024)
def _said(
    cache: str, upstream: str, mode: str, moved_from: str, reason: str, json: str, attempts: int
) -> tuple[Headers, bytes]:
    fields: Headers = []
    if cache:
        fields.append((b"Cache-Status", b"guardproxy; " + cache.encode()))
    if upstream:
        fields.append((b"X-Guardproxy-Upstream", upstream.encode()))
    if mode:
        moved = f"; from={moved_from}; reason={reason or 'unavailable'}" if moved_from else ""
        fields.append((b"X-Guardproxy-Mode", f"{mode}{moved}".encode()))
    if json:
        fields.append((b"X-Guardproxy-Json", json.encode()))
    if attempts >= 0:
        fields.append((b"X-Guardproxy-Attempts", b"%d" % attempts))
    return fields, b"".join(b"%b: %b\r\n" % pair for pair in fields)
