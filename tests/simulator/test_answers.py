"""What a well-behaved simulated server answers."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import openai
import pytest

from tests.simulator.conftest import content_of, events_of
from tests.simulator.test_instance import BRIEF, satisfies

TOOL = {"type": "function", "function": {"name": "mix", "parameters": BRIEF}}
WANTED = {"type": "json_schema", "json_schema": {"name": "brief", "schema": BRIEF, "strict": True}}


async def test_prose_says_who_answered_and_how_it_was_asked(ask):
    """A person who looks at a downshift must see which model, mode and temperature it was."""
    text = content_of(await ask(temperature=0.3, mode="fast"))
    assert text.startswith("[qwen = Qwen/Qwen2.5-7B-Instruct, mode fast, temperature 0.3] ")
    assert "default temperature" in content_of(await ask())


async def test_an_answer_is_a_function_of_the_body(ask):
    """The same body gives the same text, streamed or not; another body may give another. Ids are fresh."""
    one, two = await ask(seed=1), await ask(seed=1)
    assert content_of(one) == content_of(two)
    assert one.json()["id"] != two.json()["id"]
    assert content_of(one) != content_of(await ask("a lily", seed=1))
    streamed = events_of((await ask(seed=1, stream=True)).text)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in streamed[:-1]) == content_of(one)


async def test_an_answer_belongs_to_its_request(ask):
    """The caller's X-Request-Id comes back in the header and, on order, in text, object and schema instance."""
    headers = {"X-Request-Id": "abc-1"}
    assert (await ask(headers=headers)).headers["x-request-id"] == "abc-1"
    assert (await ask()).headers["x-request-id"].startswith("req-")
    for body in ({}, {"response_format": {"type": "json_object"}}, {"response_format": WANTED}):
        assert "[abc-1]" in content_of(await ask(headers=headers, manners="echo-id", **body))


async def test_n_and_usage(ask):
    """`n` choices, whose tokens the usage counts."""
    answer = (await ask(n=3)).json()
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in answer["choices"]}) == 3
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 50


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_and_says_so(ask, limit):
    """finish_reason is `length` and usage counts what was sent."""
    answer = (await ask(**{limit: 3})).json()
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


async def test_a_stop_sequence_ends_the_text(ask):
    """Nothing from the stop sequence on is said."""
    answer = await ask(stop=["]"])
    assert content_of(answer).endswith("default temperature")
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_has_the_shape_of_one(ask):
    """Roles first, then content, then the ends, usage where asked for, and [DONE] once and last."""
    answer = await ask(stream=True, n=2, stream_options={"include_usage": True})
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    *chunks, usage, done = events_of(answer.text)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(chunks) - 4
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks[:3]] == ["assistant", "assistant", None]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-3:]] == [None, "stop", "stop"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in [*chunks, usage]}) == 1


async def test_no_usage_chunk_unasked(ask):
    """Without stream_options no chunk has empty choices."""
    assert all(chunk["choices"] for chunk in events_of((await ask(stream=True)).text)[:-1])


async def test_json_object_is_a_perfume_brief(ask):
    """In response_format or in words, JSON asked for is JSON given."""
    for answer in (await ask(response_format={"type": "json_object"}), await ask("a brief, in JSON please")):
        assert satisfies(json.loads(content_of(answer)), BRIEF)


@pytest.mark.parametrize(
    "asked",
    [
        {"response_format": WANTED},
        {"structured_outputs": {"json": BRIEF}},
        {"guided_json": BRIEF},
        {"guided_json": json.dumps(BRIEF)},
    ],
)
async def test_a_schema_is_satisfied_however_it_is_asked_for(ask, asked):
    """OpenAI's spelling and both of vLLM's."""
    assert satisfies(json.loads(content_of(await ask(**asked))), BRIEF)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "mix"}}])
async def test_a_forced_tool_is_called_with_valid_arguments(ask, choice):
    """Not streamed and streamed; `auto` is answered in prose."""
    choice_of = (await ask(tools=[TOOL], tool_choice=choice)).json()["choices"][0]
    assert choice_of["finish_reason"] == "tool_calls"
    assert choice_of["message"]["content"] is None
    function = choice_of["message"]["tool_calls"][0]["function"]
    assert function["name"] == "mix"
    assert satisfies(json.loads(function["arguments"]), BRIEF)
    streamed = events_of((await ask(tools=[TOOL], tool_choice=choice, stream=True)).text)[:-1]
    deltas = [event["choices"][0]["delta"] for event in streamed]
    arguments = "".join(delta["tool_calls"][0]["function"]["arguments"] for delta in deltas if "tool_calls" in delta)
    assert arguments == function["arguments"]
    assert content_of(await ask(tools=[TOOL], tool_choice="auto"))


async def test_completions(client):
    """One choice per prompt and n; streamed chunks carry text."""
    asked = {"model": "m", "prompt": ["a", "b"], "n": 2, "max_tokens": 2}
    answer = (await client.post("/v1/completions", json=asked)).json()
    assert answer["object"] == "text_completion"
    assert len(answer["choices"]) == 4
    streamed = await client.post("/v1/completions", json={"prompt": "a", "stream": True, "max_tokens": 2})
    *chunks, done = events_of(streamed.text)
    assert done == "[DONE]"
    assert [chunk["choices"][0]["text"] for chunk in chunks] == ["[qwe", "n", ""]


async def test_embeddings_are_unit_vectors_in_both_encodings(client):
    """The text alone decides the vector; base64 holds the same 32-bit floats."""
    asked = {"model": "m", "input": ["rose", "lily", "rose"], "dimensions": 5}
    answer = (await client.post("/v1/embeddings", json=asked)).json()
    rose, lily, again = (item["embedding"] for item in answer["data"])
    assert rose == again != lily
    assert sum(number * number for number in rose) == pytest.approx(1)
    packed = (await client.post("/v1/embeddings", json={**asked, "encoding_format": "base64"})).json()
    assert list(struct.unpack("<5f", base64.b64decode(packed["data"][0]["embedding"]))) == rose
    assert len((await client.post("/v1/embeddings", json={"input": [1, 2]})).json()["data"]) == 1


async def test_models_and_health(client):
    """What a proxy asks beside inference."""
    assert (await client.get("/v1/models")).json()["data"][0]["id"] == "Qwen/Qwen2.5-7B-Instruct"
    assert (await client.get("/health")).status == 200
    assert (await client.get("/elsewhere?x=1")).status == 404
    assert (await client.post("/health")).status == 405


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b"{}",
        b'{"messages":[]}',
        b'{"messages":[1]}',
        b'{"messages":[{}],"n":0}',
        b'{"messages":[{}],"n":1000}',
        b'{"messages":[{}],"max_tokens":"9"}',
        b'{"messages":[{}],"stop":[1]}',
        b'{"messages":[{}],"guided_json":"{"}',
        b'{"messages":[{}],"guided_json":{"type":"string","enum":[1]}}',
    ],
)
async def test_a_bad_request_is_a_400_in_an_envelope(client, body):
    """Never a 500, and never plain text."""
    answer = await client.post("/v1/chat/completions", data=body)
    assert answer.status == 400
    assert answer.json()["error"]["type"] == "BadRequestError"


@pytest.mark.parametrize(
    "body", [{"tools": 5, "tool_choice": {"function": "x"}}, {"response_format": "json"}, {"stream_options": 1}]
)
async def test_odd_fields_are_survived(ask, body):
    """What no simulated answer depends on is not refused."""
    assert (await ask(**body)).status == 200


async def test_any_model_name_is_served_unless_strict(ask):
    """With strict-model an unknown name is vLLM's 404; the server's own name and model id are known."""
    assert (await ask(model="x")).status == 200
    refused = await ask(model="x", manners="strict-model")
    assert refused.status == 404
    assert refused.json()["error"]["message"] == "The model `x` does not exist."
    for model in ("qwen", "Qwen/Qwen2.5-7B-Instruct"):
        assert (await ask(model=model, manners="strict-model")).status == 200


async def test_the_openai_client_is_content(sim):
    """The real SDK understands answers, streams, tools, embeddings, the list of models and errors."""
    messages = [{"role": "user", "content": "a rose"}]
    async with openai.AsyncOpenAI(base_url=f"{sim.url}/v1", api_key="none", max_retries=0) as client:
        create: Any = client.chat.completions.create  # its overloads want literals; the types are not what is tested
        answer = await create(model="qwen", messages=messages)
        text = answer.choices[0].message.content
        assert text
        assert answer.usage.completion_tokens > 10
        stream = await create(model="qwen", messages=messages, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
        assert chunks[-1].usage == answer.usage
        called = await create(model="qwen", messages=messages, tools=[TOOL], tool_choice="required")
        assert called.choices[0].message.tool_calls[0].function.name == "mix"
        # The SDK asks for base64 by itself and decodes it.
        vectors = await client.embeddings.create(model="qwen", input=["rose", "lily"])
        assert [len(item.embedding) for item in vectors.data] == [8, 8]
        assert [model.id async for model in client.models.list()] == ["Qwen/Qwen2.5-7B-Instruct"]
        with pytest.raises(openai.RateLimitError):
            await create(model="qwen", messages=messages, extra_headers={"X-Simulate": "status=429,retry-after=1"})
