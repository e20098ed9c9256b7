"""The official Python client, with nothing changed but its base URL, cannot tell the proxy from a model server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI, BadRequestError, InternalServerError, NotFoundError, OpenAI
from pydantic import BaseModel

SAY: Any = [{"role": "user", "content": "a rose"}]


def client_of(stand, base="/v1"):
    return AsyncOpenAI(base_url=stand.app + base, api_key="sk-none", timeout=5, max_retries=2)


@pytest.fixture
async def sdk(stand):
    async with client_of(stand) as sdk:
        yield sdk


class Scent(BaseModel):
    name: str
    intensity: int


async def test_chat(stand, sdk):
    """A chat completion comes back as the model gave it."""
    answer = await sdk.chat.completions.create(model="qwen", messages=SAY)
    assert answer.model == stand.sims["qwen"].model
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content.startswith("[qwen = Qwen/Qwen2.5-7B-Instruct")
    assert answer.usage.total_tokens > 0


async def test_chat_from_a_thread(stand):
    """The synchronous client works as well: the proxy answers whoever asks while others wait."""

    def ask():
        with OpenAI(base_url=f"{stand.app}/v1", api_key="sk-none", timeout=5) as sdk:
            return sdk.chat.completions.create(model="llama", messages=SAY)

    assert (await asyncio.to_thread(ask)).choices[0].message.content


async def test_stream(sdk):
    """A stream yields pieces that add up, a finish reason and, if asked for, usage."""
    stream = await sdk.chat.completions.create(
        model="mistral", messages=SAY, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).startswith("[mistral =")
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.total_tokens > 0


async def test_parse(stand, sdk):
    """`parse` with a pydantic model gets an object of it, though the model gets its JSON wrong at first."""
    stand.sims["llama"].faults = "wrong-type,right-on=2"
    answer = await sdk.chat.completions.parse(model="llama", messages=SAY, response_format=Scent)
    assert isinstance(answer.choices[0].message.parsed, Scent)
    assert stand.asked("llama") == 2


async def test_parse_of_a_stream(stand, sdk):
    """The same where the answer is streamed: what is streamed is valid."""
    stand.sims["llama"].faults = "half-json,right-on=2"
    async with sdk.chat.completions.stream(model="llama", messages=SAY, response_format=Scent) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Scent)


async def test_unknown_model(sdk):
    """An unknown model raises `NotFoundError`, whose message lists those there are."""
    with pytest.raises(NotFoundError) as caught:
        await sdk.chat.completions.create(model="gpt-17", messages=SAY)
    assert caught.value.code == "model_not_found"
    for name in ("qwen", "mistral", "llama", "creative", "balanced", "fast"):
        assert name in caught.value.message


async def test_bad_schema(stand, sdk):
    """A schema that is none raises `BadRequestError`; no model was asked."""
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
    with pytest.raises(BadRequestError) as caught:
        await sdk.chat.completions.create(model="llama", messages=SAY, response_format=bad)
    assert (caught.value.code, caught.value.param) == ("invalid_schema", "response_format")
    assert stand.asked("llama", None) == 0


async def test_circuit_open_is_asked_once(stand, sdk):
    """Where every circuit is open the client, which would try three times, is told that trying again is no use."""
    for name in stand.sims:
        await stand.put(f"/guard/breakers/{name}", {"state": "open"})
    before = await stand.metric('guardproxy_errors_total{code="circuit_open"}')
    with pytest.raises(InternalServerError) as caught:
        await sdk.chat.completions.create(model="llama", messages=SAY)
    assert isinstance(caught.value, APIStatusError)
    assert (caught.value.status_code, caught.value.code) == (503, "circuit_open")
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert await stand.metric('guardproxy_errors_total{code="circuit_open"}') == before + 1
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


async def test_retries_are_not_multiplied(make):
    """Once the proxy has spent its own retries the client makes none: three attempts, not nine."""
    stand = await make({"retry": {"attempts": 2}, "circuit_breaker": {"minimum_requests": 100}})
    for sim in stand.sims.values():
        sim.faults = "status=500"
    async with client_of(stand) as sdk:
        with pytest.raises(InternalServerError):
            await sdk.chat.completions.create(model="llama", messages=SAY)
    assert sum(stand.asked(name) for name in stand.sims) == 3


async def test_stream_that_breaks(stand, sdk):
    """A stream that breaks off raises in the client; it does not end as if it were complete."""
    stand.sims["llama"].faults = "cut=3"
    stream = await sdk.chat.completions.create(model="llama", messages=SAY, stream=True)
    with pytest.raises(APIError) as caught:
        _ = [chunk async for chunk in stream]
    assert caught.value.code == "upstream_stream_interrupted"


async def test_embeddings(stand, sdk):
    """Embeddings go through, vectors untouched."""
    answer = await sdk.embeddings.create(model="qwen", input=["rose", "oud"])
    assert [len(one.embedding) for one in answer.data] == [8, 8]
    assert stand.asked("qwen", "/v1/embeddings") == 1


async def test_completions(sdk):
    """Text completions go through."""
    answer = await sdk.completions.create(model="qwen", prompt="a rose")
    assert answer.choices[0].text


async def test_models(stand, sdk):
    """The list of models holds upstreams, the ids they serve, aliases and modes; each can be looked up."""
    names = {model.id async for model in sdk.models.list()}
    assert names == {
        *("creative", "balanced", "fast", "qwen", "mistral", "llama", "qwen2.5"),
        *(sim.model for sim in stand.sims.values()),
    }
    assert (await sdk.models.retrieve("creative")).owned_by == "llama"
    assert (await sdk.models.retrieve("meta-llama/Meta-Llama-3-8B-Instruct")).owned_by == "llama"
    with pytest.raises(NotFoundError):
        await sdk.models.retrieve("gpt-17")
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


async def test_base_url_of_one_upstream(stand):
    """An app that had a base URL per model keeps it: /llama/v1 asks llama, whatever `model` says."""
    async with client_of(stand, "/llama/v1") as sdk:
        answer = await sdk.chat.completions.create(model="anything", messages=SAY)
    assert answer.model == stand.sims["llama"].model
    assert stand.seen("llama")["model"] == stand.sims["llama"].model


async def test_raw_response(sdk):
    """`with_raw_response` shows what the proxy says of itself."""
    raw = await sdk.chat.completions.with_raw_response.create(
        model="creative", messages=SAY, extra_headers={"X-Request-Id": "req-1"}
    )
    headers = raw.headers
    assert headers["x-guardproxy-upstream"] == "llama"
    assert headers["x-guardproxy-mode"] == "creative"
    assert headers["x-guardproxy-attempts"] == "1"
    assert headers["cache-status"] == "guardproxy; fwd=miss; stored"
    assert headers["x-request-id"] == "req-1"
    assert raw.parse().choices
