"""Completions put together from events and taken apart into them, and garbage that looks like either."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.openai.completion import Assembly, assemble, chat, disassemble, encode, so_far, text
from guardproxy.openai.events import DONE, event, payloads, raw_event

WORDS = st.text(max_size=12)
TOOL = st.fixed_dictionaries(
    {"id": WORDS, "type": st.just("function"), "function": st.fixed_dictionaries({"name": WORDS, "arguments": WORDS})}
)
LOGPROBS = st.none() | st.fixed_dictionaries(
    {"content": st.lists(st.fixed_dictionaries({"token": WORDS, "logprob": st.floats(-9, 0)}), min_size=1, max_size=3)}
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": st.none() | WORDS},
    optional={"tool_calls": st.lists(TOOL, min_size=1, max_size=3), "reasoning_content": WORDS, "refusal": WORDS},
)
CHOICE = st.fixed_dictionaries(
    {"message": MESSAGE, "logprobs": LOGPROBS, "finish_reason": st.sampled_from(["stop", "length", "tool_calls"])},
    optional={"stop_reason": st.integers(0, 9)},
)
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def whole(choices: list, kind: str = "chat.completion") -> dict:
    numbered = [{"index": number, **choice} for number, choice in enumerate(choices)]
    head = {"id": "c", "object": kind, "created": 1, "model": "m", "system_fingerprint": "f"}
    return {**head, "choices": numbered, "usage": USAGE}


@given(st.lists(CHOICE, min_size=1, max_size=3), st.booleans())
def test_there_and_back(choices, usage):
    """An app that streams and one that does not are told the same: text, tools, reasoning, log probabilities, usage."""
    doc = whole(choices)
    again = assemble(disassemble(doc, usage=usage))
    if not usage:
        del doc["usage"]
    assert again == doc


DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": st.none() | WORDS,
        "role": st.just("assistant"),
        "reasoning_content": WORDS,
        "tool_calls": st.just([{"index": 0, "function": {"arguments": "x"}}]),
    },
)
PIECE = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 0, 1]), "delta": DELTA | st.fixed_dictionaries({"content": WORDS})},
    optional={
        "finish_reason": st.sampled_from([None, None, "stop", ""]),
        "logprobs": LOGPROBS,
        "stop_reason": st.sampled_from([None, 0, "x"]),
    },
)
CHUNK = st.fixed_dictionaries(
    {"id": st.just("c"), "choices": st.lists(PIECE, max_size=2) | PIECE.map(lambda one: [one])},
    optional={"usage": st.sampled_from([None, USAGE]), "error": st.sampled_from([None, {"message": "x"}]), "x": WORDS},
)


@given(st.lists(CHUNK, max_size=12), st.booleans())
def test_haste_changes_nothing(chunks, looked):
    """Most chunks are read in haste; what comes of them is what comes of reading each with care, whenever one looks."""
    hasty, careful = Assembly(), Assembly()
    for chunk in chunks:
        hasty.add(chunk)
        careful._fields = None
        careful.add(chunk)
        if looked:
            hasty.whole()
    found, wanted = hasty.whole(), careful.whole()
    if found and wanted:  # a field of the whole that differs in each chunk is nobody's
        found.pop("x", None)
        wanted.pop("x", None)
    assert found == wanted


def test_an_error_is_not_overlooked_in_haste():
    """Also where every chunk before it said that there was none."""
    made = Assembly()
    for error in (None, None, {"message": "x"}):
        made.add({"choices": [{"index": 0, "delta": {"content": "a"}}], "error": error})
    assert made.whole() == {"error": {"message": "x"}}


@given(st.lists(st.tuples(WORDS, LOGPROBS, st.sampled_from(["stop", "length"])), min_size=1, max_size=3))
def test_there_and_back_with_text(choices):
    """The same for text completions."""
    doc = whole([{"text": t, "logprobs": p, "finish_reason": f} for t, p, f in choices], "text_completion")
    assert assemble(disassemble(doc, usage=True)) == doc


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, min_size=1, max_size=4))
def test_pieces_are_joined(content, arguments):
    """However a model cuts its words, the app that does not stream gets them in one piece."""
    chunks: list[dict[str, object]] = [{"role": "assistant", "content": None, "tool_calls": None}]
    chunks += [{"content": piece} for piece in content]
    chunks += [{"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": arguments[0]}}]}]
    chunks += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in arguments[1:]]
    body = b"".join(
        event({"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]})
        for delta in chunks
    )
    body += event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}) + raw_event(DONE)
    doc = assemble(body)
    assert doc is not None
    assert (doc["object"], doc["choices"][0]["finish_reason"]) == ("chat.completion", "tool_calls")
    message = doc["choices"][0]["message"]
    assert message["content"] == "".join(content)
    assert message["tool_calls"] == [{"id": "t", "function": {"name": "f", "arguments": "".join(arguments)}}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "tool_calls",
                    "function",
                    "function_call",
                    "index",
                    "content",
                    "text",
                    "arguments",
                    "logprobs",
                    "object",
                    "usage",
                    "finish_reason",
                    "role",
                    "error",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.lists(JSON, max_size=4))
def test_garbage_is_no_crash(chunks):
    """Whatever an upstream sends as events, it is a completion, an error or nothing; never a 500 of ours."""
    doc = assemble(b"".join(event(chunk) for chunk in chunks))
    assert doc is None or isinstance(doc, dict)
    if doc is not None and "error" not in doc:
        assert isinstance(disassemble(doc, usage=True), bytes)


@given(JSON)
def test_garbage_can_be_taken_apart(doc):
    """Nor is an answer that is JSON but no completion."""
    if isinstance(doc, dict):
        assert payloads(disassemble(doc, usage=True))[-1] == DONE


def test_an_error_among_the_events():
    """An error event makes the whole an error, be there [DONE] behind it or not."""
    assert assemble(event({"choices": []}) + event({"error": {"message": "no"}}) + raw_event(DONE)) == {
        "error": {"message": "no"}
    }
    assert assemble(b"") is assemble(raw_event(DONE)) is None


def test_what_comes_after_done_does_not_count():
    """[DONE] ends it."""
    doc = assemble(event({"id": "a", "choices": []}) + raw_event(DONE) + event({"id": "b", "choices": []}))
    assert doc == {"id": "a", "choices": []}


def test_malformed_data_is_an_error():
    """Half an event cannot be part of a whole answer."""
    with pytest.raises(ValueError, match="line 1"):
        assemble(raw_event(b'{"choices":'))


def test_our_own():
    """A completion of ours has everything that an SDK looks for, as JSON and as events."""
    doc = chat("hi", id="x", model="m", created=5)
    assert (doc["id"], doc["object"]) == ("chatcmpl-x", "chat.completion")
    assert doc["choices"][0]["message"]["content"] == "hi"
    assert json.loads(encode(doc, stream=False, usage=False)) == doc
    stream = encode(doc, stream=True, usage=True)
    assert stream.endswith(b"data: [DONE]\n\n")
    again = assemble(stream)
    assert again is not None
    assert again["choices"][0]["message"]["content"] == "hi"
    assert again["usage"] == doc["usage"]
    assert text("hi", id="x", model="m", created=5)["choices"][0]["text"] == "hi"


def test_usage_only_where_asked_for():
    """`stream_options.include_usage`: a last chunk without choices; else none, as SDKs expect."""
    doc = chat("hi", id="x", model="m", created=5)
    assert b"usage" not in disassemble(doc, usage=False)
    last = json.loads(payloads(disassemble(doc, usage=True))[-2])
    assert (last["choices"], last["usage"]) == ([], doc["usage"])


def test_the_finish_reason_comes_last():
    """A client that stops reading at the finish reason has everything by then."""
    doc = whole([{"message": {"role": "assistant", "content": "hi"}, "logprobs": None, "finish_reason": "stop"}])
    first, last = (json.loads(payload)["choices"][0] for payload in payloads(disassemble(doc, usage=False))[:2])
    assert (first["delta"]["role"], first["finish_reason"]) == ("assistant", None)
    assert (last["delta"], last["finish_reason"]) == ({}, "stop")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_so_far(end):
    """An answer that was stopped half-way through an event tells what its whole events told."""
    one = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"to"}}]}' + end
    two = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":" be"}}]}' + end
    for cut in range(len(one), len(one + two)):
        assert so_far((one + two)[:cut])["choices"][0]["message"]["content"] == "to"
    assert so_far(one + two)["choices"][0]["message"]["content"] == "to be"
    assert so_far(b"")["choices"] == []
    assert so_far(b"data: {" + end)["choices"] == []
