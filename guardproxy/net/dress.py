"""What an answer says about itself.

Here belongs the writing of status line and header fields of an answer out of the record: `Cache-Status`, `Age` and
the ``X-Guardproxy-*`` fields.  How a body is framed is the outlet's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardproxy.core.values import Headers, Record, Reply

_LINES = {status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus}


def own(record: Record) -> Headers:
    """The fields that are ours, for an answer that leaves as a stream."""
    call, target = record.call, record.target
    headers: Headers = []
    if record.cache:
        headers.append((b"Cache-Status", b"guardproxy; " + record.cache.encode()))
        if record.cache[:3] == "hit":
            headers.append((b"Age", b"%d" % record.age))
    if target is not None:
        headers.append((b"X-Guardproxy-Upstream", target.upstream.encode()))
        if target.mode:
            mode = target.mode
            if target.moved_from:
                mode = f"{mode}; from={target.moved_from}; reason={target.reason or 'unavailable'}"
            headers.append((b"X-Guardproxy-Mode", mode.encode()))
    if record.json:
        headers.append((b"X-Guardproxy-Json", record.json.encode()))
    if call is not None:
        if call.dialect is not None:
            headers.append((b"X-Guardproxy-Attempts", b"%d" % (len(record.attempts) + record.asking)))
        headers.append((b"X-Request-Id", call.id.encode()))
    return headers


def block(reply: Reply, record: Record) -> bytes:
    """Status line and all header fields of a whole answer, without those of its framing and without the blank line."""
    start = reply.block or (_LINES.get(reply.status) or b"HTTP/1.1 %d Unknown\r\n" % reply.status)
    parts = [start]
    for name, value in reply.headers:
        parts += (name, b": ", value, b"\r\n")
    for name, value in own(record):
        parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)
