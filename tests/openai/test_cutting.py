"""A stream is passed on byte for byte, and cut between events alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.dialect import Dialect
from guardproxy.openai.cutting import HELD_BACK, Cutter

ENDS = Dialect.ends


def run(chunks, ends=ENDS):
    cutter = Cutter(ends)
    return [cutter.feed(chunk) for chunk in chunks], cutter


@pytest.mark.parametrize(
    "chunks, passed, tail",
    [
        ([b"data: a\n\n"], [b"data: a\n\n"], b""),
        ([b"data: a\n\ndata: b"], [b"data: a\n\n"], b"data: b"),
        ([b"data: a\n\nda", b"ta: b\n", b"\n"], [b"data: a\n\n", b"", b"data: b\n\n"], b""),
        ([b"data: a\r\n\r\ndata"], [b"data: a\r\n\r\n"], b"data"),
        ([b"data: a\r\rdata"], [b"data: a\r\r"], b"data"),
        ([b"data: a\n\r\ndata"], [b"data: a\n\r\n"], b"data"),
        ([b"data: a\n"], [b""], b"data: a\n"),
    ],
)
def test_up_to_the_last_whole_event(chunks, passed, tail):
    said, cutter = run(chunks)
    assert (said, cutter.tail, cutter.open) == (passed, tail, False)


def test_lines():
    """Where every line is an event, a line is enough."""
    said, cutter = run([b'{"a":1}\n{"b"', b":2}\n"], (b"\n",))
    assert (said, cutter.tail) == ([b'{"a":1}\n', b'{"b":2}\n'], b"")


def test_an_event_too_long_to_wait_for():
    """It is passed on as it comes, and what follows it is held back again."""
    said, cutter = run([b"data: ", b"x" * HELD_BACK, b"more"])
    assert (said[0], said[1:], cutter.open) == (b"", [b"data: " + b"x" * HELD_BACK, b"more"], True)
    assert cutter.feed(b"end\n\ndata: y") == b"end\n\n"
    assert (cutter.open, cutter.tail) == (False, b"data: y")


@given(st.lists(st.text("a:\n\r", max_size=12).map(str.encode), max_size=30))
def test_not_a_byte_is_changed(chunks):
    """However it is split: all comes out in order, and each piece ends where an event does."""
    said, cutter = run(chunks)
    assert b"".join(said) + cutter.tail == b"".join(chunks)
    assert all(piece.endswith(ENDS) for piece in said if piece)
    assert not cutter.open
