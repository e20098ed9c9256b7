"""What the bytes of an answer mean."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardproxy.net.framing import MAX_INTERIM, Framing

OK = b"HTTP/1.1 200 OK\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Told:
    """What one answer came to."""

    def __init__(self, *pieces: bytes, bodyless: bool = False, head: int = 4096, fields: int = 20) -> None:
        self.framing = Framing(head, fields)
        self.framing.expect(bodyless=bodyless)
        self.what = ""
        for piece in pieces:
            if self.framing.complete:
                break  # the connection would have been put aside
            if self.what:
                break
            self.what = self.framing.feed(piece)
        self.status = self.framing.status
        self.head = self.framing.head
        self.body = b"".join(self.framing.pieces)
        self.complete = self.framing.complete
        if self.complete:
            self.what = ""
        self.reusable = self.complete and self.framing.reusable

    @property
    def essence(self) -> tuple[object, ...]:
        return self.status, self.head, self.body, self.complete, self.what


GOOD = {
    "length": (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "no length at all": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "empty value": (OK + b"X:\r\nY: \r\nContent-Length: 1\r\n\r\na", b"a"),
    "white space around": (OK + b"Content-Length: \t 1  \r\n\r\na", b"a"),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", b"a"),
    "chunked": (OK + CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789"),
    "chunk extension": (OK + CHUNKED + b'3;a=b;c="d"\r\nabc\r\n0\r\n\r\n', b"abc"),
    "trailers": (OK + CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", b"a"),
    "coding in another case": (OK + b"transfer-encoding: Chunked \r\n\r\n1\r\na\r\n0\r\n\r\n", b"a"),
    "interim answers": (INTERIM * 3 + OK + b"Content-Length: 1\r\n\r\na", b"a"),
    "interim with a length": (
        b"HTTP/1.1 100 C\r\nContent-Length: 9\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na",
        b"a",
    ),
    "interim that closes": (b"HTTP/1.1 100 C\r\nConnection: close\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a"),
    "interim of 1.0": (b"HTTP/1.0 100 C\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a"),
    "upgrade offered": (OK + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na", b"a"),
    "1.0 that stays": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na", b"a"),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
    "blank lines before": (b"\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a"),
}
LAST = {
    "close": (OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na", b"a"),
    "close among others": (OK + b"Connection: keep-alive\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\na", b"a"),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", b"a"),
    "1.0 chunked": (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + CHUNKED + b"1\r\na\r\n0\r\n\r\n", b"a"),
    "more behind a length": (OK + b"Content-Length: 1\r\n\r\nab", b"a"),
    "an answer behind it": (OK + b"Content-Length: 1\r\n\r\na" + OK + b"Content-Length: 1\r\n\r\nb", b"a"),
    "half an answer behind it": (OK + b"Content-Length: 1\r\n\r\naH", b"a"),
    "more behind the last chunk": (OK + CHUNKED + b"1\r\na\r\n0\r\n\r\nx", b"a"),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab", b""),
    "304 with a body": (b"HTTP/1.1 304 Not Modified\r\n\r\nab", b""),
    "trailer that closes": (OK + CHUNKED + b"1\r\na\r\n0\r\nConnection: close\r\n\r\n", b"a"),
}
BAD = {
    "garbage": b"garbage\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
    "HTTP/0.9": b"<html>hello</html>",
    "HTTP/0.9 by name": b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status 0": b"HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "status 2000": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "the same length twice": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\n",
    "negative length": OK + b"Content-Length: -5\r\n\r\n",
    "length with a plus": OK + b"Content-Length: +5\r\n\r\n",
    "hexadecimal length": OK + b"Content-Length: 0x5\r\n\r\n",
    "empty length": OK + b"Content-Length:\r\n\r\n",
    "split length": OK + b"Content-Length: 5 5\r\n\r\n",
    "endless length": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nabc",
    "two codings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n",
    "chunked with a parameter": OK + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nabc",
    "negative chunk": OK + CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "huge chunk": OK + CHUNKED + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "chunk with 0x": OK + CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk longer than it says": OK + CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
    "chunk ended by LF": OK + CHUNKED + b"3\nabc\n0\n\n",
    "length in the trailers": OK + CHUNKED + b"1\r\na\r\n0\r\nContent-Length: 3\r\n\r\n",
    "NUL in a field": OK + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "CR in a field": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded field": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
    "nameless field": OK + b": a\r\nContent-Length: 0\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nabc",
    "bare 101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "too many interim answers": INTERIM * (MAX_INTERIM + 1) + OK + b"Content-Length: 0\r\n\r\n",
    "too many fields": OK + b"X: 1\r\n" * 21 + b"Content-Length: 0\r\n\r\n",
    "too large a head": OK + b"X: " + b"x" * 4096 + b"\r\nContent-Length: 0\r\n\r\n",
}
ALL = {name: wire for name, (wire, _) in {**GOOD, **LAST}.items()} | BAD


@pytest.mark.parametrize("name", GOOD)
def test_reads_what_is_right(name: str) -> None:
    wire, body = GOOD[name]
    told = Told(wire)
    assert told.complete
    assert told.body == body
    assert told.reusable


@pytest.mark.parametrize("name", LAST)
def test_takes_no_second_answer_where_the_first_leaves_a_doubt(name: str) -> None:
    """Bytes behind the end are never the beginning of the next answer; what says it closes is not used again."""
    wire, body = LAST[name]
    told = Told(wire)
    assert told.complete
    assert told.body == body
    assert not told.reusable


@pytest.mark.parametrize("name", BAD)
def test_refuses_what_can_be_read_in_two_ways(name: str) -> None:
    told = Told(BAD[name])
    assert told.what
    assert not told.complete


@given(st.sampled_from(sorted(ALL)), st.data())
@example("chunked", None)
def test_any_split_means_the_same(name: str, data: st.DataObject | None) -> None:
    """Where the network cuts says nothing."""
    wire = ALL[name]
    if data is None:
        cuts = list(range(len(wire) + 1))
    else:
        inner = data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=12, unique=True))
        cuts = [0, *sorted(inner), len(wire)]
    pieces = [wire[start:stop] for start, stop in pairwise(cuts)]
    assert Told(*pieces).essence == Told(wire).essence


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.data())
def test_any_body_in_any_chunks(chunks: list[bytes], data: st.DataObject) -> None:
    """What was cut into chunks comes out whole, however the bytes arrive, and the next answer after it too."""
    wire = OK + CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    cuts = [0, *sorted(data.draw(st.lists(st.integers(1, len(wire) - 1), max_size=12, unique=True))), len(wire)]
    framing = Framing(4096, 20)
    for _ in range(2):
        framing.expect(bodyless=False)
        assert not any(framing.feed(wire[start:stop]) for start, stop in pairwise(cuts))
        assert framing.complete
        assert framing.reusable
        assert b"".join(framing.pieces) == b"".join(chunks)


@given(st.binary(max_size=200))
def test_no_bytes_raise(noise: bytes) -> None:
    """Whatever comes, nothing but words comes out."""
    Told(noise)
    Told(OK + noise)
    Told(OK + CHUNKED + noise)


@pytest.mark.parametrize("coding", [b"Content-Length: 500\r\n", b"Content-Length: 0\r\n", CHUNKED[:-2], b""])
def test_head_request_has_no_body(coding: bytes) -> None:
    """The answer to HEAD ends with its head, whatever that says (RFC 9112 § 6.3)."""
    told = Told(OK + coding + b"\r\n", bodyless=True)
    assert told.complete
    assert not told.reusable
    assert Told(OK + coding + b"\r\nbody", bodyless=True).body == b""


def test_interim_answers_up_to_the_limit() -> None:
    told = Told(INTERIM * MAX_INTERIM + OK + b"Content-Length: 0\r\n\r\n")
    assert told.complete
    assert told.head == [(b"Content-Length", b"0")]


def test_without_length_the_connection_ends_it() -> None:
    told = Told(OK + b"\r\n", b"abc", b"def")
    assert told.framing.until_eof
    assert not told.complete
    assert told.body == b"abcdef"


@pytest.mark.parametrize("more", [0, 1])
def test_a_head_may_be_as_long_as_the_limit_and_no_longer(more: int) -> None:
    """The limit is exact, and does not depend on how much of the body came along."""
    head = OK + b"Content-Length: 3\r\n"
    head += b"X: " + b"x" * (512 + more - len(head) - 7) + b"\r\n\r\n"
    assert len(head) == 512 + more
    for pieces in ([head + b"abc"], [head, b"abc"], [head[:511], head[511:] + b"abc"]):
        told = Told(*pieces, head=512)
        assert told.complete is not bool(more)
        assert bool(more) is ("more than 512 bytes" in told.what)


def test_trailers_and_extensions_are_bounded() -> None:
    """A peer that sends framing but no body does not go on for ever."""
    for endless in (b"0\r\n" + b"X: 1\r\n" * 99, b"0\r\nX: " + b"x" * 600, b"1;" + b"x" * 600):
        told = Told(OK + CHUNKED, *[endless[n : n + 50] for n in range(0, len(endless), 50)], head=512)
        assert "without end" in told.what


def test_values_are_handed_on_as_they_came() -> None:
    told = Told(OK + b"X-Thing:  \xe4 b \r\nx-thing: 2\r\nContent-Length: 0\r\n\r\n")
    assert told.head == [(b"X-Thing", b"\xe4 b "), (b"x-thing", b"2"), (b"Content-Length", b"0")]
