"""What the tests of dialects share: calls, answers, and streams that are cut anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from guardproxy.core.dialect import Dialect, Scan
from guardproxy.core.values import Answer, Call, Fault

REAL = Path(__file__).parent / "real"
"""Bytes that real servers have sent."""


def call(dialect: Dialect, path: str = "", **doc: Any) -> Call:
    body = json.dumps(doc).encode()
    stream = dialect.streams(doc)
    return Call("r1", "POST", path or dialect.paths[0], "", [], body, doc, dialect, stream=stream, model="m")


def whole(doc: object, status: int = 200) -> Answer:
    return Answer(1.0, status, [(b"Content-Type", b"application/json")], json.dumps(doc).encode(), doc=doc)


def streamed(dialect: Dialect, body: bytes, status: int = 200) -> Answer:
    return Answer(1.0, status, [(b"Content-Type", dialect.media + b"; charset=utf-8")], body)


def good(found: Answer | Fault) -> Answer:
    assert isinstance(found, Answer), found
    return found


def bad(found: Answer | Fault) -> Fault:
    assert isinstance(found, Fault), found
    return found


def told(scan: Scan) -> tuple[Any, ...]:
    return scan.events, scan.error, scan.usage, scan.complete(), scan.keepable(), scan.done


def cut_anywhere(dialect: Dialect, body: bytes) -> tuple[Any, ...]:
    """What a scan tells of *body*, which is the same wherever it is cut in two, and one byte at a time."""
    one = call(dialect)
    first = dialect.scan(one)
    first.feed(body)
    first.close()
    wanted = told(first)
    for at in range(len(body)):
        scan = dialect.scan(one)
        assert scan.feed(body[:at]) + scan.feed(body[at:]) <= scan.events
        scan.close()
        assert told(scan) == wanted, at
    bytewise = dialect.scan(one)
    for at in range(len(body)):
        bytewise.feed(body[at : at + 1])
    bytewise.close()
    assert told(bytewise) == wanted
    return wanted


def unfinished(dialect: Dialect, body: bytes, last: int) -> None:
    """No proper beginning of *body* is an answer, up to the event of which the first byte is at *last*."""
    one = call(dialect)
    for at in range(last):
        scan = dialect.scan(one)
        scan.feed(body[:at])
        scan.close()
        assert not scan.complete(), body[:at]
        dialect.so_far(body[:at])
