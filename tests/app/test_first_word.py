"""A model that has said its role and nothing else has not begun, end to end."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.app.stand import NEVER
from tests.app.test_hedge import ON, learn

QUEUED = "early-role,slow-first-token=60"
"""As gateways do: the role at once, the answer when it is its turn."""
QUICK: dict[str, Any] = {
    "circuit_breaker": {"minimum_requests": 2, "slow_first_token": 0.3, "timeout": 60},
    "health": {"interval": 3600},
    "cache": {"enabled": False},
}


async def slow(stand):
    return await stand.circuit("llama") == "open"


async def test_a_queue_is_seen_while_it_is_stood_in(make):
    """Two streams that have brought a role in time and no word open the circuit, and are still waited for."""
    stand = await make({**QUICK, "timeouts": {"first_token": 30, "total": 30, "stall": 30}})
    stand.sims["llama"].faults = QUEUED
    calls = [asyncio.ensure_future(stand.chat(f"call {n}", model="creative", stream=True)) for n in range(2)]
    await stand.until_that(lambda: slow(stand), 10)
    assert not any(call.done() for call in calls)
    answer = await stand.chat("the next", model="creative", stream=True)
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=slow"
    for call in calls:
        call.cancel()
    await stand.until(stand.at_rest, 10)


async def test_nothing_has_left_before_the_first_word(make):
    """So who was queued longer than `first_token` is asked elsewhere, unseen; who may not be hears a status."""
    stand = await make({**QUICK, "timeouts": {"first_token": 0.6, "total": 30, "stall": 30}})
    stand.sims["llama"].faults = QUEUED
    answer = await stand.chat("moved", model="creative", stream=True)
    assert (answer.status, answer.headers["X-Guardproxy-Upstream"]) == (200, "mistral")
    assert answer.headers["X-Guardproxy-Attempts"] == "2"
    assert answer.said
    strict = await stand.chat("strict", model="creative", stream=True, headers=NEVER)
    assert (strict.status, strict.code) == (504, "upstream_timeout")


async def test_an_answer_that_is_judged_is_late_too(make):
    """It is streamed to us, whatever the app asked for, and so has a first word."""
    stand = await make({**QUICK, "timeouts": {"first_token": 30, "total": 30, "stall": 30}})
    stand.sims["llama"].faults = QUEUED
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "required": ["name"]}}}
    calls = [asyncio.ensure_future(stand.chat(f"call {n}", model="creative", response_format=schema)) for n in range(2)]
    await stand.until_that(lambda: slow(stand), 10)
    assert not any(call.done() for call in calls)
    for call in calls:
        call.cancel()
    await stand.until(stand.at_rest, 10)


async def test_a_role_wins_no_race(make):
    """Of two that were asked the one is heard that says something first."""
    stand = await make(ON)
    await learn(stand)
    stand.sims["llama"].faults = QUEUED
    answer = await stand.chat("for once", model="creative", stream=True)
    assert (answer.status, answer.headers["X-Guardproxy-Upstream"]) == (200, "mistral")
    await stand.until(lambda: stand.sims["llama"].memory.fates["cancelled"] >= 1, 10)
    await stand.until(stand.at_rest, 10)
