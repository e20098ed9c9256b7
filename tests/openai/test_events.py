"""Server-sent events: the same payloads however the bytes were split and the lines ended."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.openai import events
from guardproxy.openai.events import DONE, Reader, event, payloads, raw_event


def split(body: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[a:b] for a, b in pairwise(edges)]


def fed(chunks: list[bytes]) -> list[bytes]:
    reader = Reader()
    return [payload for chunk in chunks for payload in reader.feed(chunk)] + reader.close()


CUTS = st.lists(st.integers(0, 10_000), max_size=30)
SOUP = st.lists(
    st.sampled_from(
        [
            *(b"data: ", b"data:", b"data", b"da", b"\n", b"\r", b"\r\n", b"\n\n", b": ping", b"event: x"),
            *(b"\xef\xbb\xbf", b" ", b"x", "é😀".encode(), b"[DONE]", b'{"a":1}', b"id: 3", b"retry: 5", b"\x00"),
        ]
    ),
    max_size=40,
).map(b"".join)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20)


@given(SOUP, CUTS)
def test_any_split_of_anything(body, cuts):
    """What a chunk is, is the network's accident: no split of any bytes makes another story of them."""
    assert fed(split(body, cuts)) == payloads(body)
    assert fed([body[i : i + 1] for i in range(len(body))]) == payloads(body)
    assert fed([body, b"", b""]) == payloads(body)


@given(
    st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=8),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.booleans(),
    st.booleans(),
    CUTS,
)
def test_what_was_said_is_read(said, end, bom, space, cuts):
    """Any line end, a byte order mark, comments, data in several lines: the payloads are those that were written."""
    body = b"\xef\xbb\xbf" if bom else b""
    for lines in said:
        body += b": ping" + end + b"event: e" + end
        for line in lines:
            body += b"data:" + (b" " if space or line.startswith(" ") else b"") + line.encode() + end
        body += end
    assert fed(split(body, cuts)) == ["\n".join(lines).encode() for lines in said]


def test_an_event_without_its_empty_line():
    """What the stream ends in the middle of counts, if it lacks nothing but the empty line."""
    assert payloads(b"data: a\n\ndata: b") == [b"a", b"b"]
    assert payloads(b"data: a\r") == [b"a"]
    assert payloads(b"") == payloads(b": ping\n\n") == []


def test_mixed_line_ends():
    """CR, LF and CRLF in one stream; a CRLF that was split between chunks ends one line, not two."""
    assert payloads(b"data: a\r\ndata: b\rdata: c\n\r\n") == [b"a\nb\nc"]
    assert fed([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"]) == [b"a\nb"]
    assert fed([b"data: a\r", b"\r", b"data: b\n\n"]) == [b"a", b"b"]


def test_a_byte_order_mark_only_at_the_start():
    """It is passed over where it begins the stream, and is text elsewhere."""
    assert fed([b"\xef", b"\xbb", b"\xbfdata: a\n\n"]) == [b"a"]
    assert payloads(b"data: \xef\xbb\xbfa\n\n") == [b"\xef\xbb\xbfa"]


def test_a_megabyte_in_one_line():
    """Long lines are no error: images and long arguments make them."""
    body = b"data: " + b"x" * (1 << 20) + b"\n\n"
    assert fed([body[i : i + 4096] for i in range(0, len(body), 4096)]) == payloads(body) == [b"x" * (1 << 20)]


def test_ten_thousand_events_at_once():
    """All of them, in order."""
    assert payloads(b"".join(b"data: %d\n\n" % number for number in range(10_000)))[-1] == b"9999"


@given(
    st.lists(
        st.sampled_from([b"data: 12345", b"data: 1234567890123", b"data:", b"data", b": 1234567890123", b"x" * 13]),
        max_size=6,
    ),
    CUTS,
)
def test_too_long_is_dropped_whole(lines, cuts):
    """An event over the bound is dropped as a whole in every split, and the next one is read again."""
    before, events.BUFFER = events.BUFFER, 20
    try:
        body = b"\n".join(lines) + b"\n\ndata: next\n\n"
        found = payloads(body)
        assert fed(split(body, cuts)) == found
        assert found[-1] == b"next"
        whole = [line[6:] if line[5:6] == b" " else line[5:] for line in lines if line.startswith(b"data")]
        assert found[:-1] in ([], [b"\n".join(whole)])
    finally:
        events.BUFFER = before


@pytest.mark.parametrize("line", [b"data: x\n", b"data:\n", b"data\n"])
def test_memory_is_bounded(line, monkeypatch):
    """A server that never ends its event does not fill the memory, be its lines ever so short."""
    monkeypatch.setattr(events, "BUFFER", 1 << 12)
    reader = Reader()
    assert reader.feed(line * (1 << 12)) == []
    assert len(reader._data) <= events.BUFFER // len(line)
    for _ in range(20):
        reader.feed(b"y" * 1000)
    assert sum(map(len, reader._parts)) <= events.BUFFER


def test_writing():
    """What is written can be read."""
    assert payloads(event({"a": "\n"}) + raw_event(DONE)) == [b'{"a":"\\n"}', DONE]
