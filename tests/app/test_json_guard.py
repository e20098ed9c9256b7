"""An app that asks for JSON of a schema gets that, the declared fallback, or an honest error; nothing in between."""

from __future__ import annotations

import asyncio
import dataclasses
import json

import jsonschema_rs
import pytest

from tests.app.stand import BRIEF, CHAT, FALLBACK, JSON_SCHEMA, NEVER, SCHEMA, Replay, asking, whole

VALID = jsonschema_rs.validator_for(SCHEMA)
BAD = ["half-json", "wrong-type", "not-json"]
MENDED = ["fenced-json", "prose-json"]
ASKED = {"X-Guardproxy-Schema": "scent", **NEVER}
NO_STORE = {"Cache-Control": "no-store"}


def valid(text):
    return VALID.is_valid(json.loads(text))


@pytest.fixture
async def judged(make):
    """A stand that knows a schema with a fallback."""
    return await make({"json_guard": {"schemas": {"scent": BRIEF}}})


@pytest.fixture
async def bare(make):
    """A stand that knows no schema."""
    return await make()


@pytest.mark.parametrize("stream", [False, True])
async def test_valid_at_once(bare, stream):
    """A valid answer passes as it is: one call, `X-Guardproxy-Json: valid`."""
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=stream)
    assert (answer.status, answer.headers["X-Guardproxy-Json"], bare.asked("llama")) == (200, "valid", 1)
    assert valid(answer.said if stream else answer.content)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("manner", BAD)
async def test_asked_again(bare, manner, stream):
    """A bad answer is shown to the model with what is wrong, and the right one that follows is what the app sees."""
    bare.sims["llama"].faults = f"{manner},right-on=2"
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=stream, headers=NO_STORE)
    assert answer.status == 200
    assert valid(answer.said if stream else answer.content)
    assert (answer.headers["X-Guardproxy-Json"], answer.headers["X-Guardproxy-Attempts"]) == ("retried", "2")
    assert bare.asked("llama") == 2
    first, again = (visit.body for visit in bare.sims["llama"].memory.requests)
    said, note = again["messages"][1:]
    assert again["messages"][:1] == first["messages"]
    assert (said["role"], note["role"]) == ("assistant", "user")
    assert said["content"]
    assert "JSON" in note["content"] or "schema" in note["content"]
    metrics = await bare.metrics()
    assert metrics['llm_json_parse_failures_total{model="llama"}'] == 1
    assert metrics['llm_json_retry_count_sum{model="llama"}'] == 1
    assert metrics['llm_json_retry_count_bucket{le="0.0",model="llama"}'] == 0
    assert metrics['llm_json_retry_count_bucket{le="1.0",model="llama"}'] == 1
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['guardproxy_json_total{result="retried"}'] == 1
    if stream:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_never_right_with_fallback(judged, stream):
    """After max_retries re-asks the declared fallback is answered, as a completion or as a well-formed stream."""
    judged.sims["llama"].faults = "wrong-type"
    options = {"stream_options": {"include_usage": True}} if stream else {}
    answer = await judged.chat(headers=ASKED, response_format=JSON_SCHEMA, stream=stream, **options)
    assert judged.asked("llama") == 4
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "fallback")
    assert answer.headers["X-Guardproxy-Attempts"] == "4"
    if stream:
        assert json.loads(answer.said) == FALLBACK
        chunks = answer.events
        assert chunks[-1] == "[DONE]"
        assert {chunk["object"] for chunk in chunks[:-1]} == {"chat.completion.chunk"}
        assert [c["choices"][0]["finish_reason"] for c in chunks[:-1] if c["choices"]][-1] == "stop"
        assert chunks[-2]["usage"]["total_tokens"] == 0
        assert answer.headers["Content-Type"].startswith("text/event-stream")
    else:
        assert json.loads(answer.content) == FALLBACK
        assert answer.json()["choices"][0]["finish_reason"] == "stop"
    metrics = await judged.metrics()
    assert metrics['llm_json_fallback_used_total{model="llama"}'] == 1
    assert metrics['llm_json_parse_failures_total{model="llama"}'] == 4
    assert metrics['llm_json_retry_count_sum{model="llama"}'] == 3
    assert metrics['llm_request_failures_total{model="llama"}'] == 0
    assert metrics['guardproxy_requests_total{source="fallback",status="2xx"}'] == 1
    assert await judged.circuit("llama") == "closed"


@pytest.mark.parametrize("stream", [False, True])
async def test_never_right_without_fallback(bare, stream):
    """Without a fallback it is 502 `invalid_model_output`, and the app is told that trying again is no use."""
    bare.sims["llama"].faults = "not-json"
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=stream)
    assert bare.asked("llama") == 4
    assert (answer.status, answer.code) == (502, "invalid_model_output")
    assert answer.headers["x-should-retry"] == "false"
    metrics = await bare.metrics()
    assert metrics['guardproxy_json_total{result="failed"}'] == 1
    assert metrics['llm_json_fallback_used_total{model="llama"}'] == 0


@pytest.mark.parametrize("most", [0, 1, 5])
async def test_max_retries(make, most):
    """`json_guard.max_retries` bounds the re-asks: exactly that many and the first."""
    stand = await make({"json_guard": {"max_retries": most}})
    stand.sims["llama"].faults = "half-json"
    assert (await stand.chat(response_format=JSON_SCHEMA)).code == "invalid_model_output"
    assert stand.asked("llama") == most + 1


async def test_the_last_try_counts(bare):
    """The right answer on the very last try is answered."""
    bare.sims["llama"].faults = "half-json,right-on=4"
    answer = await bare.chat(response_format=JSON_SCHEMA)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "retried")


async def test_fallback_disabled(make):
    """`fallback_enabled: false` answers the error though a fallback is declared."""
    stand = await make({"json_guard": {"fallback_enabled": False, "schemas": {"scent": BRIEF}}})
    stand.sims["llama"].faults = "not-json"
    assert (await stand.chat(headers=ASKED)).code == "invalid_model_output"


async def test_strict_schema_false(make):
    """`strict_schema: false` counts a violation of the schema and lets it through; text that is no JSON never is."""
    stand = await make({"json_guard": {"strict_schema": False}})
    stand.sims["llama"].faults = "wrong-type"
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "unchecked")
    assert not valid(answer.content)
    assert await stand.metric('llm_json_parse_failures_total{model="llama"}') == 1
    assert stand.asked("llama") == 1
    stand.sims["llama"].faults = "not-json"
    assert (await stand.chat("other", response_format=JSON_SCHEMA)).code == "invalid_model_output"


async def test_disabled(make):
    """`enabled: false`: whatever the model says passes, and no header says that anybody looked."""
    stand = await make({"json_guard": {"enabled": False}})
    stand.sims["llama"].faults = "half-json"
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert answer.status == 200
    assert "X-Guardproxy-Json" not in answer.headers


async def test_json_object(bare):
    """`json_object` asks for any JSON object, and gets one."""
    bare.sims["llama"].faults = "not-json,right-on=3"
    answer = await bare.chat(response_format={"type": "json_object"})
    assert isinstance(json.loads(answer.content), dict)
    assert bare.asked("llama") == 3


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("manner", MENDED)
async def test_mended(bare, manner, stream):
    """JSON in a fence or among prose is taken out of it: one call, no tokens, `X-Guardproxy-Json: repaired`."""
    bare.sims["llama"].faults = manner
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=stream)
    assert (answer.status, answer.headers["X-Guardproxy-Json"], bare.asked("llama")) == (200, "repaired", 1)
    assert valid(answer.said if stream else answer.content)
    assert await bare.metric('llm_json_parse_failures_total{model="llama"}') == 1


async def test_plain_text_is_nobodys_business(bare):
    """A call that asks for no JSON is not judged: no header, no delay, streams are not held."""
    answer = await bare.chat(response_format={"type": "text"})
    assert "X-Guardproxy-Json" not in answer.headers
    assert await bare.metric('llm_json_retry_count_count{model="llama"}') == 0


async def test_several_choices(bare):
    """With n > 1 every choice must be valid; one bad one has the whole answer asked for again, nothing is mixed."""
    bare.sims["llama"].faults = "half-json,right-on=2"
    answer = await bare.chat(n=3, response_format=JSON_SCHEMA)
    assert [valid(choice["message"]["content"]) for choice in answer.json()["choices"]] == [True] * 3
    assert bare.asked("llama") == 2


async def test_one_bad_choice_of_two(make):
    """The same where only the second choice is bad."""
    choices = [
        {"index": 0, "message": {"role": "assistant", "content": json.dumps(FALLBACK)}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": "{"}, "finish_reason": "stop"},
    ]
    async with Replay(whole(json.dumps({"choices": choices}).encode())) as replay:
        stand = await make({"upstreams": {"llama": {"url": replay.url}}}, bare=True)
        answer = await stand.chat(n=2, response_format=JSON_SCHEMA, headers=NEVER)
    assert (answer.status, answer.code) == (502, "invalid_model_output")
    assert "choice 1" in answer.error["message"]


async def test_tool_calls_are_judged_by_what_the_tool_takes(bare):
    """A message that calls a tool says no text; what it gives to the tool is judged instead."""
    tools = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}]
    answer = await bare.chat(response_format=JSON_SCHEMA, tools=tools, tool_choice="required")
    assert answer.status == 200
    assert answer.headers["X-Guardproxy-Json"] == "valid"
    assert answer.json()["choices"][0]["message"]["tool_calls"]


async def test_schema_by_header(judged):
    """`X-Guardproxy-Schema` asks for a configured schema where the body asks for none."""
    judged.sims["llama"].faults = "not-json"
    answer = await judged.chat(headers=ASKED)
    assert answer.headers["X-Guardproxy-Json"] == "fallback"
    assert json.loads(answer.content) == FALLBACK
    unknown = await judged.chat(headers={"X-Guardproxy-Schema": "nobody"})
    assert (unknown.status, unknown.code) == (400, "invalid_schema")
    assert "scent" in unknown.error["message"]


async def test_schema_of_a_route(make):
    """So does a route; the caller's own header beats it."""
    schemas = {"scent": BRIEF, "any": {"schema": {"type": "object"}, "fallback": {}}}
    stand = await make({"json_guard": {"schemas": schemas}, "routes": [{"model": "llama", "schema": "scent"}]})
    stand.sims["llama"].faults = "not-json"
    stand.sims["mistral"].faults = "not-json"
    assert json.loads((await stand.chat(headers=NEVER)).content) == FALLBACK
    assert json.loads((await stand.chat(headers={**NEVER, "X-Guardproxy-Schema": "any"})).content) == {}
    assert "X-Guardproxy-Json" not in (await stand.chat(model="mistral")).headers


async def test_schema_named_as_configured(judged):
    """An app whose `response_format` bears the name of a configured schema gets its fallback, if that satisfies it."""
    judged.sims["llama"].faults = "not-json"
    assert json.loads((await judged.chat(response_format=JSON_SCHEMA)).content) == FALLBACK
    other = {"type": "json_schema", "json_schema": {"name": "scent", "schema": {"type": "object", "required": ["x"]}}}
    assert (await judged.chat(response_format=other)).code == "invalid_model_output"


async def test_skip(judged):
    """`X-Guardproxy-Skip: json` does without the guard, for one call."""
    judged.sims["llama"].faults = "half-json"
    answer = await judged.chat(response_format=JSON_SCHEMA, headers={"X-Guardproxy-Skip": "cache, json"})
    assert answer.status == 200
    assert "X-Guardproxy-Json" not in answer.headers
    assert "Cache-Status" not in answer.headers


@pytest.mark.parametrize(
    "schema, code",
    [
        ({"type": "objekt"}, "invalid_schema"),
        ({"$ref": "#/nowhere"}, "invalid_schema"),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, "invalid_schema"),
        ({"$ref": "file:///etc/hosts"}, "invalid_schema"),
        ("not a schema", "invalid_schema"),
        (7, "invalid_schema"),
        ({"$ref": "#"}, "schema_too_deep"),
    ],
)
async def test_bad_schemas(bare, schema, code):
    """A schema that is none, or refers outside itself, is 400 before any model is asked."""
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await bare.chat(response_format=wanted)
    assert (answer.status, answer.code) == (400, code)
    assert answer.error["param"] == "response_format"
    assert all(bare.asked(name) == 0 for name in bare.sims)


async def test_truncated_json(bare):
    """JSON cut off by the length limit is no JSON: it is asked for again, not passed on."""
    bare.sims["llama"].faults = "length,right-on=2"
    answer = await bare.chat(response_format=JSON_SCHEMA)
    assert valid(answer.content)
    assert bare.asked("llama") == 2


async def test_half_an_object_at_the_length_limit_streamed(bare):
    """The same where it is streamed: not a byte of the bad answer reaches the app."""
    bare.sims["llama"].faults = "length,right-on=2"
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=True)
    assert valid(answer.said)


async def test_faults_and_bad_json_together(judged):
    """A re-ask that fails is tried again at another model; bad answers of both together are bounded."""
    judged.sims["llama"].faults = ["half-json,times=1", "status=500"]
    answer = await judged.chat(response_format=JSON_SCHEMA)
    assert answer.status == 200
    assert valid(answer.content)
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"


async def test_completions_are_judged_too(judged):
    """Text completions are judged as chat is."""
    judged.sims["qwen"].faults = "not-json"
    answer = await judged.ask("POST", "/v1/completions", json={"model": "qwen", "prompt": "JSON"}, headers=ASKED)
    assert answer.headers["X-Guardproxy-Json"] == "fallback"
    assert json.loads(answer.json()["choices"][0]["text"]) == FALLBACK
    assert answer.json()["object"] == "text_completion"


def patient(stand, seconds):
    """Have the first keep-alive comment leave after so many seconds."""
    performer = stand.proxy.house.performer
    performer.roads.bounds = dataclasses.replace(performer.roads.bounds, hold_comment=seconds)


async def test_held_stream_is_kept_alive(bare):
    """While a stream is held back comments keep the connection alive; then the whole answer follows as it came."""
    patient(bare, 0.1)
    bare.sims["llama"].faults = "latency=0.35"
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=True)
    assert answer.status == 200
    assert answer.text.count(": the answer is being checked\n\n") >= 2
    assert valid(answer.said)
    assert answer.events[-1] == "[DONE]"
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["X-Guardproxy-Upstream"] == "llama"
    assert not answer.cut


async def test_held_stream_fails_after_a_comment(bare):
    """Once a comment has left, an error can only be an event: no [DONE], and the connection ends unfinished."""
    patient(bare, 0.1)
    bare.sims["llama"].faults = "latency=0.2,not-json"
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=True, headers=NEVER)
    assert answer.status == 200
    assert answer.cut
    assert answer.events[-1]["error"]["code"] == "invalid_model_output"
    assert "[DONE]" not in answer.events


async def test_held_stream_falls_back_after_a_comment(judged):
    """A fallback after a comment is a well-formed end of that stream."""
    patient(judged, 0.1)
    judged.sims["llama"].faults = "latency=0.1,not-json"
    answer = await judged.chat(stream=True, headers=ASKED)
    assert (answer.status, answer.cut) == (200, False)
    assert json.loads(answer.said) == FALLBACK
    assert answer.events[-1] == "[DONE]"


async def test_held_stream_says_late_what_its_head_could_not(judged):
    """Where the head has left before the answer was known, comments before it say what its fields would have said."""
    patient(judged, 0.1)
    judged.sims["llama"].faults = "latency=0.2,not-json"
    answer = await judged.chat(stream=True, headers=ASKED)
    assert "X-Guardproxy-Json" not in answer.headers
    assert "X-Guardproxy-Attempts" not in answer.headers
    said, _, rest = answer.text.partition("data: ")
    assert ": X-Guardproxy-Json: fallback\n" in said
    assert f": X-Guardproxy-Attempts: {judged.asked('llama')}\n" in said
    assert said.endswith("\n\n")
    assert ": X-" not in rest


async def test_held_stream_fails_before_a_comment(bare):
    """Before any comment a held stream still fails with a real status."""
    bare.sims["llama"].faults = "not-json"
    answer = await bare.chat(response_format=JSON_SCHEMA, stream=True)
    assert (answer.status, answer.code) == (502, "invalid_model_output")


async def test_shutdown_while_waiting_for_a_re_ask(make):
    """A caller who waits for a re-ask when the proxy is told to end at once gets an answer, not silence."""
    stand = await make({"json_guard": {"backoff_base": 5}, "timeouts": {"total": 60}})
    stand.sims["llama"].faults = "not-json"
    call = asyncio.ensure_future(stand.ask("POST", CHAT, json=asking(response_format=JSON_SCHEMA)))
    await stand.until(lambda: stand.asked("llama") == 1)
    await asyncio.sleep(0.05)
    await stand.proxy.app.close(0.0)
    answer = await call
    assert (answer.status, answer.code) == (503, "shutting_down")


async def test_deadline_bounds_re_asks(make):
    """A re-ask that could not be answered before `timeouts.total` is over is not made."""
    stand = await make({"json_guard": {"backoff_base": 30}})
    stand.sims["llama"].faults = "not-json"
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert (answer.code, stand.asked("llama")) == ("invalid_model_output", 1)


async def test_escalation(make):
    """`escalate: true`: after the re-asks another model is asked once, and the answer says why it is another one's."""
    stand = await make({"json_guard": {"escalate": True, "max_retries": 1}})
    stand.sims["llama"].faults = "not-json"
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert valid(answer.content)
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=invalid_model_output"
    assert (stand.asked("llama"), stand.asked("mistral"), stand.asked("qwen")) == (2, 1, 0)
    stand.sims["mistral"].faults = "not-json"
    answer = await stand.chat("other", response_format=JSON_SCHEMA)
    assert (answer.code, stand.asked("mistral"), stand.asked("qwen")) == ("invalid_model_output", 2, 0)
    assert (await stand.chat("never", response_format=JSON_SCHEMA, headers=NEVER)).code == "invalid_model_output"
    assert stand.asked("mistral") == 2


@pytest.mark.parametrize("most", [0, 1])
async def test_an_escalated_answer_says_so(make, most):
    """It is no answer that was right as it came, however often the first model was asked."""
    stand = await make({"json_guard": {"escalate": True, "max_retries": most}})
    stand.sims["llama"].faults = "not-json"
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "retried")
    assert await stand.metric('guardproxy_json_total{result="retried"}') == 1


async def test_escalation_without_a_breaker(make):
    """Nothing but `escalate` moves a call then: an outage stays one, a bad answer is asked for elsewhere."""
    stand = await make({"json_guard": {"escalate": True, "max_retries": 1}, "circuit_breaker": {"enabled": False}})
    stand.sims["llama"].faults = "not-json"
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert valid(answer.content)
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=invalid_model_output"
    assert (stand.asked("llama"), stand.asked("mistral")) == (2, 1)
    stand.sims["llama"].faults = "status=500"
    assert (await stand.chat("out", response_format=JSON_SCHEMA)).status == 500
    assert stand.asked("mistral") == 1


async def test_as_many_fallbacks_as_choices(judged):
    """An app that asked for two choices finds two, streamed or not."""
    judged.sims["llama"].faults = "not-json"
    answer = await judged.chat(n=2, headers=ASKED)
    assert [json.loads(choice["message"]["content"]) for choice in answer.json()["choices"]] == [FALLBACK] * 2
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]
    streamed = await judged.chat(n=2, headers=ASKED, stream=True)
    ends = [choice["index"] for event in streamed.events[:-1] for choice in event["choices"] if choice["finish_reason"]]
    assert ends == [0, 1]


async def test_the_bad_choice_is_shown(make):
    """Asked again the model sees the choice that was wrong, and only what is wrong with that."""
    said = [json.dumps(FALLBACK), '{"name": 3}']
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for index, text in enumerate(said)
    ]
    async with Replay(whole(json.dumps({"choices": choices}).encode())) as replay:
        stand = await make({"upstreams": {"llama": {"url": replay.url}}}, bare=True)
        await stand.chat(n=2, response_format=JSON_SCHEMA, headers=NEVER)
    asked = [json.loads(body)["messages"] for body in replay.bodies]
    bad, note = next(messages for messages in asked if len(messages) > 1)[1:]
    assert bad == {"role": "assistant", "content": said[1]}
    assert note["content"].startswith("it does not satisfy the schema: ")


async def test_streams_that_are_only_reported(make):
    """`stream_validation: report`: a stream is relayed as it comes and judged at its end; a bad one is never kept."""
    stand = await make({"json_guard": {"stream_validation": "report"}})
    stand.sims["llama"].faults = "wrong-type"
    answer = await stand.chat(response_format=JSON_SCHEMA, stream=True)
    assert (answer.status, answer.cut, answer.headers["X-Guardproxy-Json"]) == (200, False, "unchecked")
    assert not valid(answer.said)
    metrics = await stand.metrics()
    assert metrics['llm_json_parse_failures_total{model="llama"}'] == 1
    assert metrics["cache_size"] == 0
    assert stand.asked("llama") == 1
    stand.sims["llama"].faults = None
    assert valid((await stand.chat("good", response_format=JSON_SCHEMA, stream=True)).said)
    assert await stand.metric("cache_size") == 1
    assert "X-Guardproxy-Json" not in (await stand.chat("plain", stream=True)).headers
