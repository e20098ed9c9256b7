"""What circuits make of models that are slow, loading or dead for long, end to end."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from typing import Any

from tests.app.stand import NEVER, Replay, whole

QUICK: dict[str, Any] = {
    "circuit_breaker": {"minimum_requests": 2, "timeout": 0.2, "success_threshold": 1, "half_open_requests": 1},
    "retry": {"attempts": 2, "min_per_second": 100},
}


def with_circuit(**more):
    return {**QUICK, "circuit_breaker": {**QUICK["circuit_breaker"], **more}}


async def test_a_model_that_queues_is_noticed_while_calls_wait(make):
    """vLLM queues without bound: its circuit opens for slowness before any of the waiting calls has ended."""
    slow = with_circuit(slow_first_token=0.2, slow_threshold=0.5, timeout=60)
    stand = await make({**slow, "timeouts": {"first_token": 20, "total": 20}})
    stand.sims["llama"].faults = "latency=3"
    waiting = [asyncio.ensure_future(stand.chat(f"call {number}", stream=True)) for number in range(2)]

    async def opened():
        return await stand.circuit("llama") == "open"

    await stand.until_that(opened, 10)
    assert not any(call.done() for call in waiting)
    answer = await stand.chat("next", model="creative", stream=True)
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=slow"
    await asyncio.gather(*waiting)
    assert {call.result().status for call in waiting} == {200}

    async def told():
        events = {(event["what"], event["to"], event["reason"]) for event in (await stand.state())["events"]}
        return events >= {("circuit", "open", "slow"), ("ceiling", "balanced", "slow")}

    await stand.until_that(told, 10)
    assert await stand.metric('guardproxy_attempts_total{kind="slow",model="llama"}') == 2


async def test_a_model_that_is_loading_is_waited_for(make):
    """`Loading model` is answered by the mode below, and opens no circuit, however often it is said."""
    stand = await make(with_circuit(minimum_requests=1))
    stand.sims["llama"].faults = "loading"
    for number in range(4):
        answer = await stand.chat(f"call {number}", model="creative")
        assert (answer.status, answer.headers["X-Guardproxy-Upstream"]) == (200, "mistral")
    assert await stand.circuit("llama") == "closed"
    assert await stand.metric('guardproxy_attempts_total{kind="warming",model="llama"}') >= 1


async def test_a_model_that_loads_for_ever_is_broken(make):
    """After `warmup_seconds` of nothing else, `Loading model` is a failure like any other."""
    stand = await make(with_circuit(minimum_requests=1, warmup_seconds=0))
    stand.sims["llama"].faults = "loading"
    assert (await stand.chat("call", model="creative")).status == 200
    assert await stand.circuit("llama") != "closed"


async def test_half_open_is_in_the_feed(make):
    """A circuit that heals tells all three steps: opened, tried, closed."""
    stand = await make(QUICK)
    stand.sims["llama"].faults = "status=500"
    for number in range(2):
        await stand.chat(f"fails {number}")
    stand.sims["llama"].faults = None

    async def closed():
        return await stand.circuit("llama") == "closed"

    await stand.until_that(closed, 10)

    async def told():
        events = [event for event in (await stand.state())["events"] if event["what"] == "circuit"]
        return [(event["from"], event["to"]) for event in events]

    async def complete():
        return ("half_open", "closed") in await told()

    await stand.until_that(complete, 10)
    steps = await told()
    assert steps[0] == ("closed", "open")
    assert steps[-2:] == [("open", "half_open"), ("half_open", "closed")]


async def test_a_throttled_model_is_left_alone(make):
    """One 429 with Retry-After is enough for all: nobody asks before the time named, and no circuit opens."""
    stand = await make({**QUICK, "health": {"interval": 3600}})
    stand.sims["llama"].faults = "status=429,retry-after=60"
    first = await stand.chat("first", model="creative")
    assert first.headers["X-Guardproxy-Attempts"] == "2"
    before = stand.asked("llama")
    answers = [await stand.chat(f"call {number}", model="creative") for number in range(5)]
    assert {answer.headers["X-Guardproxy-Mode"] for answer in answers} == {"balanced; from=creative; reason=throttled"}
    assert {answer.headers["X-Guardproxy-Attempts"] for answer in answers} == {"1"}
    assert stand.asked("llama") == before
    assert await stand.circuit("llama") == "closed"
    refused = await stand.chat("never", model="creative", headers={"X-Guardproxy-Downshift": "never"})
    assert (refused.status, refused.code) == (503, "overloaded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    state = (await stand.state())["guards"]["throttle"]
    assert state["llama"]["reason"] == "throttled"

    async def fell():
        mode = (await stand.state())["mode"]
        return (mode["ceiling"], mode["reason"]) == ("balanced", "throttled")

    await stand.until_that(fell, 10)


async def test_a_short_throttle_is_waited_for(make):
    """Who may go nowhere else waits for a second rather than hear an error."""
    stand = await make({**QUICK, "health": {"interval": 3600}, "timeouts": {"total": 20}})
    stand.sims["llama"].faults = "status=429,retry-after=1,times=1"
    never = {"X-Guardproxy-Downshift": "never"}
    answers = await asyncio.gather(*(stand.chat(f"call {number}", headers=never) for number in range(3)))
    assert {answer.status for answer in answers} == {200}


async def test_a_callers_deadline(make):
    """`X-Request-Timeout` ends a call while its caller still listens, and says nothing about the model."""
    stand = await make({**with_circuit(minimum_requests=1), "timeouts": {"first_token": 20, "total": 20}})
    stand.sims["llama"].faults = "hang"
    for stream in (False, True):
        answer = await stand.chat(f"call {stream}", headers={"X-Request-Timeout": "400ms"}, stream=stream)
        assert (answer.status, answer.code) == (504, "upstream_timeout")
        assert "its caller's time was over" in answer.error["message"]
    assert await stand.circuit("llama") == "closed"


async def test_a_retry_after_that_is_a_date_needs_no_other(make):
    """Where a server does not say what time it is, it is ours: the gate is held until the date that it named."""
    until = formatdate(time.time() + 25, usegmt=True)
    body = b'{"error":{"message":"slow down","type":"x","param":null,"code":"rate_limit_exceeded"}}'
    async with Replay(whole(body, f"Retry-After: {until}", status="429 Too Many Requests")) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}, "retry": {"attempts": 0}})
        answer = await stand.chat("strict", headers=NEVER)
        assert answer.status == 429
        assert answer.headers["Retry-After"] == until
        gate = (await stand.state())["guards"]["throttle"]["llama"]
        assert 15 < gate["due_in"] <= 30
