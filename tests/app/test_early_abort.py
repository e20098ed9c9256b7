"""The upstream of a guarded answer is asked to stream, so that it can be hung up on; the app sees what it asked for."""

from __future__ import annotations

import json

import pytest

from tests.app.stand import JSON_SCHEMA, NEVER, SCHEMA, Replay, whole

LIST = {"json_guard": {"max_retries": 1, "schemas": {"list": {"schema": {"type": "array"}}}}}
ASKED = {"response_format": {"type": "json_object"}, "headers": {"X-Guardproxy-Schema": "list", **NEVER}}
NO_STORE = {"Cache-Control": "no-store"}
TOOL = {"type": "function", "function": {"name": "pick", "parameters": SCHEMA}}


@pytest.mark.parametrize("stream", [False, True])
async def test_hung_up_on_early(make, stream):
    """A model that can no longer satisfy the schema is hung up on, whether the app streams or not, and told why."""
    stand = await make(LIST)
    stand.sims["llama"].faults = "token-delay=0.01"
    answer = await stand.chat("a rose, as JSON", stream=stream, **ASKED)
    assert (answer.status, answer.code) == (502, "invalid_model_output")
    await stand.sims["llama"].idle()
    first, again = stand.sims["llama"].memory.requests
    assert first.cancelled
    assert again.cancelled
    assert "expected" in again.body["messages"][-1]["content"]
    assert await stand.metric('guardproxy_early_aborts_total{model="llama"}') == 2
    assert await stand.metric('guardproxy_json_wasted_tokens_total{model="llama"}') >= 2  # an event of each, at least
    assert await stand.circuit("llama") == "closed"


@pytest.mark.parametrize(
    "off", [{"json_guard": {"early_abort": False}}, {"upstreams": {"llama": {"early_abort": False}}}]
)
async def test_switched_off(make, off):
    """Where it is off, for all or for this upstream, the request goes as the app wrote it and the model may finish."""
    stand = await make({**LIST, **off, "json_guard": {**LIST["json_guard"], **off.get("json_guard", {})}})
    assert (await stand.chat("a rose, as JSON", **ASKED)).code == "invalid_model_output"
    assert "stream" not in stand.seen("llama")
    assert await stand.metric('guardproxy_early_aborts_total{model="llama"}') == 0


async def test_a_violation_that_may_pass_is_not_aborted(make):
    """With `strict_schema: false` what breaks its schema is let through, and so it is waited for."""
    stand = await make({"json_guard": {**LIST["json_guard"], "strict_schema": False}})
    answer = await stand.chat("a rose, as JSON", **ASKED)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "unchecked")


@pytest.mark.parametrize(
    "asks",
    [
        {"response_format": JSON_SCHEMA},
        {"response_format": JSON_SCHEMA, "n": 3, "logprobs": True, "top_logprobs": 2},
        {"response_format": JSON_SCHEMA, "max_tokens": 4000, "seed": 3},
    ],
)
async def test_the_same_answer_in_one_piece(make, asks):
    """What was streamed for the sake of reading along is, put together, what the model says in one piece."""
    plain = await make({"json_guard": {"early_abort": False}, "cache": {"enabled": False}})
    asked = await plain.chat(**asks)
    assert "stream" not in plain.seen("llama")
    stand = await make({"cache": {"enabled": False}})
    answer = await stand.chat(**asks)
    assert stand.seen("llama")["stream"] is True
    assert answer.headers["Content-Type"] == asked.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Guardproxy-Json"] == asked.headers["X-Guardproxy-Json"]
    one, other = bare(answer.json()), bare(asked.json())
    assert one == other
    assert one["usage"]["total_tokens"] > 0


def bare(doc):
    """A completion without what differs from one answer to the next, and without empty fields."""

    def told(one):
        return {name: value for name, value in one.items() if value is not None and name not in {"id", "created"}}

    return json.loads(json.dumps(doc), object_hook=told)


@pytest.mark.parametrize(
    "more",
    [{"best_of": 2}, {"prompt_logprobs": 2}, {"use_beam_search": True}, {"tools": [TOOL], "tool_choice": "none"}],
)
async def test_what_cannot_be_streamed_is_not(make, more):
    """A request that some engine refuses as a stream, or answers less well, goes as it is."""
    stand = await make()
    answer = await stand.chat(response_format=JSON_SCHEMA, **more)
    assert answer.headers["X-Guardproxy-Json"] == "valid"
    assert "stream" not in stand.seen("llama")


async def test_an_upstream_that_does_not_stream(make):
    """Asked for events it answers in one piece all the same: then that is the answer."""
    message = {"role": "assistant", "content": '{"name": "x", "intensity": 3}'}
    doc = {
        "id": "c",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    async with Replay(whole(json.dumps(doc).encode())) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}})
        for stream in (False, True):
            answer = await stand.chat(response_format=JSON_SCHEMA, stream=stream, headers=NEVER)
            assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "valid")
            assert json.loads(answer.said if stream else answer.content) == {"name": "x", "intensity": 3}


async def test_cached_in_the_apps_own_shape(make):
    """An answer that was asked for as events is kept, and shown again, in one piece."""
    stand = await make()
    first = await stand.chat(response_format=JSON_SCHEMA)
    hit = await stand.chat(response_format=JSON_SCHEMA)
    assert hit.headers["Cache-Status"].startswith("guardproxy; hit")
    assert (hit.body, hit.headers["Content-Type"]) == (first.body, "application/json")
    assert stand.asked("llama") == 1


@pytest.mark.parametrize("fault", ["reset-mid=2", "cut=2", "error-event=2"])
async def test_a_stream_that_breaks_is_asked_for_elsewhere(make, fault):
    """An answer that breaks while it is read along is tried again like any other, and nobody sees half of it."""
    stand = await make()
    stand.sims["llama"].faults = fault
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "valid")
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"


@pytest.mark.parametrize("fault", ["wrong-type,right-on=2", "fenced-json", ""])
async def test_asked_whole_and_streamed_to_the_app(make, fault):
    """`stream_validation: upstream_nonstream`: the upstream answers in one piece, the app gets a well-formed stream."""
    stand = await make({"json_guard": {"stream_validation": "upstream_nonstream"}, "cache": {"enabled": False}})
    stand.sims["llama"].faults = fault or None
    answer = await stand.chat(response_format=JSON_SCHEMA, stream=True, stream_options={"include_usage": True})
    assert answer.status == 200
    assert set(json.loads(answer.said)) == {"name", "intensity"}
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert answer.events[-1] == "[DONE]"
    assert answer.events[-2]["usage"]["total_tokens"] > 0
    assert stand.seen("llama")["stream"] is False
    assert "stream_options" not in stand.seen("llama")


@pytest.mark.parametrize(
    "way, there",
    [
        ("structured_outputs", {"json": SCHEMA}),
        ("guided_json", SCHEMA),
        ("format", SCHEMA),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "scent", "schema": SCHEMA}}),
    ],
)
async def test_an_engine_is_told_in_its_own_way(make, way, there):
    """A schema named in a header reaches the engine in the field from which it enforces one."""
    json_guard = {"schemas": {"scent": {"schema": SCHEMA}}}
    stand = await make({"upstreams": {"llama": {"structured_output": way}}, "json_guard": json_guard})
    await stand.chat(headers={"X-Guardproxy-Schema": "scent", **NO_STORE})
    assert stand.sims["llama"].memory.requests[0].body[way] == there


def calling(*arguments):
    """The bytes of a stream in which a tool is called several times at once, a piece of each after the other."""
    begun = [{"index": at, "id": f"c{at}", "type": "function", "function": {"name": "pick", "arguments": ""}}
             for at in range(len(arguments))]  # fmt: skip
    deltas: list[dict[str, object]] = [{"role": "assistant", "tool_calls": begun}]
    for start in range(0, max(map(len, arguments)), 4):
        deltas += [
            {"tool_calls": [{"index": at, "function": {"arguments": text[start : start + 4]}}]}
            for at, text in enumerate(arguments)
            if text[start:]
        ]
    choices: list[dict[str, object]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    events = [f"data: {json.dumps({'id': 'c', 'choices': [choice]})}\n\n" for choice in choices]
    return whole("".join([*events, "data: [DONE]\n\n"]).encode(), kind="text/event-stream")


RIGHT = '{"name": "rose", "intensity": 3}'


async def test_what_a_tool_is_given_is_read_along(make):
    """Where the app streams a model is hung up on whose arguments can no longer be right, in whichever call."""
    asked = {"tools": [TOOL], "stream": True, "headers": NEVER}
    wrong = '{"intensity": "very much of it, and then some more of it", "name": "rose"}'
    async with Replay(calling(RIGHT, wrong), pieces=100, pause=0.001) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}, "json_guard": {"max_retries": 1}})
        answer = await stand.chat(**asked)
        assert (answer.status, answer.code) == (502, "invalid_model_output")
        assert "what is given to the tool pick: intensity: expected a whole number" in answer.error["message"]
        assert await stand.metric('guardproxy_early_aborts_total{model="llama"}') == 2
    async with Replay(calling(RIGHT, RIGHT), pieces=100) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}})
        answer = await stand.chat(**asked)
        assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "valid")
        told = ["", ""]
        for event in answer.events[:-1]:
            for call in event["choices"][0]["delta"].get("tool_calls", ()):
                told[call["index"]] += call["function"]["arguments"]
        assert told == [RIGHT, RIGHT]
