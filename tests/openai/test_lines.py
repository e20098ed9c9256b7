"""NDJSON is framed the same whatever way its bytes were split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.openai import lines as module
from guardproxy.openai.lines import Lines, lines, readable, refusal
from guardproxy.openai.strict import loads


@given(st.lists(st.sampled_from([b'{"a":1}', b"", b"\r", b" ", b"x" * 9, "é".encode()])), st.data())
def test_any_split_gives_the_same_lines(parts, data):
    """Empty lines count for nothing, a last line needs no end, and CRLF is an end like LF."""
    body = b"\n".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=5)))
    reader, found = Lines(), []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += reader.feed(body[start:end])
    assert found + reader.close() == [part.strip() for part in parts if part.strip()] == lines(body)


def test_a_line_too_long_is_dropped_whole(monkeypatch):
    """Its neighbours are not."""
    monkeypatch.setattr(module, "BUFFER", 8)
    reader = Lines()
    assert reader.feed(b"12345678\n12345") == [b"12345678"]
    assert reader.feed(b"6789") == []
    assert reader.feed(b"0\nok\n") == [b"ok"]
    assert Lines().feed(b"123456789\nok\n") == [b"ok"]


def test_errors_are_texts():
    """As Ollama's clients read them; ours say the code too."""
    assert readable({"error": "x"})
    assert not readable({"error": {"message": "x"}})
    assert not readable([])
    assert loads(refusal("c", "m", None)) == {"error": "m", "code": "c", "param": None}
