"""Judging may take long, by a schema or an answer that is made for it: nobody but its own caller waits."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.app.stand import NEVER, Replay, whole

EVIL = {"type": "array", "items": {"anyOf": [{"pattern": r"^(a|aa)+\1$"}, {"type": "string"}]}}
ASKED = {"type": "json_schema", "json_schema": {"name": "evil", "schema": EVIL}}


def says(text):
    """The bytes of an answer that says *text*."""
    message = {"role": "assistant", "content": text}
    return whole(
        json.dumps({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    )


async def judging(stand):
    """Ask for what takes long to judge; returns once it is being judged."""
    task = asyncio.create_task(stand.chat(response_format=ASKED, headers=NEVER))
    await stand.until(lambda: stand.proxy.house.scales._busy or task.done())
    return task


async def test_health_is_answered_while_a_pattern_runs_away(make):
    """`/healthz` and other calls are answered while one answer is judged, which is then given up."""
    async with Replay(says(json.dumps(["a" * 15 + "!"] * 100_000))) as server:
        guard = {"max_retries": 0, "judge_seconds": 1}
        stand = await make(
            {"upstreams": {"llama": {"url": server.url}}, "json_guard": guard, "timeouts": {"total": 30}}
        )
        task = await judging(stand)
        answered = 0
        while not task.done():
            assert (await stand.get("/healthz")).status == 200
            assert (await stand.chat(model="mistral")).status == 200
            answered += not task.done()
        assert answered
        answer = await task
        assert (answer.status, answer.code) == (502, "invalid_model_output")
        assert "could not be checked" in answer.error["message"]


async def test_a_long_answer_is_judged_elsewhere(make):
    """A long valid answer passes untouched, streamed or not; a long one in a fence is mended."""
    text = json.dumps(["b" * 30] * 5_000)
    stand = await make({"timeouts": {"total": 30}, "cache": {"enabled": False}})
    asked = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "array", "items": {"minLength": 3}}},
    }
    for said, label in ((text, "valid"), (f"```json\n{text}\n```", "repaired")):
        async with Replay(says(said)) as server:
            stand = await make({"upstreams": {"llama": {"url": server.url}}, "timeouts": {"total": 30}})
            for stream in (False, True):
                answer = await stand.chat(response_format=asked, headers=NEVER, stream=stream)
                assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, label)
                assert (answer.said if stream else answer.content) == text
            assert repr(stand.proxy.house.scales) == "<Scales 0 busy, 1 idle>"


@pytest.mark.parametrize("mode", ["hold", "report"])
async def test_a_long_stream_that_breaks_its_schema(make, mode):
    """A long answer is judged in a stream that is only reported, too: counted, and not kept."""
    text = json.dumps(["b" * 30] * 5_000 + [3])
    message = {"delta": {"content": text}, "index": 0, "finish_reason": "stop"}
    events = f"data: {json.dumps({'id': 'c', 'choices': [message]})}\n\ndata: [DONE]\n\n".encode()
    async with Replay(whole(events, kind="text/event-stream")) as server:
        changes = {"json_guard": {"stream_validation": mode, "max_retries": 0, "early_abort": False}}
        stand = await make({"upstreams": {"llama": {"url": server.url}}, "timeouts": {"total": 30}, **changes})
        schema = {"type": "array", "items": {"type": "string"}}
        asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        answer = await stand.chat(response_format=asked, headers=NEVER, stream=True)
        assert answer.status == (502 if mode == "hold" else 200)

        async def counted():
            return await stand.metric('llm_json_parse_failures_total{model="llama"}') == 1

        await stand.until_that(counted)
        assert await stand.metric("cache_size") == 0
