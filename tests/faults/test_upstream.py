"""What goes wrong between the proxy and a model server, until its first event: rows 1 to 39."""

from __future__ import annotations

from tests.faults.case import Case, Sees, cases, one_each
from tests.faults.trial import says
from tests.faults.wire import (
    DONE,
    LAST,
    STREAM,
    WELL,
    chunk,
    completion,
    head,
    mistake,
    whole,
)  # fmt: skip

FIRST_TOKEN = {"timeouts": {"first_token": 0.5}}
STALL = {"timeouts": {"stall": 0.5}}
TOTAL = {"timeouts": {"total": 0.5}}


def error(status: int, code: str, words: str = "") -> Sees:
    return Sees(status, code, says=words)


def passed(status: int, body: bytes, **fields: str | None) -> Sees:
    return Sees(status, body=body, fields={name.replace("_", "-"): value for name, value in fields.items()})


UNREACHABLE = error(502, "upstream_unreachable")
RESET = error(502, "upstream_reset")
PROTOCOL = error(502, "upstream_protocol")
GOOD = passed(200, WELL)
NO_TOKEN = error(504, "upstream_timeout", "first_token")
LATE = error(504, "upstream_timeout", "total")


DIES = [
    Case(1, "never answers", says(then="stay"), NO_TOKEN, stream=True, config=FIRST_TOKEN),
    Case(1, "never answers", says(then="stay"), LATE, again="no", config=TOTAL),
    Case(2, "nobody listens", None, UNREACHABLE, calls=0),
    Case(7, "closed without a byte", says(), RESET),
    Case(7, "reset without a byte", says(then="rst"), RESET),
    Case(8, "reused and closed", says(), RESET, calls=2, primed=True),
    Case(8, "reused and reset", says(then="rst"), RESET, calls=2, primed=True),
    Case(9, "reset in the head", says(b"HTTP/1.1 200 OK\r\nContent-", then="rst"), RESET),
    Case(10, "head then silence", says(STREAM, then="stay"), NO_TOKEN, stream=True, config=FIRST_TOKEN),
    Case(
        11,
        "only comments",
        says(STREAM, *[chunk(b": ping\n\n")] * 200, then="stay"),
        NO_TOKEN,
        stream=True,
        config=FIRST_TOKEN,
    ),
    Case(15, "chunks cut short", says(head(b"Transfer-Encoding: chunked") + b"ff\r\n" + WELL[:20]), RESET),
    Case(16, "length cut short", says(whole(WELL)[:-5]), RESET),
    Case(17, "no length and reset", says(head() + WELL[:-5], then="rst"), RESET),
    Case(17, "no length and closed half way", says(head() + WELL[:-5]), PROTOCOL),
    Case(26, "drips", says(head(b"Content-Length: 400"), *[b" "] * 400, pause=0.05), LATE, again="no", config=TOTAL),
]
LIES = [
    Case(
        19,
        "length and chunks",
        says(head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + LAST),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(19, "two lengths", says(head(b"Content-Length: 5", b"Content-Length: 6") + WELL), PROTOCOL, again="elsewhere"),
    Case(
        19,
        "the same length twice",
        says(head(*[b"Content-Length: %d" % len(WELL)] * 2) + WELL),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(19, "a length below zero", says(head(b"Content-Length: -1") + WELL), PROTOCOL, again="elsewhere"),
    Case(
        19, "a length with a sign", says(head(b"Content-Length: +%d" % len(WELL)) + WELL), PROTOCOL, again="elsewhere"
    ),
    Case(
        19,
        "a chunk size that is none",
        says(head(b"Transfer-Encoding: chunked") + b"zz\r\n" + WELL),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(
        19,
        "a chunk longer than it says",
        says(head(b"Transfer-Encoding: chunked") + b"2\r\n" + WELL + b"\r\n" + LAST),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(
        19,
        "chunks coded otherwise",
        says(head(b"Transfer-Encoding: gzip, chunked") + chunk(WELL) + LAST),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(
        19,
        "a space before the colon",
        says(head(b"Content-Length : %d" % len(WELL)) + WELL),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(20, "garbage", says(b"\x16\x03\x01 no http at all\r\n\r\n"), PROTOCOL, again="elsewhere"),
    Case(20, "http 0.9", says(WELL), PROTOCOL, again="elsewhere"),
    Case(20, "status 0", says(b"HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n"), PROTOCOL, again="elsewhere"),
    Case(20, "status 999", says(b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n"), PROTOCOL, again="elsewhere"),
    Case(20, "http 3", says(b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"), PROTOCOL, again="elsewhere"),
    Case(
        21,
        "interim answers",
        says(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + whole(WELL)),
        GOOD,
        "S",
        "no",
        kept=1,
    ),
    Case(
        21,
        "interim answers for ever",
        says(b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + whole(WELL)),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(
        22,
        "switches protocols",
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        PROTOCOL,
        again="elsewhere",
    ),
    Case(
        23,
        "a field of 9 KiB",
        says(whole(WELL, b"X-Long: " + b"x" * 9216)),
        passed(200, WELL, x_long="x" * 9216),
        "S",
        "no",
        kept=1,
    ),
    Case(23, "a head of 70 KiB", says(whole(WELL, b"X-Long: " + b"x" * 70_000)), PROTOCOL, again="elsewhere"),
    Case(23, "1000 fields", says(whole(WELL, *[b"X-%d: x" % n for n in range(1000)])), PROTOCOL, again="elsewhere"),
    Case(24, "NUL in a field", says(whole(WELL, b"X: a\0b")), PROTOCOL, again="elsewhere"),
    Case(24, "CR in a field", says(whole(WELL, b"X: a\rSet-Cookie: b")), PROTOCOL, again="elsewhere"),
    Case(24, "LF in a field", says(whole(WELL, b"X: a\nSet-Cookie: b")), PROTOCOL, again="elsewhere"),
    Case(24, "a folded field", says(whole(WELL, b"X: a\r\n b")), PROTOCOL, again="elsewhere"),
]
ENVELOPE = mistake("no more", "own_code")
QUOTA = mistake("no", "insufficient_quota", "insufficient_quota")
REFUSES = [
    *(
        Case(27, f"{status}", says(whole(ENVELOPE, status=b"%d No" % status)), passed(status, ENVELOPE), ours=False)
        for status in (500, 502, 503, 504, 529)
    ),
    Case(
        27,
        "500 that is no envelope",
        says(whole(b"oh no", status=b"500 No", kind=b"text/plain")),
        error(500, "upstream_error", "oh no"),
        ours=False,
    ),
    Case(30, "quota", says(whole(QUOTA, status=b"429 No")), passed(429, QUOTA), "-", "no", ours=False),
    *(
        Case(
            31,
            f"{status}",
            says(whole(b" " + ENVELOPE, b"X-Why: y", status=b"%d No" % status)),
            passed(status, b" " + ENVELOPE, x_why="y"),
            "-",
            "no",
            ours=False,
        )
        for status in (400, 404, 409, 413, 422)
    ),
    *(
        Case(
            32,
            f"{status}",
            says(whole(ENVELOPE, status=b"%d No" % status)),
            passed(status, ENVELOPE),
            "-",
            "no",
            ours=False,
        )
        for status in (401, 403)
    ),
    Case(33, "408", says(whole(ENVELOPE, status=b"408 No")), passed(408, ENVELOPE), ours=False),
    *(
        Case(
            34,
            f"{status}",
            says(whole(b"", b"Location: http://127.0.0.1:1/", status=b"%d Go" % status)),
            error(502, "upstream_protocol", "redirect"),
            again="elsewhere",
        )
        for status in (301, 302, 307, 308)
    ),
    Case(35, "error under 200", says(whole(mistake())), Sees(500, has=[b'"no"']), ours=False),
    Case(35, "400 under 200", says(whole(mistake("no", 400))), Sees(400, has=[b'"no"']), "-", "no", ours=False),
    Case(36, "html", says(whole(b"<html>", kind=b"text/html")), PROTOCOL),
    Case(36, "text for a stream", says(whole(b"hello", kind=b"text/plain")), PROTOCOL, stream=True),
    Case(37, "nothing", says(whole(b"")), PROTOCOL),
    Case(37, "no choices", says(whole(b'{"choices":[]}')), PROTOCOL),
    Case(37, "an empty stream", says(STREAM + LAST), RESET, stream=True),
    Case(37, "204", says(b"HTTP/1.1 204 No Content\r\n\r\n"), PROTOCOL),
    Case(
        38,
        "cut at the length",
        says(whole(completion("half a s", "length"))),
        passed(200, completion("half a s", "length")),
        "S",
        "no",
    ),
    Case(
        39,
        "an error event first",
        says(STREAM + chunk(b"data: " + mistake() + b"\n\n" + DONE) + LAST),
        Sees(500, has=[b'"no"']),
        stream=True,
        ours=False,
    ),
]
BEFORE = [*DIES, *LIES, *REFUSES]


@cases(*BEFORE)
async def test_alone(case):
    await case.alone()


@cases(*one_each(BEFORE))
async def test_beside_one_that_is_well(case):
    await case.beside()


@cases(*one_each([case for case in BEFORE if case.play is not None]))
async def test_once_more(case):
    await case.once_more()
