"""What goes wrong with streams and bodies once they have begun: rows 12 to 14, 18, 26 and 40 to 52."""

from __future__ import annotations

import contextlib
import gzip
from typing import TYPE_CHECKING, Any

from tests.faults.case import Case, Sees, cases, one_each
from tests.faults.trial import says
from tests.faults.wire import (
    DONE,
    EVENTS,
    LAST,
    STREAM,
    WELL,
    WELL_EVENTS,
    chunk,
    completion,
    head,
    mistake,
    piece,
    whole,
)  # fmt: skip

if TYPE_CHECKING:
    from tests.faults.trial import Play
    from tests.net.raw import Peer

STALL = {"timeouts": {"stall": 0.5}}
CUT, TIMEOUT = "upstream_stream_interrupted", "upstream_timeout"
TWO = (piece("one "), piece("two"))
WHOLE_EVENTS = b"".join(WELL_EVENTS) + DONE


def mid(code: str, words: str = "llama") -> Sees:
    return Sees(200, mid=code, says=words, has=TWO)


def stream(row: int, what: str, body: bytes, *, size: int = 1 << 20, breaker: str = "S", kept: int = 1) -> Case:
    """A stream that passes byte for byte, in pieces of *size*."""
    wire = STREAM + b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size)) + LAST
    sees = Sees(200, body=body, fields={"content-type": "text/event-stream"})
    return Case(row, what, says(wire, then="keep"), sees, breaker, "no", stream=True, kept=kept)


STREAMS = [
    Case(
        12,
        "stalls",
        says(STREAM + chunk(*TWO), then="stay"),
        mid(TIMEOUT, "timeouts.stall"),
        again="no",
        stream=True,
        config=STALL,
    ),
    Case(
        12,
        "stalls but for comments",
        says(STREAM + chunk(*TWO), *[chunk(b": ping\n\n")] * 400, then="stay"),
        mid(TIMEOUT, "timeouts.stall"),
        again="no",
        stream=True,
        config=STALL,
    ),
    Case(13, "reset", says(STREAM + chunk(*TWO), b"5", then="rst"), mid(CUT), again="no", stream=True),
    Case(
        13,
        "reset inside of an event",
        says(STREAM + chunk(*TWO), chunk(piece("three")[:40]), chunk(piece("four")[:9]), then="rst"),
        mid(CUT),
        again="no",
        stream=True,
    ),
    Case(
        13,
        "reset inside of a long event",
        says(STREAM + chunk(*TWO), chunk(piece("x" * 60_000)[:40_000]), then="rst"),
        mid(CUT),
        again="no",
        stream=True,
    ),
    Case(14, "ended without an end", says(STREAM + chunk(*TWO) + LAST), mid(CUT), again="no", stream=True),
    Case(14, "closed", says(STREAM + chunk(*TWO)), mid(CUT), again="no", stream=True),
    Case(14, "closed without a length", says(head(kind=EVENTS) + b"".join(TWO)), mid(CUT), again="no", stream=True),
    Case(
        19,
        "a bad chunk in the middle",
        says(STREAM + chunk(*TWO), b"zz\r\n", then="stay"),
        mid(CUT),
        again="no",
        stream=True,
    ),
    Case(
        26,
        "drips",
        says(STREAM, *[chunk(one) for one in TWO], *[chunk(piece("."))] * 400, pause=0.05),
        mid(TIMEOUT, "timeouts.total"),
        again="no",
        stream=True,
        config={"timeouts": {"total": 1}},
    ),
    Case(
        40,
        "an error event",
        says(STREAM + chunk(*TWO), chunk(b"data: " + mistake() + b"\n\n") + LAST),
        Sees(200, body=b"".join(TWO) + b"data: " + mistake() + b"\n\n"),
        again="no",
        stream=True,
    ),
    Case(
        40,
        "an error event and [DONE]",
        says(STREAM + chunk(*TWO), chunk(b"data: " + mistake() + b"\n\n" + DONE) + LAST),
        Sees(200, body=b"".join(TWO) + b"data: " + mistake() + b"\n\n" + DONE),
        again="no",
        stream=True,
    ),
    stream(
        41,
        "an event that is no JSON",
        WELL_EVENTS[0] + b"data: {oops\n\n" + b"".join(WELL_EVENTS[1:]) + DONE,
        breaker="F",
        kept=0,
    ),
    stream(
        41,
        "an event that is text",
        WELL_EVENTS[0] + b"data: oops\n\n" + b"".join(WELL_EVENTS[1:]) + DONE,
        breaker="F",
        kept=0,
    ),
    stream(42, "CRLF", WHOLE_EVENTS.replace(b"\n", b"\r\n")),
    stream(42, "CR", WHOLE_EVENTS.replace(b"\n", b"\r")),
    stream(
        42,
        "mixed",
        WELL_EVENTS[0].replace(b"\n\n", b"\r\n\n") + WELL_EVENTS[1].replace(b"\n\n", b"\r\r\n") + WELL_EVENTS[2] + DONE,
        size=3,
    ),
    stream(42, "BOM", b"\xef\xbb\xbf" + WHOLE_EVENTS, size=1),
    stream(42, "no space after the colon", WHOLE_EVENTS.replace(b"data: ", b"data:")),
    stream(
        43,
        "UTF-8 split",
        piece("grüße 🌹").replace(b"\\u00fc", "ü".encode()).replace(b"\\ud83c\\udf39", "🌹".encode())
        + b"".join(WELL_EVENTS)
        + DONE,
        size=1,
    ),
    stream(44, "bytes that are no UTF-8", piece("a?b").replace(b"?", b"\xff\xfe") + b"".join(WELL_EVENTS) + DONE),
    stream(45, "a line of 1.5 MB", piece("x" * 1_500_000) + b"".join(WELL_EVENTS) + DONE),
    stream(45, "a line of 12 MB", piece("x" * 12_000_000) + b"".join(WELL_EVENTS) + DONE),
    stream(46, "10,000 events at once", piece("x") * 10_000 + b"".join(WELL_EVENTS) + DONE),
    stream(46, "a byte at a time", WHOLE_EVENTS, size=1),
    stream(47, "data after [DONE]", WHOLE_EVENTS + piece("more")),
    stream(47, "two [DONE]", WHOLE_EVENTS + DONE),
    stream(
        48,
        "usage without choices",
        b"".join(WELL_EVENTS) + b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}\n\n' + DONE,
    ),
]
GZIPPED = gzip.compress(WELL)
BOMB = gzip.compress(b"0" * (80 << 20))
BAD_UTF8 = completion("a?b").replace(b"?", b"\xff")


def coded(body: bytes, coding: bytes = b"gzip") -> bytes:
    return whole(body, b"Content-Encoding: " + coding)


def endless(kind: bytes) -> Play:
    """An answer that goes on and on, and says nothing."""

    async def play(peer: Peer) -> bool:
        await peer.send(head(b"Transfer-Encoding: chunked", kind=kind))
        with contextlib.suppress(ConnectionError, RuntimeError):  # hung up on
            for _ in range(1000):
                await peer.send(chunk(b" " * 65536))
        return False

    return play


BOUND: dict[str, Any] = {"limits": {"response_bytes": "1MiB"}}
UNREADABLE = Sees(502, "upstream_protocol")
BODIES = [
    Case(44, "bytes that are no UTF-8", says(whole(BAD_UTF8)), UNREADABLE),
    Case(
        49,
        "gzip",
        says(coded(GZIPPED)),
        Sees(200, body=GZIPPED, fields={"content-encoding": "gzip"}),
        "S",
        "no",
    ),
    Case(49, "brotli", says(coded(b"\x0b\x02\x80hello\x03", b"br")), UNREADABLE),
    Case(50, "gzip cut short", says(coded(GZIPPED[:-9])), UNREADABLE),
    Case(50, "gzip that is none", says(coded(WELL)), UNREADABLE),
    Case(51, "a bomb", says(coded(BOMB)), UNREADABLE, again="elsewhere"),
    Case(51, "an answer without end", endless(b"application/json"), UNREADABLE, again="elsewhere", config=BOUND),
    Case(51, "no event without end", endless(EVENTS), UNREADABLE, again="elsewhere", stream=True, config=BOUND),
]


@cases(*STREAMS, *BODIES)
async def test_alone(case):
    await case.alone()


@cases(*one_each([case for case in (*STREAMS, *BODIES) if case.breaker == "F"]))
async def test_beside_one_that_is_well(case):
    await case.beside()


@cases(*(case for case in BODIES if case.breaker == "F"))
async def test_once_more(case):
    await case.once_more()
