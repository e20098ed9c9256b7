"""Many callers, some who leave, models that misbehave at random: nobody gets another's answer, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random

import jsonschema_rs
import pytest

from tests.app.stand import CHAT, JSON_SCHEMA, SCHEMA, asking

FAULTS = [
    *("reset-before", "reset-after", "reset-mid=2", "cut=2", "stall=2", "hang", "garbage", "loading", "empty"),
    *("status=500", "status=503,retry-after=1", "status=429", "error-200", "error-event=0", "error-event=2"),
    *("half-json", "wrong-type", "not-json", "fenced-json", "latency=0.1", "token-delay=0.01", "no-done"),
]
CALLERS, CALLS = 12, 12
VALID = jsonschema_rs.validator_for(SCHEMA)
STATUSES = {200, 429, 500, 502, 503, 504}


async def call(stand, dice, ident):
    """One call of any kind, held against what it may be."""
    stream, judged, mode = (
        dice.random() < 0.5,
        dice.random() < 0.4,
        dice.choice(["creative", "balanced", "fast", "llama"]),
    )
    body = asking(f"says {ident}", model=mode, stream=stream)
    headers = {"X-Request-Id": ident, "Cache-Control": "no-store"}
    if judged:
        body["response_format"] = JSON_SCHEMA
    asked = stand.ask("POST", CHAT, json=body, headers=headers)
    if dice.random() < 0.15:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asked
        return "left"
    answer = await asked
    assert answer.status in STATUSES, (answer.status, answer.body)
    assert answer.headers["X-Request-Id"] == ident
    if answer.status != 200:
        assert not answer.cut
        assert answer.json()["error"]["message"]
        return "error"
    if stream:
        errors = [event for event in answer.events if event != "[DONE]" and "error" in event]
        if errors:
            assert not judged, answer.text
            return "interrupted"
        assert not answer.cut
        said = answer.said
    else:
        said = answer.content
    if judged:
        assert VALID.is_valid(json.loads(said))
    else:
        assert said.startswith(f"[{ident}] [{answer.headers['X-Guardproxy-Upstream']} = "), said
    return "answered"


@pytest.mark.parametrize("seed", [1, 2])
async def test_chaos(make, seed):
    """Every answer is the caller's own, whole and valid, or an error that he can read; in the end all is given back."""
    dice = random.Random(seed)
    stand = await make(
        {
            "timeouts": {"first_token": 0.2, "stall": 0.2, "total": 0.8},
            "circuit_breaker": {"minimum_requests": 5, "timeout": 0.1, "success_threshold": 2},
            "retry": {"attempts": 2, "budget": 1.0, "min_per_second": 100},
        }
    )
    stop = asyncio.Event()

    async def misbehave():
        while not stop.is_set():
            for sim in stand.sims.values():
                faults = [f"{fault},rate={dice.choice([0.2, 0.5])}" for fault in dice.sample(FAULTS, 2)]
                sim.faults = ["echo-id", *faults]
            await asyncio.sleep(0.1)

    async def caller(who):
        return [await call(stand, dice, f"caller-{who}-{number}-") for number in range(CALLS)]

    trouble = asyncio.ensure_future(misbehave())
    try:
        kinds = [kind for kinds in await asyncio.gather(*map(caller, range(CALLERS))) for kind in kinds]
    finally:
        stop.set()
        await trouble
    assert kinds.count("answered") > len(kinds) / 3, kinds
    for sim in stand.sims.values():
        sim.faults = None
    await stand.until(stand.at_rest)
    metrics = await stand.metrics()
    assert metrics["guardproxy_in_flight_requests"] == 0
    total = sum(value for name, value in metrics.items() if name.startswith("guardproxy_requests_total"))
    assert total == len(stand.proxy.sinks.feed.calls())
    assert not [line for line in stand.log() if line["msg"] == "a request met a mistake of ours"]

    async def well():
        return (await stand.chat("after all", model="creative")).headers["X-Guardproxy-Mode"] == "creative"

    await stand.until_that(well)


async def test_tenants_never_mix(make):
    """Hits, misses, retries and downshifts at once: what a caller is shown was asked for by somebody with his key."""
    stand = await make({"cache": {"ttl_seconds": 0.3, "max_size": 20}, "circuit_breaker": {"timeout": 0.1}})
    dice = random.Random(7)
    for sim in stand.sims.values():
        sim.faults = ["echo-id", "status=500,rate=0.2"]

    async def caller(who):
        tenant, hits = f"tenant{who % 4}", 0
        for number in range(20):
            headers = {"Authorization": f"Bearer {tenant}", "X-Request-Id": f"{tenant}-{who}-{number}"}
            mode, stream = dice.choice(["creative", "fast"]), dice.random() < 0.5
            answer = await stand.chat(f"text {dice.randrange(3)}", model=mode, stream=stream, headers=headers)
            if answer.status == 200:
                said = answer.said if stream else answer.content
                assert said.startswith(f"[{tenant}-"), (tenant, said)
                assert f"[{answer.headers['X-Guardproxy-Upstream']} = " in said
                hits += answer.headers["Cache-Status"].startswith("guardproxy; hit")
                assert ("Age" in answer.headers) == answer.headers["Cache-Status"].startswith("guardproxy; hit")
        return hits

    assert sum(await asyncio.gather(*map(caller, range(12)))) > 20
