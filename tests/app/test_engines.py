"""Other engines' manners: what the guard had to read comes out as the API has it, what it had not, byte for byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from guardproxy.simulator import Simulator
from guardproxy.simulator.engines import ENGINES
from tests.app.stand import CHAT, NEVER, SCHEMA, Replay, Stand, whole

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

FALLBACK = {"name": "quiet", "intensity": 1}
GUARD = {"max_retries": 1, "schemas": {"brief": {"schema": SCHEMA, "fallback": FALLBACK}}}
NAMED = {**NEVER, "X-Guardproxy-Schema": "brief"}
ASK: dict[str, Any] = {"model": "llama", "messages": [{"role": "user", "content": "a rose"}]}


async def said_directly(engine: str, body: dict[str, Any]) -> tuple[bytes, str]:
    """The bytes that an engine answers with, and their media type."""
    async with (
        Simulator(engine=engine) as simulator,
        aiohttp.ClientSession() as session,
        session.post(simulator.url + CHAT, json=body) as answer,
    ):
        return await answer.read(), answer.headers["Content-Type"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
async def test_what_is_not_read_passes_byte_for_byte(make: Callable[..., Awaitable[Stand]], engine, stream):
    """In whatever way it says that it is over: each engine's stream is taken for a whole one."""
    body, kind = await said_directly(engine, {**ASK, "stream": stream})
    async with Replay(whole(body, kind=kind)) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}, "cache": {"enabled": False}})
        answer = await stand.ask("POST", CHAT, json={**ASK, "stream": stream}, headers=NEVER)
        assert (answer.status, answer.cut) == (200, False)
        assert answer.body == body
        assert await stand.metric('llm_request_failures_total{model="llama"}') == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
async def test_what_is_read_comes_out_as_the_api_has_it(make: Callable[..., Awaitable[Stand]], engine, stream):
    """Finish reasons, `[DONE]`, usage where it is asked for and nowhere else; and it satisfies the schema."""
    async with Simulator(engine=engine) as simulator:
        stand = await make({"upstreams": {"llama": {"url": simulator.url}}, "json_guard": GUARD})
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
        asked = {**ASK, "stream": stream, "response_format": wanted}
        answer = await stand.ask("POST", CHAT, json=asked, headers=NAMED)
        assert answer.status == 200
        if stream:
            *chunks, done = answer.events
            assert done == "[DONE]"
            assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)
            reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
            assert [reason for reason in reasons if reason] == ["stop"]
            text = answer.said
        else:
            (choice,) = answer.json()["choices"]
            assert choice["finish_reason"] == "stop"
            text = choice["message"]["content"]
        assert set(json.loads(text)) == {"name", "intensity"}
        expected = ("valid", "repaired") if ENGINES[engine].enforces else ("retried", "fallback")
        assert answer.headers["X-Guardproxy-Json"] in expected


@pytest.mark.parametrize("engine", ENGINES)
async def test_errors_are_envelopes(make: Callable[..., Awaitable[Stand]], engine):
    """Whatever an engine makes of them: an SDK finds the message, the status is the engine's."""
    async with Simulator(engine=engine) as simulator:
        stand = await make({"upstreams": {"llama": {"url": simulator.url}}})
        answer = await stand.ask("POST", CHAT, json={**ASK, "messages": []}, headers=NEVER)
        assert answer.status == 400
        assert "messages must be a list" in answer.error["message"]
        simulator.faults = "status=429,retry-after=1"
        answer = await stand.ask("POST", CHAT, json=ASK, headers=NEVER)
        assert answer.status == 429
        assert "simulated status 429" in answer.error["message"]


@pytest.mark.parametrize("engine", [name for name, engine in ENGINES.items() if not engine.old])
async def test_a_stream_that_breaks_is_no_success(make: Callable[..., Awaitable[Stand]], engine):
    """Also where an error is followed by `[DONE]`, as vLLM and SGLang do."""
    async with Simulator(engine=engine) as simulator:
        stand = await make({"upstreams": {"llama": {"url": simulator.url}}})
        simulator.faults = "error-event=2"
        answer = await stand.ask("POST", CHAT, json={**ASK, "stream": True}, headers=NEVER)
        assert b"The engine died" in answer.body
        assert await stand.metric('llm_request_failures_total{model="llama"}') == 1
        again = await stand.ask("POST", CHAT, json={**ASK, "stream": True}, headers=NEVER)
        assert "hit" not in again.headers["Cache-Status"]


@pytest.mark.parametrize("stream", [None, False])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_ollamas_own_paths(make: Callable[..., Awaitable[Stand]], path, stream):
    """Lines unless told not to; a schema in `format` is heeded, and judged."""
    async with Simulator(engine="ollama") as simulator:
        stand = await make({"upstreams": {"llama": {"url": simulator.url}}})
        body = {"prompt": "a rose"} if path == "/api/generate" else {"messages": ASK["messages"]}
        asked = {"model": "llama", **body, "format": SCHEMA} | ({} if stream is None else {"stream": stream})
        answer = await stand.ask("POST", path, json=asked, headers=NEVER)
        assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "valid")
        docs = [json.loads(line) for line in answer.body.splitlines()]
        assert (len(docs) > 1) is (stream is None)
        assert docs[-1]["done"] is True
        text = "".join(doc["response"] if "response" in doc else doc["message"]["content"] for doc in docs)
        assert set(json.loads(text)) == {"name", "intensity"}
        simulator.faults = "status=503"
        answer = await stand.ask("POST", path, json={**asked, "keep_alive": 1, "seed": 2}, headers=NEVER)
        assert (answer.status, answer.json()["error"]) == (503, "simulated status 503")
