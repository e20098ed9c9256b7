"""Health is a test inference: what it answers, in which shape, and what it never does."""

from __future__ import annotations

import asyncio

import pytest

from tests.app.stand import NEVER, Replay, whole


async def test_all_healthy(stand):
    """All well: 200, healthy, and each model in the shape that scripts read."""
    for path in ("/health/llm", "/health/llm?model=all", "/health/llm?model="):
        answer = await stand.get(path)
        doc = answer.json()
        assert (answer.status, doc["status"], list(doc["models"])) == (200, "healthy", ["qwen", "mistral", "llama"])
        for name, told in doc["models"].items():
            assert set(told) == {"model", "status", "latency_ms", "circuit_state"}
            assert (told["model"], told["status"], told["circuit_state"]) == (name, "healthy", "closed")
            assert type(told["latency_ms"]) is int


async def test_one(stand):
    """One model alone has the same shape."""
    answer = await stand.get("/health/llm?model=qwen")
    assert answer.status == 200
    assert set(answer.json()) == {"model", "status", "latency_ms", "circuit_state"}


async def test_unknown(stand):
    """An unknown model is 422 with the names there are."""
    answer = await stand.get("/health/llm?model=gpt-17")
    assert answer.status == 422
    for name in ("all", "qwen", "mistral", "llama"):
        assert name in answer.error["message"]


async def fresh(stand):
    """Wait until the last check's result is no longer reused."""
    pulses = stand.proxy.house.health.pulses.values()
    loop = asyncio.get_running_loop()
    await stand.until(lambda: all(loop.time() - pulse.last.at >= 1 for pulse in pulses))


@pytest.mark.parametrize(
    "manner, reason",
    [
        ("hang", "timeout"),
        ("empty", "invalid_response"),
        ("garbage", "invalid_response"),
        ("status=500", "status 500"),
        ("reset-before", "the connection before it answered"),
        ("length,stall=1", "timeout"),
    ],
)
async def test_unhealthy(make, manner, reason):
    """A model that does not answer the test inference is unhealthy: 503 alone, degraded among the others."""
    stand = await make({"health": {"timeout": 0.3}}, llama=manner)
    answer = await stand.get("/health/llm?model=llama")
    told = answer.json()
    assert (answer.status, told["status"], told["circuit_state"]) == (503, "unhealthy", "error")
    assert reason in told["reason"]
    assert type(told["latency_ms"]) is int
    everything = await stand.get("/health/llm?model=all")
    assert (everything.status, everything.json()["status"]) == (200, "degraded")
    assert everything.json()["models"]["qwen"]["status"] == "healthy"
    metrics = await stand.metrics()
    assert metrics['llm_health_status{model="llama"}'] == 0
    assert metrics['llm_health_status{model="qwen"}'] == 1
    assert metrics['llm_health_check_failures_total{model="llama"}'] == 1
    assert metrics['llm_health_check_failures_total{model="qwen"}'] == 0
    if reason == "timeout":
        assert 0.25 < metrics['llm_health_check_duration_seconds{model="llama"}'] < 1


async def test_one_failed_check_is_no_verdict_yet(stand):
    """`fall: 2`: after one failed check a model that was well stays so for calls, yet the check is told as failed."""
    stand.sims["llama"].faults = "status=500,times=1"
    await fresh(stand)
    answer = await stand.get("/health/llm?model=llama")
    assert answer.status == 503
    assert await stand.metric('llm_health_status{model="llama"}') == 1
    assert (await stand.chat()).headers["X-Guardproxy-Upstream"] == "llama"


async def test_throttled_is_well(make):
    """A model that says it is busy is well."""
    stand = await make(llama="status=429")
    assert (await stand.get("/health/llm?model=llama")).json()["status"] == "healthy"


async def test_answers_are_reused(stand):
    """Whoever asks within a second, or while a check runs, gets the same check: models are not flooded."""
    stand.sims["llama"].faults = "latency=0.2"
    await fresh(stand)
    answers = await asyncio.gather(*(stand.get("/health/llm?model=llama") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert stand.asked("llama") == 1
    await stand.get("/health/llm?model=all")
    assert stand.asked("llama") == 1


async def test_checks_are_no_calls(make):
    """Health checks are not counted as calls, not cached, not judged, and do not move a closed circuit."""
    stand = await make(llama="status=500")
    metrics = await stand.metrics()
    assert metrics['llm_requests_total{model="llama"}'] == 0
    assert metrics["cache_misses_total"] == 0
    assert metrics['guardproxy_attempts_total{kind="failure",model="llama"}'] == 0
    assert (await stand.state())["breakers"]["llama"]["attempts"] == 0


async def test_what_is_asked(make):
    """The test inference asks for the configured prompt, in a few tokens, of the served model."""
    stand = await make(bare=True)
    await stand.until(lambda: stand.asked("qwen"))
    body = stand.seen("qwen")
    assert body["messages"] == [{"role": "user", "content": "Generate a brief perfume description."}]
    assert body["model"] == stand.sims["qwen"].model
    assert body["max_tokens"] <= 32
    assert "mode" not in body


async def test_the_key_of_an_upstream_is_used(make):
    """A check brings the upstream's own key."""
    stand = await make({"upstreams": {"llama": {"api_key": "sk-own"}}}, bare=True)
    await stand.until(lambda: stand.asked("llama"))
    assert stand.sims["llama"].memory.requests[-1].headers["Authorization"] == "Bearer sk-own"


async def test_before_the_first_check(make):
    """Before its first check has ended a model reads 0, and is asked all the same."""
    async with Replay(b"", pause=5) as replay:
        body = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'
        replay.answer = whole(body)
        stand = await make({"upstreams": {"llama": {"url": replay.url}}, "timeouts": {"total": 5}}, bare=True)
        assert await stand.metric('llm_health_status{model="llama"}') == 0


async def test_ill_models_are_asked_last(make):
    """A model that is known to be ill is asked only where nobody else is left: better an ill one than none."""
    stand = await make({"retry": {"attempts": 0}}, llama="status=500,times=1")
    answer = await stand.chat(model="creative")
    assert answer.headers["X-Guardproxy-Mode"].startswith("balanced; from=creative; reason=")
    assert (await stand.chat("only this one", headers=NEVER)).headers["X-Guardproxy-Upstream"] == "llama"


async def test_checked_at_once_and_by_the_interval(make):
    """The first check comes at once, the next ones as often as `health.interval` says."""
    stand = await make({"health": {"interval": 0.3, "timeout": 0.2}}, bare=True)
    await stand.until(lambda: stand.asked("llama") >= 1, 0.5)
    await stand.until(lambda: stand.asked("llama") >= 2, 3)


async def test_checks_end_with_the_proxy(make):
    """A check that hangs does not hold up the end, and who waits for it is answered."""
    stand = await make({"health": {"timeout": 60}}, bare=True, llama="hang")
    asking = asyncio.ensure_future(stand.get("/health/llm?model=llama"))
    await stand.until(lambda: stand.sims["llama"].memory.open and stand.proxy.app.connections)
    async with asyncio.timeout(3):
        await stand.proxy.close()
    assert (await asking).status == 503


# -- health that costs almost nothing


QUICK = {"interval": 0.6, "fresh_for": 5}


async def test_a_model_that_answers_calls_is_not_asked_besides(make):
    """A real success is the check: no tokens are spent on proving what is known. Idle models are asked."""
    stand = await make({"health": QUICK, "cache": {"enabled": False}})
    pulses = stand.proxy.house.health.pulses
    proven = False
    for number in range(200):
        await stand.chat(f"number {number}", model="qwen")
        await asyncio.sleep(0.02)
        if (proven := pulses["qwen"].last.detail == "a call was answered") and stand.asked("llama") >= 2:
            break
    assert proven
    asked = stand.asked("qwen")
    assert asked == number + 1 or asked == number + 2  # one round may have begun before the first call was counted
    assert await stand.metric('llm_health_status{model="qwen"}') == 1


async def test_who_asks_for_a_check_gets_one(make):
    """`/health/llm` and `verify` are test inferences, whatever is known from calls."""
    stand = await make({"health": {"fresh_for": 1000}})
    await stand.chat(model="qwen")
    asked = stand.asked("qwen")
    await fresh(stand)
    assert (await stand.get("/health/llm?model=qwen")).status == 200
    assert stand.asked("qwen") == asked + 1


async def test_the_tokens_of_a_day(make):
    """Beyond them the last verdict stands, and nobody can make the model work by asking for its health."""
    stand = await make({"health": {"tokens_per_day": 1}})
    spent = await stand.metric('guardproxy_health_tokens_total{model="qwen"}')
    assert spent > 0
    await fresh(stand)
    asked = stand.asked("qwen")
    assert (await stand.get("/health/llm?model=qwen")).json()["status"] == "healthy"
    assert stand.asked("qwen") == asked
    assert await stand.metric('guardproxy_health_tokens_total{model="qwen"}') == spent


async def test_thinking_is_off(make):
    """A model that thinks aloud first would spend all its tokens on that, and say nothing."""
    stand = await make()
    await fresh(stand)
    await stand.get("/health/llm?model=qwen")
    body = stand.seen("qwen")
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_tokens"] >= 16
    assert body["messages"][0]["content"] == "Generate a brief perfume description."


async def test_a_check_that_was_not_made_has_not_failed(make):
    """While a circuit is open whoever asks for health hears so; the last check stays what it was."""
    stand = await make({"circuit_breaker": {"minimum_requests": 1, "timeout": 60}, "retry": {"attempts": 0}})
    name = 'llm_health_check_duration_seconds{model="llama"}'
    took = await stand.metric(name)
    assert took > 0
    stand.sims["llama"].faults = "status=500"
    await stand.chat("dies", headers=NEVER)
    assert (await stand.get("/health/llm?model=llama")).json()["reason"] == "circuit_breaker_open"
    metrics = await stand.metrics()
    assert metrics[name] == took
    assert metrics['llm_health_check_failures_total{model="llama"}'] == 0
