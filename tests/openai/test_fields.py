"""Which header fields go on, in which direction."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.openai.fields import HOP_BY_HOP, downward, kept, upward, value, values


def fields(*pairs: str) -> list[tuple[bytes, bytes]]:
    return [(name.strip().encode(), text.strip().encode()) for name, _, text in (pair.partition(":") for pair in pairs)]


@pytest.mark.parametrize("way", [upward, downward])
def test_hop_by_hop(way):
    """What belongs to one connection ends with it, and so does whatever `Connection` names (RFC 9110 §7.6.1)."""
    headers = fields("Connection: close, X-Mine", "x-mine: 1", "CONNECTION: x-other", "X-Other: 2", "X-Third: 3")
    headers += [(name.title(), b"x") for name in HOP_BY_HOP if name != b"connection"]
    assert way(headers) == fields("X-Third: 3")


def test_upward():
    """The caller's own words for us stay here; everything else goes, twice where it came twice, in its spelling."""
    headers = fields(
        "Host: a", "Content-Length: 5", "Expect: 100-continue", "X-Request-Id: r", "X-Guardproxy-Skip: cache",
        "x-guardproxy-made-up: 1", "AUTHORIZATION: Bearer k", "X-LLM-Mode: fast", "X: 1", "X: 2",
    )  # fmt: skip
    assert upward(headers) == fields("AUTHORIZATION: Bearer k", "X-LLM-Mode: fast", "X: 1", "X: 2")


def test_downward():
    """An upstream does not speak for us, and framing is written anew."""
    headers = fields("Date: d", "Server: s", "Content-Length: 5", "X-Guardproxy-Mode: lie", "X-Request-Id: r", "Y: 1")
    assert downward(headers) == fields("Y: 1")


def test_kept():
    """Nothing of one caller's request is shown to the next: no cookie, no id, no rate limit."""
    headers = fields(
        "Set-Cookie: s", "X-RateLimit-Remaining-Tokens: 3", "RateLimit: 3", "Date: d", "Age: 3", "Request-Id: x",
        "Retry-After: 3", "Content-Type: j", "OpenAI-Version: 1",
    )  # fmt: skip
    assert kept(headers) == fields("Content-Type: j", "OpenAI-Version: 1")


def test_values():
    """Names are found in any spelling."""
    headers = fields("A: 1", "b: 2", "a: 3")
    assert (value(headers, b"a"), values(headers, b"a"), value(headers, b"c")) == (b"1", [b"1", b"3"], None)


NAMES = st.sampled_from([b"A", b"b", b"Connection", b"TE", b"X-Guardproxy-X"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=9))))
def test_any_fields(headers):
    """What goes on is what came, in order: nothing is added, nothing changed."""
    for way in (upward, downward, kept):
        rest = iter(headers)
        assert all(pair in rest for pair in way(headers))
