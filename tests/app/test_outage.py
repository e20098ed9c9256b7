"""An outage of a model is not an outage of the app: circuits, modes, health and the checklist, end to end."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from guardproxy.checklist.ask import fetch
from guardproxy.guards.breaker import Permit
from tests.app.stand import CHAT, NEVER, asking

QUICK: dict[str, Any] = {
    "circuit_breaker": {"minimum_requests": 2, "timeout": 0.3, "success_threshold": 2, "half_open_requests": 1},
    "retry": {"attempts": 2, "min_per_second": 100},
}


@asynccontextmanager
async def letters():
    """Somewhere to send alerts to, and the list of those that came."""
    came = []

    async def take(request):
        came.append(await request.json())
        return web.Response()

    runner = web.ServerRunner(web.Server(take), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield came, f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def open_llama(stand):
    """Let llama fail until its circuit is open."""
    stand.sims["llama"].faults = "status=500"
    for number in range(2):
        assert (await stand.chat(f"fails {number}")).status == 200
    assert await stand.circuit("llama") == "open"


@pytest.mark.parametrize("traffic", [True, False])
async def test_the_whole_story(make, traffic):
    """llama dies: its circuit opens, mistral answers, health and checklist say no; healed, all comes back by itself."""
    async with letters() as (came, url):
        stand = await make({**QUICK, "cache": {"enabled": True}, "alerts": {"webhook": url}})
        verdict = await asyncio.to_thread(fetch, stand.app)
        assert verdict["safe"], verdict

        stand.sims["llama"].down()
        answers = [await stand.chat(f"call {number}", model="creative") for number in range(4)]
        assert [answer.status for answer in answers] == [200] * 4
        assert {answer.headers["X-Guardproxy-Upstream"] for answer in answers} == {"mistral"}
        assert answers[-1].headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=circuit_open"
        assert answers[-1].headers["X-Guardproxy-Attempts"] == "1"
        assert await stand.circuit("llama") == "open"
        metrics = await stand.metrics()
        assert metrics['circuit_breaker_state{model="llama"}'] == 1
        assert metrics['llm_mode_downshift_total{from="creative",to="balanced"}'] == 1
        assert metrics["guardproxy_mode_ceiling"] == 1
        assert metrics['guardproxy_downshifted_requests_total{from="creative",to="balanced"}'] == 4
        state = await stand.state()
        assert (state["mode"]["ceiling"], state["mode"]["reason"]) == ("balanced", "circuit_open")
        assert state["available"] == ["qwen", "mistral"]

        health = await stand.get("/health/llm?model=llama")
        assert health.status == 503
        assert health.json()["status"] == "unhealthy"
        assert health.json()["circuit_state"] in {"open", "half_open", "error"}
        assert (await stand.get("/health/llm?model=all")).json()["status"] == "degraded"
        verdict = await asyncio.to_thread(fetch, stand.app)
        assert not verdict["safe"]
        assert [check["ok"] for check in verdict["checks"]] == [True, False, True, False]
        assert "llama is" in verdict["checks"][1]["detail"]

        await stand.sims["llama"].up()
        number = 0

        async def back():
            nonlocal number
            number += 1
            if traffic:
                answer = await stand.chat(f"again {number}", model="creative")
                assert answer.status == 200
            return (await stand.state())["mode"]["ceiling"] == "creative"

        await stand.until_that(back, 8)
        assert await stand.circuit("llama") == "closed"
        answer = await stand.chat("at last", model="creative")
        assert answer.headers["X-Guardproxy-Mode"] == "creative"
        assert (await stand.get("/health/llm?model=llama")).status == 200
        verdict = await asyncio.to_thread(fetch, stand.app)
        assert verdict["safe"], verdict
        await stand.until(lambda: {letter["event"] for letter in came} >= {"downshift", "recovery"})
    assert [letter["event"] for letter in came] == ["circuit_open", "downshift", "circuit_closed", "recovery"]
    downshift = came[1]
    assert (downshift["from"], downshift["to"], downshift["reason"]) == ("creative", "balanced", "circuit_open")
    events = [(event["what"], event["from"], event["to"]) for event in (await stand.state())["events"]]
    assert ("circuit", "closed", "open") in events
    assert ("ceiling", "balanced", "creative") in events


async def test_no_call_is_lost(make):
    """While a model is reset under load not one of many calls fails."""
    stand = await make(QUICK)

    async def calls(who):
        statuses = []
        for number in range(10):
            statuses.append((await stand.chat(f"{who} {number}", model="creative", stream=who % 2 == 0)).status)
            if (who, number) == (0, 2):
                stand.sims["llama"].faults = "reset-before"
        return statuses

    several = await asyncio.gather(*(calls(who) for who in range(6)))
    assert {status for statuses in several for status in statuses} == {200}
    assert await stand.circuit("llama") != "closed"


async def test_state_reads_open_until_a_probe(make):
    """An open circuit reads open until a probe is admitted, not from the moment it is due."""
    stand = await make({**QUICK, "circuit_breaker": {**QUICK["circuit_breaker"], "timeout": 0.05}})
    for task in stand.proxy.prober._rounds:
        task.cancel()
    await open_llama(stand)
    await asyncio.sleep(0.1)
    assert await stand.circuit("llama") == "open"


async def test_a_failed_probe_is_unseen(make):
    """A circuit that is due admits a call as a probe; where it fails, the call is answered by the lower mode."""
    stand = await make(QUICK)
    await open_llama(stand)
    before = stand.asked("llama")
    for task in stand.proxy.prober._rounds:
        task.cancel()
    await asyncio.sleep(0.35)
    answer = await stand.chat("probe", model="creative")
    assert answer.status == 200
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"
    assert answer.headers["X-Guardproxy-Attempts"] == "2"
    assert stand.asked("llama") == before + 1
    assert await stand.circuit("llama") == "open"


async def test_probes_are_few(make):
    """Of fifty calls that come when a circuit is due only `half_open_requests` go through; the others are moved."""
    breaker = {**QUICK["circuit_breaker"], "half_open_requests": 3, "success_threshold": 5}
    stand = await make({**QUICK, "circuit_breaker": breaker, "timeouts": {"total": 20}})
    await open_llama(stand)
    for task in stand.proxy.prober._rounds:
        task.cancel()
    await asyncio.sleep(0.35)
    before = stand.asked("llama")
    stand.sims["llama"].faults = "latency=1.5"
    answers = await asyncio.gather(*(stand.chat(f"call {number}", model="creative") for number in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert stand.asked("llama") - before == 3
    assert sum(answer.headers["X-Guardproxy-Upstream"] == "mistral" for answer in answers) == 47


async def test_open_circuits_are_not_asked(make):
    """While an open circuit is not due nothing is sent: not by calls, not by health checks."""
    stand = await make({**QUICK, "circuit_breaker": {"minimum_requests": 2, "timeout": 60}})
    await open_llama(stand)
    before = stand.asked("llama")
    for number in range(5):
        await stand.chat(f"more {number}")
        health = await stand.get("/health/llm?model=llama")
        assert health.status == 503
        assert health.json() == {
            "model": "llama",
            "status": "unhealthy",
            "circuit_state": "open",
            "reason": "circuit_breaker_open",
        }
    assert stand.asked("llama") == before


async def test_all_dead(make):
    """Every circuit open: 503 at once, with Retry-After and x-should-retry: false, and nobody is asked."""
    stand = await make({**QUICK, "circuit_breaker": {"minimum_requests": 1, "timeout": 60}})
    for sim in stand.sims.values():
        sim.faults = "reset-before"
    await stand.chat("opens all three")
    assert [await stand.circuit(name) for name in stand.sims] == ["open"] * 3
    before = sum(stand.asked(name) for name in stand.sims)
    for model in ("creative", "llama", "qwen", "fast"):
        answer = await stand.chat("asks", model=model)
        assert (answer.status, answer.code) == (503, "circuit_open")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["x-should-retry"] == "false"
    streamed = await stand.chat("streams", stream=True)
    assert (streamed.status, streamed.code) == (503, "circuit_open")
    embedded = await stand.ask("POST", "/v1/embeddings", json={"model": "qwen", "input": "x"})
    assert (embedded.status, embedded.code) == (503, "circuit_open")
    assert sum(stand.asked(name) for name in stand.sims) == before
    assert (await stand.get("/readyz")).status == 200
    assert (await stand.get("/healthz")).status == 200


async def test_downshift_never(make):
    """`X-Guardproxy-Downshift: never`: this model or none."""
    stand = await make({**QUICK, "circuit_breaker": {"minimum_requests": 2, "timeout": 60}})
    await open_llama(stand)
    for more in ({"model": "creative"}, {"model": "llama"}, {"path": "/llama" + CHAT}):
        answer = await stand.chat("never", headers=NEVER, **more)
        assert (answer.status, answer.code) == (503, "circuit_open")
    assert (await stand.chat("may", model="creative")).status == 200


async def test_lower_modes_first_then_higher(make):
    """A call goes to the nearest mode below that can be had, and to one above only where there is none below."""
    stand = await make(QUICK)
    await stand.put("/guard/breakers/mistral", {"state": "open"})
    answer = await stand.chat("one", model="balanced")
    assert answer.headers["X-Guardproxy-Mode"] == "fast; from=balanced; reason=circuit_open"
    await stand.put("/guard/breakers/qwen", {"state": "open"})
    answer = await stand.chat("two", model="balanced")
    assert answer.headers["X-Guardproxy-Mode"] == "creative; from=balanced; reason=circuit_open"
    answer = await stand.chat("three", model="qwen")
    assert answer.headers["X-Guardproxy-Mode"] == "creative; from=fast; reason=circuit_open"


async def test_modes_below_are_left_alone(make):
    """A low ceiling moves nobody up: who asks for fast gets fast."""
    stand = await make(QUICK)
    await stand.put("/guard/mode", {"ceiling": "balanced"})
    assert (await stand.chat("one", model="fast")).headers["X-Guardproxy-Mode"] == "fast"
    answer = await stand.chat("two", model="creative")
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=manual"


async def test_no_auto_downshift(make):
    """`auto_downshift: false`: circuits refuse, but nobody is moved."""
    stand = await make({**QUICK, "circuit_breaker": {"minimum_requests": 2, "timeout": 60, "auto_downshift": False}})
    stand.sims["llama"].faults = "status=500"
    for number in range(2):
        await stand.chat(f"fails {number}")
    answer = await stand.chat("refused")
    assert (answer.status, answer.code) == (503, "circuit_open")
    assert (await stand.state())["mode"]["ceiling"] == "creative"
    assert stand.asked("mistral") == 0


async def test_breaker_off(make):
    """`circuit_breaker.enabled: false`: nobody is refused, whatever happens."""
    stand = await make({"circuit_breaker": {"enabled": False}, "retry": {"attempts": 0}, "cache": {"enabled": False}})
    stand.sims["llama"].faults = "status=500"
    for number in range(8):
        assert (await stand.chat(f"fails {number}")).status == 500
    assert stand.asked("llama") == 8
    assert await stand.metric('circuit_breaker_state{model="llama"}') == 0
    assert (await stand.put("/guard/breakers/llama", {"state": "open"})).status == 404
    verdict = (await stand.get("/guard/verify")).json()
    assert "circuit_breaker.enabled is false" in verdict["checks"][1]["detail"]


async def test_per_model_threshold(make):
    """`circuit_breaker.models.NAME` overrides the numbers of one circuit."""
    models = {"qwen": {"failure_threshold": 0.4}}
    stand = await make(
        {"circuit_breaker": {"minimum_requests": 5, "models": models, "timeout": 60}, "retry": {"attempts": 0}}
    )
    for name in ("qwen", "llama"):
        stand.sims[name].faults = "status=500,rate=0.4"
        for number in range(5):
            await stand.chat(f"call {number}", model=name, headers=NEVER)
    assert (await stand.circuit("qwen"), await stand.circuit("llama")) == ("open", "closed")


async def test_minimum_requests(make):
    """There is no verdict on fewer than `minimum_requests`."""
    stand = await make({"circuit_breaker": {"minimum_requests": 5, "timeout": 60}, "retry": {"attempts": 0}})
    stand.sims["llama"].faults = "status=500"
    for number in range(4):
        await stand.chat(f"fails {number}")
    assert await stand.circuit("llama") == "closed"
    await stand.chat("fails once more")
    assert await stand.circuit("llama") == "open"


async def test_callers_mistakes_open_nothing(make):
    """4xx are the callers': a thousand of them say nothing about a model."""
    stand = await make({"circuit_breaker": {"minimum_requests": 1}, "retry": {"attempts": 0}})
    stand.sims["llama"].faults = "status=404"
    for number in range(10):
        await stand.chat(f"call {number}")
    assert await stand.circuit("llama") == "closed"
    assert await stand.metric('llm_request_failures_total{model="llama"}') == 0


async def test_hold_a_mode(stand):
    """An operator holds a ceiling and lets go; calls follow at once, metrics and state say so."""
    answer = await stand.put("/guard/mode", {"ceiling": "fast"})
    assert (answer.status, answer.json()["ceiling"], answer.json()["held"]) == (200, "fast", True)
    answer = await stand.chat("one", model="creative")
    assert answer.headers["X-Guardproxy-Mode"] == "fast; from=creative; reason=manual"
    assert await stand.metric("guardproxy_mode_ceiling") == 2
    assert await stand.metric('llm_mode_downshift_total{from="creative",to="fast"}') == 1
    refused = await stand.chat("two", model="creative", headers=NEVER)
    assert (refused.status, refused.code) == (503, "circuit_open")
    assert (await stand.put("/guard/mode", {"ceiling": None})).json()["held"] is False
    assert (await stand.chat("three", model="creative")).headers["X-Guardproxy-Mode"] == "creative"
    wrong: list[Any] = [{"ceiling": "wild"}, {}, [], {"ceiling": 3}]
    for bad in wrong:
        answer = await stand.put("/guard/mode", bad)
        assert (answer.status, answer.code) == (422, "invalid_request"), bad


async def test_hold_a_breaker(stand):
    """An operator holds a circuit open or closed, and lets go."""
    answer = await stand.put("/guard/breakers/llama", {"state": "open"})
    assert (answer.status, answer.json()["state"], answer.json()["held"]) == (200, "open", "open")
    assert (await stand.chat("one")).headers["X-Guardproxy-Upstream"] == "mistral"
    assert stand.asked("llama") == 0
    await stand.put("/guard/breakers/llama", {"state": "closed"})
    stand.sims["llama"].faults = "status=500"
    for number in range(8):
        await stand.chat(f"held closed {number}")
    assert await stand.circuit("llama") == "closed"
    stand.sims["llama"].faults = None
    answer = await stand.put("/guard/breakers/llama", {"state": "auto"})
    assert "held" not in answer.json()
    unknown = await stand.put("/guard/breakers/gpt", {"state": "open"})
    assert unknown.status == 404
    assert "llama" in unknown.error["message"]
    for bad in ({"state": "half_open"}, {}, {"state": None}):
        assert (await stand.put("/guard/breakers/llama", bad)).status == 422, bad


async def test_a_hung_model(make):
    """A model that accepts and never answers opens its circuit by its timeouts, streamed calls being moved on."""
    stand = await make({**QUICK, "timeouts": {"first_token": 0.1, "total": 3}})
    stand.sims["llama"].faults = "hang"
    answers = await asyncio.gather(*(stand.chat(f"call {number}", stream=True) for number in range(5)))
    assert {answer.status for answer in answers} == {200}
    assert await stand.circuit("llama") == "open"


async def test_mid_stream_failures_open_the_circuit(make):
    """Streams that break off count as failures too."""
    stand = await make({**QUICK, "circuit_breaker": {"minimum_requests": 2, "timeout": 60}})
    stand.sims["llama"].faults = "cut=2"
    for number in range(2):
        assert (await stand.chat(f"call {number}", stream=True)).cut
    assert await stand.circuit("llama") == "open"
    answer = await stand.ask("POST", CHAT, json=asking("next", stream=True))
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"


async def test_probes_that_hang_do_not_keep_a_model_out(make):
    """Answers that never come hold all places of a half-open circuit: health checks find out that the model is well."""
    stand = await make({**QUICK, "timeouts": {"total": 600}})
    await open_llama(stand)
    stand.sims["llama"].faults = "hang"
    breaker, loop = stand.proxy.house.breaker, asyncio.get_running_loop()

    def taken():
        return isinstance(breaker.ask("llama", loop.time()), Permit)

    await stand.until(taken, 10)  # and never given back
    stand.sims["llama"].faults = None

    async def closed():
        return await stand.circuit("llama") == "closed"

    await stand.until_that(closed, 20)
    assert (await stand.chat("served", headers=NEVER)).status == 200


async def test_a_call_that_is_a_probe_is_not_left_hanging(make):
    """An answer in one piece has no first word to miss: after half of its time it is asked for lower, unseen."""
    stand = await make({**QUICK, "timeouts": {"total": 3}})
    await open_llama(stand)
    for task in stand.proxy.prober._rounds:
        task.cancel()
    stand.sims["llama"].faults = "hang"
    before = stand.asked("llama")

    async def probed():
        answer = await stand.chat(f"call {time.monotonic()}", model="creative")
        assert (answer.status, answer.headers["X-Guardproxy-Upstream"]) == (200, "mistral")
        return stand.asked("llama") > before

    await stand.until_that(probed, 10)
    assert await stand.circuit("llama") == "half_open"
