"""Whatever a model server sends: a verdict comes out, never an exception, in every dialect."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardproxy.config.registry import dialects
from guardproxy.core.dialect import Dialect
from guardproxy.core.values import Answer, Fault, Kind, Wrong
from tests.dialects.conversations import call, streamed, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

DIALECTS = dialects()
TOOL = {"name": "look", "arguments": "{}"}
CALLS = [{"index": 0, "id": "1", "function": TOOL}]
USAGE = {"prompt_tokens": 1, "completion_tokens": 2}
MESSAGE = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": "a"}]}
CALL = {"type": "function_call", "id": "f", **TOOL}
RESPONSE = {"id": "r", "status": "completed", "output": [MESSAGE, CALL], "usage": USAGE, "incomplete_details": None}
BLOCKS = [
    {"type": "thinking", "thinking": "t"},
    {"type": "text", "text": "a"},
    {"type": "tool_use", "name": "look", "input": {}},
]
LETTER = {"type": "message", "content": BLOCKS, "stop_reason": "end_turn", "usage": {"input_tokens": 1}}
SAID: dict[str, Any] = {"role": "assistant", "content": "a", "tool_calls": CALLS, "reasoning": "r"}
WHOLE: dict[str, Any] = {
    "chat": {"choices": [{"index": 0, "message": SAID, "finish_reason": "stop"}], "usage": USAGE},
    "completions": {"choices": [{"index": 0, "text": "a", "finish_reason": "length"}], "usage": USAGE},
    "embeddings": {"data": [{"embedding": [0.1]}], "usage": USAGE},
    "responses": RESPONSE,
    "anthropic": LETTER,
    "ollama": {"message": SAID, "done": True, "done_reason": "stop", "eval_count": 1},
    "ollama_embed": {"embeddings": [[0.1]]},
}
EVENTS: dict[str, list[Any]] = {
    "chat": [
        {"choices": [{"index": 0, "delta": SAID}]},
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USAGE},
    ],
    "completions": [{"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}],
    "embeddings": [{"data": [1]}],
    "responses": [
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**MESSAGE, "content": []}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"},
        {"type": "response.output_item.added", "item": {**CALL, "arguments": ""}},
        {"type": "response.function_call_arguments.delta", "item_id": "f", "delta": "{}"},
        {"type": "response.completed", "response": RESPONSE},
    ],
    "anthropic": [
        {"type": "message_start", "message": {**LETTER, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_start", "index": 1, "content_block": BLOCKS[2]},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ],
    "ollama": [{"message": SAID, "done": False}, {"response": "a"}, {"message": {"content": ""}, "done": True}],
    "ollama_embed": [{"embeddings": [[1]]}],
}
ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1e308,
    10**30,
    "",
    "x",
    [],
    [None],
    [[]],
    {},
    {"x": 1},
    [{}],
    "response.completed",
)
"""What may stand where it should not."""
MANY = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def spoiled(draw: st.DrawFn, sound: Any) -> Any:
    """*sound*, with up to three of its parts replaced by something odd, or taken out."""
    doc = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        places = list(parts_of(doc))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        if isinstance(holder, dict) and draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
    return doc


def parts_of(doc: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in *doc*, however deep: what holds it, and where."""
    for key in list(doc) if isinstance(doc, dict) else range(len(doc)) if isinstance(doc, list) else ():
        yield doc, key
        yield from parts_of(doc[key])


def looked_at(dialect: Dialect, answer: Answer, *, stream: bool) -> None:
    """Everything that the guards and the story may ask of an answer that was taken for one."""
    asked = call(dialect, stream=stream, messages=[], input="x", prompt="x")
    doc = answer.doc
    dialect.usage(doc)
    texts = dialect.texts(doc)
    if not dialect.judged:
        return
    dialect.cut(doc)
    assert len(dialect.asides(doc)) == len(texts)
    tools = dialect.tools(doc)
    assert all(isinstance(text, str | None) for text in texts)
    assert all(isinstance(part, str) for tool in tools for part in tool)
    assert json.loads(dialect.again(asked, answer, Wrong("why")).body)
    choices: tuple[list[str | None], ...] = ([None] * len(texts), ["{}"] * len(texts))
    for words in choices:
        other = dialect.mend(asked, answer, words, ["{}"] * len(tools))
        assert dialect.is_stream(other.headers) is stream
        if stream:
            dialect.assemble(other.body)
        else:
            assert isinstance(json.loads(other.body), dict)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
@MANY
@given(data=st.data(), status=st.sampled_from([200, 200, 200, 404, 429, 500]))
def test_a_whole_answer_of_anything(dialect, data, status):
    """It is an answer, an error or a fault; what is an answer can be judged, talked back to and mended."""
    doc = data.draw(spoiled([WHOLE[dialect.name]]))[0]
    found = dialect.examine(call(dialect), whole(doc, status))
    assert isinstance(found, Answer | Fault)
    if isinstance(found, Answer):
        if found.kind is Kind.SUCCESS:
            looked_at(dialect, found, stream=False)
        else:
            assert found.status >= 400
            json.loads(found.body)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
@MANY
@given(data=st.data(), cut=st.integers(0, 40))
def test_a_stream_of_anything(dialect, data, cut):
    """Read along or put together, cut or not; what is told as an answer can be judged, and told anew."""
    docs = data.draw(spoiled(EVENTS[dialect.name]))
    frame = b"%b\n" if dialect.media == b"application/x-ndjson" else b"data: %b\n\n"
    body = b"".join(frame % json.dumps(doc).encode() for doc in docs)
    body = body[: len(body) - cut] if cut < 5 else body
    scan = dialect.scan(call(dialect), lambda _: None)
    scan.feed(body)
    scan.close()
    assert not scan.keepable() or scan.complete()
    for payload in docs:
        dialect.deltas(payload)
    dialect.so_far(body)
    found = dialect.examine(call(dialect, stream=True), streamed(dialect, body))
    assert isinstance(found, Answer | Fault)
    if isinstance(found, Answer) and found.kind is Kind.SUCCESS:
        looked_at(dialect, found, stream=True)
