"""Anthropic's messages: event lines, errors of their own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.asked import Schema, Wrong
from guardproxy.core.values import Kind, Target
from guardproxy.dialects.anthropic import SPEC as ANTHROPIC
from guardproxy.flow.aim import more_room
from guardproxy.openai.events import payloads, typed_event
from tests.dialects.conversations import REAL, bad, call, cut_anywhere, good, streamed, unfinished, whole

STREAM = (REAL / "llamacpp_messages.sse").read_bytes()
SCHEMA = {"type": "object", "required": ["x"]}
TOOL = {"type": "tool_use", "id": "t1", "name": "look", "input": {"x": 1}}


def said(*blocks: Any, stop: str | None = "end_turn") -> dict[str, Any]:
    content = [{"type": "text", "text": one} if isinstance(one, str) else one for one in blocks]
    usage = {"input_tokens": 3, "output_tokens": 4}
    return {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": stop,
            "stop_sequence": None, "usage": usage}  # fmt: skip


def events(*docs: dict[str, Any]) -> bytes:
    return b"".join(typed_event(doc.get("type", "x"), doc) for doc in docs)


def test_a_real_answer():
    """One that was cut is none to keep."""
    found = good(ANTHROPIC.examine(call(ANTHROPIC), whole(json.loads((REAL / "llamacpp_messages.json").read_bytes()))))
    assert (found.kind, found.keepable, ANTHROPIC.cut(found.doc)) == (Kind.SUCCESS, False, True)
    assert good(ANTHROPIC.examine(call(ANTHROPIC), whole(said("hi")))).keepable


def test_a_real_stream_cut_anywhere():
    """Wherever it is cut it tells the same, and nothing but all of it is an answer."""
    count, error, usage, complete, keepable, done = cut_anywhere(ANTHROPIC, STREAM)
    assert (count, error, complete, keepable, done) == (9, None, True, False, True)
    assert usage == {"cache_read_input_tokens": 12, "input_tokens": 1, "output_tokens": 5}
    unfinished(ANTHROPIC, STREAM, STREAM.index(b"event: message_stop"))


def test_a_real_stream_is_put_together():
    """Block by block; tokens count on from the start's."""
    found = good(ANTHROPIC.examine(call(ANTHROPIC, stream=True), streamed(ANTHROPIC, STREAM)))
    (text,) = ANTHROPIC.texts(found.doc)
    assert found.doc["usage"]["output_tokens"] == 5
    deltas = [ANTHROPIC.deltas(json.loads(payload)) for payload in payloads(STREAM)]
    assert "".join(piece for one in deltas for _, piece in one) == text
    assert ANTHROPIC.texts(ANTHROPIC.so_far(STREAM[: STREAM.index(b"event: message_delta") + 9])) == [text]
    assert ANTHROPIC.so_far(b"data: {\n\n") == ANTHROPIC.so_far(b"") == {"content": []}
    cut = streamed(ANTHROPIC, STREAM[: STREAM.index(b"event: message_delta")])
    assert bad(ANTHROPIC.examine(call(ANTHROPIC), cut)).code == "upstream_reset"


@pytest.mark.parametrize(
    "doc, says", [([], "no object"), ({}, "without content"), ({"content": "x"}, "without content")]
)
def test_200_and_no_answer(doc, says):
    """It counts against the upstream."""
    assert says in bad(ANTHROPIC.examine(call(ANTHROPIC), whole(doc))).message


def test_a_failure_in_the_stream():
    """Pings and the start are no content, an error is no success."""
    start = {"type": "message_start", "message": said(stop=None)}
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    scan = ANTHROPIC.scan(call(ANTHROPIC))
    assert scan.feed(events(start, {"type": "ping"})) == 0
    scan.feed(events(error))
    assert (scan.error or {})["message"] == "Overloaded"
    assert not scan.complete()
    found = good(ANTHROPIC.examine(call(ANTHROPIC), streamed(ANTHROPIC, events(start, error))))
    assert (found.status, found.kind, json.loads(found.body)) == (503, Kind.FAILURE, error)
    odd = ANTHROPIC.scan(call(ANTHROPIC))
    odd.feed(events({"type": "error"}))
    assert odd.error == {"message": "an error"}


def test_errors_are_anthropics():
    """Its own pass as they came; those of other servers are put into its words."""
    own = {"type": "error", "error": {"type": "not_found_error", "message": "m"}, "request_id": "r"}
    found = good(ANTHROPIC.examine(call(ANTHROPIC), whole(own, 404)))
    assert json.loads(found.body) == own
    other = {"error": {"message": "m", "type": "invalid_request_error", "code": 400}}
    found = good(ANTHROPIC.examine(call(ANTHROPIC), whole(other, 400)))
    assert json.loads(found.body)["type"] == "error"
    assert json.loads(found.body)["error"]["type"] == "invalid_request_error"
    assert json.loads(found.body)["error"]["message"] == "m"
    for status, kind in (
        (429, "rate_limit_error"),
        (503, "overloaded_error"),
        (502, "api_error"),
        (418, "invalid_request_error"),
    ):
        assert json.loads(ANTHROPIC.error(status, "c", "m"))["error"]["type"] == kind  # fmt: skip
    told = ANTHROPIC.told(ANTHROPIC.error(504, "upstream_timeout", "m"))
    assert told.startswith(b"event: error\n")
    assert json.loads(payloads(told)[0])["error"]["code"] == "upstream_timeout"


@pytest.mark.parametrize(
    "doc, texts",
    [
        (said(), [""]),
        (said("a", TOOL, "b"), ["ab"]),
        (said(TOOL), [None]),
        (said("", TOOL), [None]),
        (said(stop="refusal"), [None]),
        (said({"type": "thinking", "thinking": "hm"}, "a", {"type": "text"}), ["a"]),
        ({"content": [3, {"type": "text", "text": 3}]}, [""]),
    ],
)
def test_what_it_says(doc, texts):
    """All text is one text; a message that uses tools instead says nothing by design."""
    assert ANTHROPIC.texts(doc) == texts


def test_what_was_meant_but_thought():
    """JSON in the thinking of a silent answer is found."""
    assert ANTHROPIC.asides(said({"type": "thinking", "thinking": '{"x":1}'})) == ['{"x":1}']
    assert ANTHROPIC.asides(said("a")) == [None]


@pytest.mark.parametrize("ask", [{"output_config": {"format": {}}}, {"output_format": {}}])
def test_schemas_are_asked_for(ask):
    """In the field that there is now, and in that of the beta."""
    given = {"type": "json_schema", "schema": SCHEMA}
    doc = json.loads(json.dumps(ask).replace("{}", json.dumps(given)))
    wanted = ANTHROPIC.wanted(doc)
    assert wanted is not None
    assert wanted.schema == SCHEMA
    assert ANTHROPIC.wanted({"output_config": {"format": "x"}, "output_format": {"type": "text"}}) is None
    tools = {"tools": [{"name": "look", "input_schema": SCHEMA}, {"type": "bash_20250124", "name": "bash"}, 3]}
    assert ANTHROPIC.parameters(tools) == [("look", "tools[0].input_schema", SCHEMA)]


def test_it_goes_on():
    """The model sees what it said and what is wrong with it; an empty turn, which is refused, is left out."""
    first = call(ANTHROPIC, messages=[{"role": "user", "content": "hi"}], temperature=1)
    again = ANTHROPIC.again(first, whole(said("bad ")), Wrong("why"))
    assert [turn["content"] for turn in again.doc["messages"]] == ["hi", "bad", "why"]
    assert again.doc["temperature"] == 0.5
    assert [turn["content"] for turn in ANTHROPIC.again(first, whole(said(" ")), Wrong("why")).doc["messages"]] == [
        "hi",
        "why",
    ]
    assert [
        turn["content"] for turn in ANTHROPIC.again(call(ANTHROPIC), whole(said(TOOL)), Wrong("w")).doc["messages"]
    ] == [
        '{"x":1}',
        "w",
    ]


def test_more_room():
    """Up to the limit."""
    longer = more_room(call(ANTHROPIC, max_tokens=10), Target("u"), 30)
    assert longer is not None
    assert longer.doc["max_tokens"] == 30
    assert more_room(call(ANTHROPIC, max_tokens=30), Target("u"), 30) is None


@pytest.mark.parametrize("stream", [False, True])
def test_mended(stream):
    """Other words and another input in the same answer, as the caller wants it sent."""
    doc = said({"type": "thinking", "thinking": "hm", "signature": "s"}, "b", TOOL, "ad")
    mended = ANTHROPIC.mend(call(ANTHROPIC, stream=stream), whole(doc), ["good"], ['{"x":2}'])
    again = ANTHROPIC.assemble(mended.body) if stream else json.loads(mended.body)
    assert again == mended.doc
    assert ANTHROPIC.texts(again) == ["good"]
    assert ANTHROPIC.tools(again) == [("look", '{"x":2}')]
    assert again["content"][0] == doc["content"][0]
    untouched = ANTHROPIC.mend(call(ANTHROPIC, stream=stream), whole(doc), [None], [None])
    assert untouched.doc["content"] == doc["content"]
    assert ANTHROPIC.texts(ANTHROPIC.mend(call(ANTHROPIC), whole(said()), ["good"]).doc) == ["good"]


def test_an_input_that_is_no_json():
    """It is judged as the text that it is, and told again as it was."""
    start = {"type": "content_block_start", "index": 0, "content_block": {**TOOL, "input": {}}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"x":'}}
    doc = ANTHROPIC.assemble(events({"type": "message_start", "message": said()}, start, delta))
    assert ANTHROPIC.tools(doc) == [("look", '{"x":')]
    assert ANTHROPIC.assemble(ANTHROPIC.mend(call(ANTHROPIC, stream=True), whole(doc), [None]).body) == doc
    empty = ANTHROPIC.assemble(events({"type": "message_start", "message": said()}, start))
    assert ANTHROPIC.tools(empty) == [("look", "{}")]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_ours(stream):
    """A fallback is a whole message."""
    body = ANTHROPIC.compose(call(ANTHROPIC, stream=stream), '{"x":1}', 1)
    found = good(ANTHROPIC.examine(call(ANTHROPIC), streamed(ANTHROPIC, body) if stream else whole(json.loads(body))))
    assert (ANTHROPIC.texts(found.doc), found.keepable) == (['{"x":1}'], True)
    if stream:
        assert cut_anywhere(ANTHROPIC, body)[3:] == (True, True, True)


def test_an_engine_is_told_of_a_schema():
    """In the field of the API, unless the app uses it itself; in the engine's own; or behind the system prompt."""
    schema = Schema("x", None, b"", source=SCHEMA)
    told = ANTHROPIC.enforced({"output_config": {"effort": "low"}}, schema, "response_format")
    assert told == {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}}
    assert ANTHROPIC.enforced(told, schema, "response_format") == {}
    assert ANTHROPIC.enforced({}, Schema("x", None, b""), "response_format") == {}
    assert ANTHROPIC.enforced({}, schema, "guided_json") == {"guided_json": SCHEMA}
    assert ANTHROPIC.enforced({"system": "be brief"}, schema, "prompt")["system"].startswith("be brief\n\n")
    assert '"required"' in ANTHROPIC.enforced({}, schema, "prompt")["system"]
    assert len(ANTHROPIC.enforced({"system": [{"type": "text", "text": "x"}]}, schema, "prompt")["system"]) == 2
