"""How the head of a request is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.net.request import UNKNOWN_LENGTH, compose


def test_head_as_it_goes_out() -> None:
    """Order and spelling are the caller's."""
    fields = [(b"X-B", b"1"), (b"x-a", b"\xe4"), (b"Empty", b"")]
    assert compose(b"POST", b"/v1/x?y=1", b"m:1", fields, 3) == (
        b"POST /v1/x?y=1 HTTP/1.1\r\nHost: m:1\r\nContent-Length: 3\r\nX-B: 1\r\nx-a: \xe4\r\nEmpty: \r\n\r\n"
    )


@pytest.mark.parametrize(
    "method,length,said",
    [
        (b"GET", 0, b""),
        (b"DELETE", 0, b""),
        (b"POST", 0, b"Content-Length: 0\r\n"),
        (b"PUT", 0, b"Content-Length: 0\r\n"),
        (b"GET", 2, b"Content-Length: 2\r\n"),
        (b"POST", UNKNOWN_LENGTH, b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_length_is_said_where_there_may_be_a_body(method: bytes, length: int, said: bytes) -> None:
    """RFC 9110 § 8.6."""
    assert compose(method, b"/", b"m", [], length) == method + b" / HTTP/1.1\r\nHost: m\r\n" + said + b"\r\n"


def test_framing_is_never_the_callers() -> None:
    """A second length, coding or host would let the upstream read another request than we wrote."""
    fields = [
        (b"content-LENGTH", b"99"),
        (b"Transfer-Encoding", b"chunked"),
        (b"HOST", b"evil"),
        (b"Connection", b"close"),
        (b"Keep-Alive", b"1"),
        (b"Upgrade", b"h2c"),
        (b"A", b"1"),
    ]
    assert compose(b"GET", b"/", b"m", fields, 0) == b"GET / HTTP/1.1\r\nHost: m\r\nA: 1\r\n\r\n"


@pytest.mark.parametrize(
    "method,target,field",
    [
        (b"GET", b"/", (b"X", b"a\r\nEvil: 1")),
        (b"GET", b"/", (b"X", b"a\nEvil: 1")),
        (b"GET", b"/", (b"X", b"a\r")),
        (b"GET", b"/", (b"X", b"a\0")),
        (b"GET", b"/", (b"X\r\nEvil", b"1")),
        (b"GET", b"/", (b"X:", b"1")),
        (b"GET", b"/", (b"Content-Length ", b"1")),
        (b"GET", b"/", (b"", b"1")),
        (b"GET", b"/ HTTP/1.1\r\nEvil: 1\r\n\r\n", (b"X", b"1")),
        (b"GET", b"/a b", (b"X", b"1")),
        (b"GET", b"/a\r", (b"X", b"1")),
        (b"GET", b"", (b"X", b"1")),
        (b"GET", b"http://evil/", (b"X", b"1")),
        (b"GET /evil", b"/", (b"X", b"1")),
        (b"", b"/", (b"X", b"1")),
        (b"CONNECT", b"/", (b"X", b"1")),
    ],
)
def test_what_cannot_be_written_is_refused(method: bytes, target: bytes, field: tuple[bytes, bytes]) -> None:
    """Nothing of the caller's becomes a line of its own."""
    assert isinstance(compose(method, target, b"m", [field], 0), str)


@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=4), st.binary(max_size=6))
def test_lines_are_counted(fields: list[tuple[bytes, bytes]], target: bytes) -> None:
    """What is written has one line per field and ends where it should, or is not written."""
    head = compose(b"GET", b"/" + target, b"m", fields, 0)
    if isinstance(head, bytes):
        assert head.count(b"\r\n\r\n") == 1
        assert head.endswith(b"\r\n\r\n")
        assert b"\0" not in head
        assert len(head.split(b"\r\n")) <= len(fields) + 4
