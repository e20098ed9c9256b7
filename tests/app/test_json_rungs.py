"""Each rung of the ladder is told in `X-Guardproxy-Json` and counted once, whichever way it was reached."""

from __future__ import annotations

import pytest

from tests.app.stand import FALLBACK, JSON_SCHEMA, NEVER, SCHEMA

RUNGS = ("valid", "repaired", "retried", "fallback", "unchecked", "failed")
STALE = {"stale_if_error_seconds": 600, "ttl_seconds": 0.2, "cleanup_interval": 60}
DECLARED = {"schemas": {"scent": {"schema": SCHEMA, "fallback": FALLBACK}}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault, guard, rung, asks",
    [
        (None, {}, "valid", 1),
        ("fenced-json", {}, "repaired", 1),
        ("prose-json", {}, "repaired", 1),
        ("wrong-type,right-on=2", {}, "retried", 2),
        ("not-json,right-on=3", {}, "retried", 3),
        ("fenced-json,right-on=2", {"repair": False}, "retried", 2),
        ("wrong-type", {"max_retries": 1}, "fallback", 2),
        ("wrong-type", {"max_retries": 0, "fallback_enabled": False}, "failed", 1),
        ("wrong-type", {"strict_schema": False}, "unchecked", 1),
        ("not-json", {"enabled": "shadow"}, "unchecked", 1),
    ],
)
async def test_each_rung(make, fault, guard, rung, asks, stream):
    """The header names it, one counter moves by one, and the model was asked just as often as that took."""
    stand = await make({"json_guard": {**DECLARED, **guard}, "cache": {"enabled": False}})
    stand.sims["llama"].faults = fault
    answer = await stand.chat(
        headers={"X-Guardproxy-Schema": "scent", **NEVER}, stream=stream, response_format=JSON_SCHEMA
    )
    assert answer.headers.get("X-Guardproxy-Json") == (None if rung == "failed" else rung)
    assert answer.status == (502 if rung == "failed" else 200)

    async def counted():
        metrics = await stand.metrics()
        return [name for name in RUNGS if metrics[f'guardproxy_json_total{{result="{name}"}}']] == [rung]

    await stand.until_that(counted)
    assert stand.asked("llama") == asks


async def test_stale_comes_before_the_fallback(make):
    """What a model has said once is better than what nobody has, and is said to be stale."""
    stand = await make({"json_guard": {**DECLARED, "max_retries": 0}, "cache": STALE})
    asked = {"headers": {"X-Guardproxy-Schema": "scent", **NEVER}, "response_format": JSON_SCHEMA}
    first = await stand.chat(**asked)
    stand.sims["llama"].faults = "wrong-type"

    async def expired():
        answer = await stand.chat(**asked)
        assert answer.body == first.body
        return "stale-if-error" in answer.headers["Cache-Status"]

    await stand.until_that(expired)
    metrics = await stand.metrics()
    assert metrics['llm_json_fallback_used_total{model="llama"}'] == 0
    assert metrics['llm_json_parse_failures_total{model="llama"}'] >= 1
    never = await stand.chat("something else", **asked)
    assert never.headers["X-Guardproxy-Json"] == "fallback"


async def test_more_room_before_another_try(make):
    """An answer that was cut at its length is asked for again with more room and nothing else, at once."""
    stand = await make({"cache": {"enabled": False}})
    answer = await stand.chat(response_format=JSON_SCHEMA, max_tokens=4)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "retried")
    rooms = [visit.body["max_tokens"] for visit in stand.sims["llama"].memory.requests]
    assert rooms[:2] == [4, 16]
    assert all(len(visit.body["messages"]) == 1 for visit in stand.sims["llama"].memory.requests)
