"""Reading along: when a stream is whole, when it may be kept, and when it only looks so."""

from __future__ import annotations

import json
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.openai import events
from guardproxy.openai.completion import assemble
from guardproxy.openai.events import DONE, event, raw_event
from guardproxy.openai.scan import Scan

END = raw_event(DONE)


def chunk(index: int = 0, finish: str | None = None, **delta: object) -> bytes:
    return event({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def scanned(*parts: bytes, choices: int = 1) -> Scan:
    scan = Scan(choices)
    for part in parts:
        scan.feed(part)
    scan.close()
    return scan


@pytest.mark.parametrize(
    "parts, complete, keepable",
    [
        ([chunk(content="a"), chunk(finish="stop"), END], True, True),
        ([chunk(content="a"), chunk(finish="stop")], True, True),
        ([chunk(content="a"), chunk(finish="length"), END], True, False),
        ([chunk(content="a"), chunk(finish="content_filter"), END], True, False),
        ([chunk(content="a"), END], True, False),
        ([chunk(content="a")], False, False),
        ([], False, False),
        ([END], False, False),
        ([b": ping\n\n", END], False, False),
        ([chunk(content="a"), event({"error": {"message": "no"}}), END], False, False),
        ([chunk(finish="stop"), event({"error": "no"}), END], False, False),
        ([chunk(finish="stop"), END, event({"error": "late"})], True, True),
        ([chunk(content='"finish_reason": "stop"')], False, False),
        ([chunk(finish="stop"), event({"choices": [], "usage": {"total_tokens": 3}}), END], True, True),
        ([raw_event(b'{"choices": [{"finish_reason":'), END], True, False),
        ([raw_event(b"[1]"), raw_event(b'{"choices":3,"finish_reason":"x"}')], False, False),
    ],
)
def test_whole_or_not(parts, complete, keepable):
    """No error event, and a finish reason on every choice or [DONE]; a cut or filtered answer is not kept."""
    scan = scanned(*parts)
    assert (scan.complete(), scan.keepable()) == (complete, keepable)


def test_every_choice_has_to_finish():
    """With n = 2 one finish reason is half of an answer."""
    parts = [chunk(0, content="a"), chunk(1, content="b"), chunk(0, "stop")]
    assert not scanned(*parts, choices=2).complete()
    assert scanned(*parts, chunk(1, "stop"), choices=2).keepable()


def test_events_are_counted_and_comments_are_not():
    """Keep-alive comments are no content: they must not reset anybody's clock."""
    scan = Scan()
    assert [scan.feed(b": ping\n\n"), scan.feed(chunk(content="a")), scan.feed(END)] == [0, 1, 0]
    assert scan.events == 1
    assert scan.done


def test_usage_and_error_are_read():
    """What a stream says it took, and the first thing it complained of."""
    scan = scanned(event({"usage": {"a": 1}, "choices": []}), event({"error": {"message": "x"}}), event({"error": "y"}))
    assert (scan.usage, scan.error) == ({"a": 1}, {"message": "x"})


PARTS = st.lists(
    st.sampled_from(
        [
            *(chunk(content="é"), chunk(finish="stop"), chunk(1, "length"), END, b": ping\n\n", b"data: {\n\n"),
            *(event({"error": {"message": "no"}}), event({"choices": [], "usage": {"n": 1}})),
        ]
    ),
    max_size=8,
)


@given(PARTS, st.lists(st.integers(0, 2000), max_size=20))
def test_any_split(parts, cuts):
    """The verdict does not depend on where the network cut the bytes."""
    body = b"".join(parts)
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    one = scanned(body)
    other = scanned(*(body[a:b] for a, b in pairwise(edges)))
    for name in ("events", "done", "error", "finished", "begun", "usage"):
        assert getattr(one, name) == getattr(other, name)
    assert one.complete() is other.complete()


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda i: st.lists(i) | st.dictionaries(
    st.sampled_from(["choices", "finish_reason", "usage", "error", "index"]), i)))  # fmt: skip
def test_garbage_is_no_crash(doc):
    """Whatever comes as an event."""
    scan = scanned(raw_event(json.dumps(doc).encode()), raw_event(b'{"error":') + END)
    assert scan.complete() in (True, False)


def test_put_together_as_it_comes():
    """A scan that is told to puts together what `assemble` makes of all of it, wherever the bytes were cut."""
    parts = [{"content": "a", "role": "assistant"}, {"content": "b"}, {"tool_calls": [{"index": 0, "id": "1"}]}]
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": part, "finish_reason": None}]} for part in parts]
    body = b"".join(map(event, chunks)) + event({"choices": [], "usage": {"total_tokens": 3}}) + END
    for size in (1, 7, len(body)):
        scan = Scan().assemble()
        for start in range(0, len(body), size):
            scan.feed(body[start : start + size])
        scan.close()
        assert scan.told() == assemble(body)
    assert scanned(body).told() is None


def test_what_cannot_be_read_is_said_when_it_is_asked_for():
    """An event that is no JSON spoils the whole; an error is all that counts."""
    scan = Scan().assemble()
    scan.feed(raw_event(b'{"a":') + END)
    with pytest.raises(ValueError, match=r"EOF"):
        scan.told()
    scan = Scan().assemble()
    scan.feed(event({"choices": []}) + event({"error": {"message": "x"}}) + event({"id": "late"}))
    assert scan.told() == {"error": {"message": "x"}}


def test_tokens_counted_at_the_end_are_an_end():
    """An engine that gives no reasons and no ``[DONE]`` says no more; where every event counts it says nothing."""

    def told(*usages: bool) -> Scan:
        scan = Scan()
        for usage in usages:
            chunk = {"choices": [{"delta": {"content": "a"}}]}
            scan.feed(event(chunk | ({"usage": {"completion_tokens": 1}} if usage else {})))
        scan.close()
        return scan

    assert told(False, False, True).complete()
    assert not told(False, False, True).keepable()
    assert not told(False, False).complete()
    assert not told(True).complete()
    assert not told(True, True).complete()
    assert not told(False, True, False).complete()


def test_an_event_that_is_too_long_is_not_overlooked(monkeypatch):
    """Of an answer that is put together nothing may be missing: it is said why there is none."""
    monkeypatch.setattr(events, "BUFFER", 200)
    scan = Scan().assemble()
    said = {"choices": [{"index": 0, "delta": {"content": "x" * 300}, "finish_reason": None}]}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    scan.feed(events.event(said) + events.event(last))
    assert scan.complete()
    with pytest.raises(ValueError, match="an event of more than"):
        scan.told()


def test_an_engine_that_breaks_says_so_in_its_own_ways():
    """A finish reason that is an error, or an error that is no field: the model was not well."""
    scan = scanned(chunk(content="a"), chunk(finish="error"), END)
    assert (scan.complete(), scan.broken, scan.keepable()) == (True, True, False)
    scan = scanned(event({"object": "error", "message": "x", "code": 500}), END)
    assert (scan.begun, scan.complete()) == (True, False)
    assert scan.error is not None
    for late in ({"object": "error", "message": "x"}, {"message": "x", "object": "error"}):
        scan = scanned(chunk(content="a"), event(late), END)
        assert (scan.complete(), scan.error) == (False, late)
    assert not scanned(chunk(content='"error"'), chunk(finish="stop"), END).broken
