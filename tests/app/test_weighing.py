"""Judging may take long, by a schema or an answer that is made for it: nobody but its own caller waits."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.app.stand import CHAT, NEVER, Replay, whole

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


def large(number, **more):
    """A schema of a megabyte, each time another: alternatives that double with every level."""
    made: dict[str, object] = {"type": "integer"}
    for _ in range(14):
        made = {"anyOf": [made, {"type": "array", "items": made}]}
    return {"title": str(number), "allOf": [{**made, **more}]}


def wanting(schema):
    return {"type": "json_schema", "json_schema": {"name": "large", "schema": schema}}


async def patiently(stand, *, headers, **body):
    """Ask llama, and wait for the answer however busy the machine is."""
    asked = {"model": "llama", "messages": [], **body}
    return await stand.ask("POST", CHAT, json=asked, headers=headers, timeout=aiohttp.ClientTimeout(60))


async def test_health_is_answered_while_a_large_schema_is_made_ready(make):
    """Not after it: nobody waits for more than a third of the time that making it ready takes."""
    stand = await make({"timeouts": {"total": 60}, "json_guard": {"judge_seconds": 30}})
    loop, shares = asyncio.get_running_loop(), []
    for number in range(4):
        began, longest = loop.time(), 0.0
        task = asyncio.create_task(patiently(stand, response_format=wanting(large(number, minimum="x")), headers=NEVER))
        while not task.done():
            asked = loop.time()
            assert (await stand.get("/healthz")).status == 200
            longest = max(longest, loop.time() - asked)
        answer = await task
        assert (answer.status, answer.code) == (400, "invalid_schema")
        assert "/allOf/0/minimum" in answer.error["message"]
        shares.append(longest / (loop.time() - began))
        if shares[-1] < 1 / 3:  # a machine may be busy with something else, but not each time
            return
    pytest.fail(f"nobody else was served for {shares} of the time")


async def test_answers_are_judged_by_a_large_schema(make):
    """Elsewhere, whatever their length: valid ones pass, others do not; the schema is made ready there once."""
    guard = {"judge_seconds": 30, "max_retries": 0}
    limits = {"timeouts": {"total": 60}, "cache": {"enabled": False}, "json_guard": guard}
    async with Replay(says("[[[3]]]")) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}, **limits})
        for stream in (False, True, True):
            answer = await patiently(stand, response_format=wanting(large(0)), headers=NEVER, stream=stream)
            assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "valid")
    async with Replay(says('"x"')) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}, **limits})
        answer = await patiently(stand, response_format=wanting(large(0)), headers=NEVER)
        assert (answer.status, answer.code) == (502, "invalid_model_output")
        assert "does not satisfy the schema" in answer.error["message"]


async def test_the_time_is_over_before_it_is_ready(make):
    """Who waits no longer is told so, and what he asked about is as unknown as before."""
    stand = await make({"timeouts": {"total": 60}, "json_guard": {"judge_seconds": 30}})
    asked = {"response_format": wanting(large(2))}
    answer = await patiently(stand, **asked, headers={"X-Request-Timeout": "0.1", **NEVER})
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert stand.asked("llama") == 0
    await patiently(stand, **asked, headers=NEVER)
    assert stand.asked("llama") > 0
    await stand.until(lambda: not stand.proxy.desk.in_flight)


async def test_it_takes_too_long_to_make_ready(make):
    """Then it is refused, and again without any work."""
    stand = await make({"timeouts": {"total": 60}, "json_guard": {"judge_seconds": 0.05}})
    for _ in range(2):
        answer = await patiently(stand, response_format=wanting(large(3)), headers=NEVER)
        assert (answer.status, answer.code) == (400, "schema_too_deep")
        assert "within 0.05 s" in answer.error["message"]
    assert repr(stand.proxy.house.scales) == "<Scales 0 busy, 0 idle>"


async def test_who_leaves_meanwhile(make):
    """What was made ready for him alone is ended with its process."""
    stand = await make({"timeouts": {"total": 60}, "json_guard": {"judge_seconds": 30}})
    task = asyncio.create_task(patiently(stand, response_format=wanting(large(4)), headers=NEVER))
    await stand.until(lambda: stand.proxy.house.scales._busy or task.done())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await stand.until(lambda: not stand.proxy.desk.in_flight and not stand.proxy.house.scales._busy)
