"""The Responses API: typed events, no ``[DONE]``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.asked import Schema, Wrong
from guardproxy.core.values import Kind, Target
from guardproxy.dialects.responses import SPEC as RESPONSES
from guardproxy.flow.aim import more_room
from guardproxy.openai.events import payloads, typed_event
from tests.dialects.conversations import REAL, bad, call, cut_anywhere, good, streamed, unfinished, whole

STREAM = (REAL / "llamacpp_responses.sse").read_bytes()
SCHEMA = {"type": "object", "required": ["x"]}
TOOL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "look",
    "arguments": '{"x":1}',
    "status": "completed",
}


def said(*texts: str, status: str = "completed", **more: Any) -> dict[str, Any]:
    output = [
        {"type": "message", "id": f"msg_{n}", "role": "assistant", "status": status, "content": [
            {"type": "output_text", "text": text, "annotations": []}]}
        for n, text in enumerate(texts)
    ]  # fmt: skip
    return {"id": "resp_1", "object": "response", "status": status, "output": output, **more}


def test_a_real_answer():
    """Read, kept, and its tokens counted."""
    found = good(RESPONSES.examine(call(RESPONSES), whole(json.loads((REAL / "llamacpp_responses.json").read_bytes()))))
    assert (found.kind, found.keepable) == (Kind.SUCCESS, True)
    assert RESPONSES.usage(found.doc)["output_tokens"] == 5  # type: ignore[index] # it is there
    assert RESPONSES.texts(found.doc) == [found.doc["output"][0]["content"][0]["text"]]


def test_a_real_stream_cut_anywhere():
    """Wherever it is cut it tells the same, and nothing but all of it is an answer."""
    events, error, usage, complete, keepable, done = cut_anywhere(RESPONSES, STREAM)
    assert (events, error, complete, keepable, done) == (11, None, True, True, True)
    assert usage["total_tokens"] == 18
    unfinished(RESPONSES, STREAM, STREAM.index(b"event: response.completed"))


def test_a_real_stream_is_put_together():
    """As the last event tells it; without that, as the others do."""
    found = good(RESPONSES.examine(call(RESPONSES, stream=True), streamed(RESPONSES, STREAM)))
    assert found.keepable
    (text,) = RESPONSES.texts(found.doc)
    for end in (b"event: response.output_item.done", b"event: response.completed"):
        assert RESPONSES.texts(RESPONSES.so_far(STREAM[: STREAM.index(end)])) == [text]
    assert RESPONSES.texts(RESPONSES.so_far(STREAM[:700])) == [""]
    assert RESPONSES.so_far(b"data: {\n\n") == RESPONSES.so_far(b"") == {"output": []}
    deltas = [RESPONSES.deltas(json.loads(payload)) for payload in payloads(STREAM)]
    assert "".join(piece for found in deltas for _, piece in found) == text
    cut = streamed(RESPONSES, STREAM[: STREAM.index(b"event: response.completed")])
    assert bad(RESPONSES.examine(call(RESPONSES), cut)).code == "upstream_reset"


@pytest.mark.parametrize(
    "doc, says",
    [([], "no object"), ({}, "without output"), ({"output": 3}, "without output"), ("x", "no object")],
)
def test_200_and_no_answer(doc, says):
    """It counts against the upstream."""
    assert says in bad(RESPONSES.examine(call(RESPONSES), whole(doc))).message


def test_in_the_background():
    """What is still being made is passed on, and never kept."""
    found = good(RESPONSES.examine(call(RESPONSES), whole({"id": "r", "status": "queued", "output": []})))
    assert (found.kind, found.keepable) == (Kind.SUCCESS, False)


@pytest.mark.parametrize(
    "event, status",
    [
        ({"type": "response.failed", "response": {"error": {"code": "server_error", "message": "m"}}}, 500),
        ({"type": "response.failed", "response": {"status": "failed", "error": {"code": "rate_limit_exceeded"}}}, 429),
        ({"type": "response.failed", "response": {"status": "failed"}}, 502),
        ({"type": "error", "code": "server_error", "message": "m", "param": None}, 500),
        ({"type": "error", "error": {"type": "server_error", "message": "m"}}, 500),
        ({"error": {"message": "m", "code": 503}}, 503),
    ],
)  # fmt: skip
def test_a_failure_in_the_stream(event, status):
    """In each spelling: no success, whatever stood before it; under 200 it becomes the status that it stands for."""
    begun = typed_event("response.created", {"type": "response.created", "response": {"id": "r", "output": []}})
    body = begun + typed_event("e", event)
    scan = RESPONSES.scan(call(RESPONSES))
    scan.feed(body)
    assert scan.error is not None
    assert not scan.complete()
    found = good(RESPONSES.examine(call(RESPONSES), streamed(RESPONSES, body)))
    assert found.status == status
    assert isinstance(json.loads(found.body)["error"]["message"], str)
    assert found.kind in (Kind.FAILURE, Kind.THROTTLED)


def test_a_failure_without_a_stream():
    """A failed response under 200 is no success."""
    found = good(RESPONSES.examine(call(RESPONSES), whole({"status": "failed", "output": [], "error": None})))
    assert (found.status, found.kind) == (502, Kind.FAILURE)


@pytest.mark.parametrize(
    "output, texts",
    [
        ([], [""]),
        ([TOOL], [None]),
        ([{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}], [None]),
        ([{"type": "message", "content": []}], [""]),
        ([{"type": "message", "content": "odd"}, 3], [""]),
        (said("a", "b")["output"], ["a", "b"]),
        ([{"type": "reasoning", "content": []}, *said("a")["output"]], ["a"]),
    ],
)
def test_what_it_says(output, texts):
    """Each message is a choice; one that only calls functions or refuses says nothing by design."""
    assert RESPONSES.texts({"output": output}) == texts


def test_what_was_meant_but_thought():
    """JSON in the reasoning of a silent answer is found."""
    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": '{"x":1}'}]}
    assert RESPONSES.asides({"output": [reasoning]}) == ['{"x":1}']
    assert RESPONSES.asides({"output": [reasoning, *said("a", "b")["output"]]}) == [None, None]


def test_schemas_are_asked_for_in_text_format():
    """And tools carry theirs flat."""
    wanted = RESPONSES.wanted({"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}})
    assert wanted is not None
    assert (wanted.name, wanted.schema) == ("n", SCHEMA)
    assert RESPONSES.wanted({"response_format": {"type": "json_object"}}) is None
    assert RESPONSES.parameters({"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]})[0][0] == "f"
    assert RESPONSES.tools({"output": [TOOL]}) == [("look", '{"x":1}')]


@pytest.mark.parametrize("given", ["hi", [{"role": "user", "content": "hi"}]])
def test_it_goes_on(given):
    """The model sees what it said and what is wrong with it."""
    again = RESPONSES.again(call(RESPONSES, input=given, temperature=1), whole(said("bad")), Wrong("why"))
    assert json.loads(again.body) == again.doc
    assert again.doc["temperature"] == 0.5
    assert again.doc["input"] == [
        {"role": "user", "content": "hi"},
        {"type": "message", "role": "assistant", "content": "bad"},
        {"role": "user", "content": "why"},
    ]
    assert len(RESPONSES.again(call(RESPONSES, input=given), whole(said("")), Wrong("why")).doc["input"]) == 2


def test_more_room():
    """Only for what was cut at its length, up to the limit."""
    assert RESPONSES.cut({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}})
    assert not RESPONSES.cut({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}})
    assert not RESPONSES.cut({"status": "completed"})
    longer = more_room(call(RESPONSES, max_output_tokens=10), Target("u"), 30)
    assert longer is not None
    assert longer.doc["max_output_tokens"] == 30
    assert more_room(call(RESPONSES), Target("u"), 30) is None


@pytest.mark.parametrize("stream", [False, True])
def test_mended(stream):
    """Other words and other arguments in the same answer, as the caller wants it sent."""
    doc = said("bad", "fine")
    doc["output"].append(TOOL)
    mended = RESPONSES.mend(call(RESPONSES, stream=stream), whole(doc), ["good", None], ['{"x":2}'])
    again = RESPONSES.assemble(mended.body) if stream else json.loads(mended.body)
    assert again == mended.doc
    assert RESPONSES.texts(again) == ["good", "fine"]
    assert RESPONSES.tools(again) == [("look", '{"x":2}')]
    assert RESPONSES.texts(doc) == ["bad", "fine"]
    silent = RESPONSES.mend(call(RESPONSES, stream=stream), whole({"output": []}), ["good"])
    assert RESPONSES.texts(silent.doc) == ["good"]


def test_what_is_written_is_read():
    """Our streams are complete, number their events, and tell piece by piece what their end tells."""
    doc = said("one", "two")
    doc["output"].append(TOOL)
    body = RESPONSES.mend(call(RESPONSES, stream=True), whole(doc), [None, None]).body
    assert cut_anywhere(RESPONSES, body)[3:] == (True, True, True)
    events = [json.loads(payload) for payload in payloads(body)]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert body.count(b"event: ") == len(events)
    without = RESPONSES.so_far(body[: body.rindex(b"event: response.completed")])
    assert without["output"] == doc["output"]
    begun = RESPONSES.so_far(body[: body.index(b"event: response.function_call_arguments.done")])
    assert RESPONSES.tools(begun) == [("look", '{"x":1}')]


@pytest.mark.parametrize("status", ["incomplete", "failed", "completed"])
def test_every_end_has_its_event(status):
    """What was cut stays cut."""
    body = RESPONSES.mend(call(RESPONSES, stream=True), whole(said("x", status=status)), [None]).body
    assert b"event: response." + status.encode() in body


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_of_ours(stream):
    """A fallback is a whole response."""
    body = RESPONSES.compose(call(RESPONSES, stream=stream), '{"x":1}', 1700000000)
    answer = streamed(RESPONSES, body) if stream else whole(json.loads(body))
    found = good(RESPONSES.examine(call(RESPONSES), answer))
    assert (RESPONSES.texts(found.doc), found.doc["created_at"]) == (['{"x":1}'], 1700000000)


def test_errors():
    """An envelope; in a stream an error event, where the SDKs find both the event's fields and the envelope."""
    error = RESPONSES.error(504, "c", "m", "p")
    assert json.loads(error)["error"]["code"] == "c"
    told = RESPONSES.told(error)
    assert told.startswith(b"event: error\n")
    (payload,) = payloads(told)
    assert json.loads(payload)["message"] == json.loads(payload)["error"]["message"] == "m"
    scan = RESPONSES.scan(call(RESPONSES))
    scan.feed(told)
    assert scan.error is not None


def test_an_engine_is_told_of_a_schema():
    """In the field of the API, unless the app uses it itself; in the engine's own; or in words."""
    schema = Schema("a b", None, b"", source=SCHEMA)
    told = RESPONSES.enforced({"text": {"verbosity": "low"}}, schema, "response_format")
    assert told == {"text": {"verbosity": "low", "format": {"type": "json_schema", "name": "a_b", "schema": SCHEMA}}}
    assert RESPONSES.enforced({"text": {"format": {"type": "text"}}}, schema, "response_format") == {}
    assert RESPONSES.enforced({}, Schema("x", None, b""), "response_format") == {
        "text": {"format": {"type": "json_object"}}
    }
    assert RESPONSES.enforced({}, schema, "guided_json") == {"guided_json": SCHEMA}
    assert RESPONSES.enforced({"instructions": "be brief"}, schema, "prompt")["instructions"].startswith("be brief\n\n")
    assert '"required"' in RESPONSES.enforced({}, schema, "prompt")["instructions"]


def test_it_is_streamed_to_be_watched():
    """Not what is made in the background: that streams nothing yet."""
    assert RESPONSES.streamed({}) == {"stream": True}
    assert RESPONSES.streamed({"background": True}) is None
    assert RESPONSES.unstreamed({}) == {"stream": False}
