"""The first word of a stream, told from the courtesies before it."""

from __future__ import annotations

import json

import pytest

from guardproxy.openai import begin
from guardproxy.openai.events import DONE, event, raw_event
from guardproxy.openai.scan import Scan


def chunk(finish=None, **delta):
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode()


@pytest.mark.parametrize(
    "payload",
    [
        chunk(role="assistant", content=""),  # vLLM, SGLang, OpenAI
        chunk(role="assistant", content=None),  # llama.cpp
        chunk(role="assistant", content="", reasoning_content=None, tool_calls=None, function_call=None, refusal=None),
        chunk(role="assistant", content="", tool_calls=[]),
        chunk(),
        b'{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}',  # Azure
        b'{"choices":[{"index":0,"text":"","logprobs":null,"finish_reason":null}]}',
        b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null}],"usage":{"total_tokens":3}}',
        b'{"choices":[],"error":null}',
    ],
)
def test_a_courtesy_is_no_word(payload):
    """A role alone, an empty delta, a chunk without choices: the model has not begun to answer."""
    assert not begin.chunk(payload)


@pytest.mark.parametrize(
    "payload",
    [
        chunk(content="a"),
        chunk(role="assistant", content="\n"),
        chunk(content='"'),
        chunk(reasoning_content="hm"),
        chunk(reasoning="hm"),
        chunk(refusal="no"),
        chunk(role="assistant", content=None, tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]),
        chunk(something_new={"a": 1}),
        chunk("stop"),
        b'{"choices":[{"index":0,"text":" a"}]}',
        b'{"choices":[{"index":0,"text" : "a"}]}',
        b'{"choices":[{"index":0,"delta":{"content":""}},{"index":1,"delta":{"content":"b"}}]}',
        b'{"choices":[{"index":0,"message":{}}]}',
        b'{"choices":["?"]}',
        b'{"choices":[],"error":{"message":"x"}}',
        b'{"error":{"message":"x"}}',
        b'{"choices":3}',
        b"[1]",
        b"{broken",
    ],
)
def test_what_is_said_or_unknown_is_a_word(payload):
    """Text, reasoning, tools, an end, an error; and what nobody here can read, which must not be held back."""
    assert begin.chunk(payload)


def test_quoted_text_is_not_taken_for_a_word():
    """What looks like content within other text is escaped there."""
    assert not begin.chunk(json.dumps({"choices": [], "note": '"content":"a"'}).encode())


@pytest.mark.parametrize(
    "event, word",
    [
        ({"type": "content_block_start", "content_block": {"type": "text", "text": ""}}, False),
        ({"type": "content_block_start", "content_block": {"type": "thinking", "thinking": ""}}, False),
        ({"type": "content_block_start", "content_block": {"type": "tool_use", "id": "1", "name": "f"}}, True),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": ""}}, False),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, True),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "a"}}, True),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}, True),
        ({"type": "content_block_stop", "index": 0}, False),
        ({"type": "message_delta", "delta": {"stop_reason": None}}, True),
        ({"type": "response.output_item.added", "item": {"type": "message", "content": []}}, False),
        ({"type": "response.output_item.added", "item": {"type": "reasoning", "summary": []}}, False),
        ({"type": "response.output_item.added", "item": {"type": "function_call", "name": "f"}}, True),
        ({"type": "response.content_part.added", "part": {"type": "output_text", "text": ""}}, False),
        ({"type": "response.output_item.done", "item": {"type": "message", "content": [{"text": "a"}]}}, True),
        ({"type": "response.output_text.delta", "delta": ""}, False),
        ({"type": "response.output_text.delta", "delta": "a"}, True),
        ({"type": "response.reasoning_summary_text.delta", "delta": "a"}, True),
        ({"type": "response.web_search_call.searching"}, True),
        ({}, True),
    ],
)
def test_typed_events(event, word):
    """Blocks, items and parts are nothing before something is said in them."""
    assert begin.typed(event) is word


@pytest.mark.parametrize(
    "doc, word",
    [
        ({"message": {"role": "assistant", "content": ""}, "done": False}, False),
        ({"message": {"role": "assistant", "content": "a"}}, True),
        ({"message": {"role": "assistant", "content": "", "thinking": "a"}}, True),
        ({"message": {"role": "assistant", "content": "", "tool_calls": [{}]}}, True),
        ({"response": "", "done": False}, False),
        ({"response": "a"}, True),
        ({"response": "", "thinking": "a"}, True),
        ({"message": {"role": "assistant", "content": ""}, "done": True}, True),
        ({"message": {"role": "assistant", "content": ""}, "error": "x"}, True),
        ({"status": "?"}, True),
    ],
)
def test_lines(doc, word):
    """Ollama's."""
    assert begin.line(doc) is word


def test_a_stream_that_says_nothing_begins_with_its_end():
    """A model may answer with nothing: then the end is all there is to pass on."""
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant"}}]})
    for parts, begun in (([role], False), ([role, raw_event(DONE)], True), ([raw_event(DONE)], False)):
        scan = Scan()
        for part in parts:
            scan.feed(part)
        assert scan.begun is begun
