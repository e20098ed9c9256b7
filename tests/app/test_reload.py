"""The configuration is read again whole, or not at all; what is under way is not disturbed."""

from __future__ import annotations

import asyncio
import time

from tests.app.stand import NEVER, merged


async def reload(stand, changes):
    stand.changes = merged(stand.changes, changes)
    return await stand.ask("POST", "/guard/reload", admin=True)


async def test_taken_over(stand):
    """A good configuration counts from the next call on; digest and metric say so."""
    before = (await stand.state())["config"]["digest"]
    answer = await reload(stand, {"modes": {"fast": {"upstream": "qwen", "params": {"temperature": 0.1}}}})
    assert (answer.status, answer.json()["reloaded"]) == (200, True)
    assert (await stand.state())["config"]["digest"] != before
    await stand.chat(model="fast")
    assert stand.seen("qwen")["temperature"] == 0.1
    event = (await stand.state())["events"][-1]
    assert (event["what"], event["from"], event["reason"]) == ("configuration", before, "")
    assert event["to"] == (await stand.state())["config"]["digest"]
    assert await stand.metric("guardproxy_config_last_reload_successful") == 1


async def test_refused(stand):
    """A bad one is 422 with every problem; the old one stays in force."""
    before = (await stand.state())["config"]["digest"]
    answer = await reload(stand, {"cache": {"max_size": 0}, "cash": 1})
    assert answer.status == 422
    problems = " ".join(answer.json()["problems"])
    assert "cache.max_size" in problems
    assert "cash" in problems
    assert (await stand.state())["config"]["digest"] == before
    assert (await stand.chat()).status == 200
    assert await stand.metric("guardproxy_config_last_reload_successful") == 0
    event = (await stand.state())["events"][-1]
    assert (event["what"], event["to"]) == ("configuration", before)
    assert event["reason"].startswith("refused: ")
    assert [line["level"] for line in stand.log() if line["msg"] == "reload refused"] == ["error"]


async def test_what_goes_on(stand):
    """Circuits, kept answers and connections of what has not changed go on."""
    await stand.chat()
    await stand.put("/guard/breakers/mistral", {"state": "open"})
    opened = stand.proxy.house.upstreams["llama"]
    assert (await reload(stand, {"json_guard": {"max_retries": 5}})).status == 200
    assert (await stand.chat()).headers["Cache-Status"].startswith("guardproxy; hit")
    assert await stand.circuit("mistral") == "open"
    assert stand.proxy.house.upstreams["llama"] is opened
    assert (await stand.state())["guards"]["json"]["max_retries"] == 5


async def test_calls_under_way(stand):
    """A call under way ends as it began, though its upstream has gone from the configuration."""
    stand.sims["llama"].faults = "latency=0.3"
    call = asyncio.ensure_future(stand.chat())
    await stand.until(lambda: stand.asked("llama") == 1)
    moved = {"url": stand.sims["mistral"].url, "model": "other"}
    assert (await reload(stand, {"upstreams": {"llama": moved}})).status == 200
    answer = await call
    assert (answer.status, answer.json()["model"]) == (200, stand.sims["llama"].model)
    assert (await stand.chat("next")).status == 200
    assert stand.seen("mistral")["model"] == "other"


async def test_what_is_fixed(stand):
    """What cannot be changed without a restart is refused in words, not ignored."""
    answer = await reload(stand, {"listen": "127.0.0.1:1"})
    assert answer.status == 422
    assert "restart" in answer.json()["problems"][0]


async def test_an_upstream_that_has_moved_is_another(make):
    """Whoever repoints a dead upstream is served at once; its circuit and health are those of the new server."""
    dead = {"minimum_requests": 1, "timeout": 60}
    stand = await make({"circuit_breaker": dead, "retry": {"attempts": 0}, "cache": {"enabled": False}})
    stand.sims["llama"].faults = "status=500"
    assert (await stand.chat("dies", headers=NEVER)).status == 500
    assert await stand.circuit("llama") == "open"
    assert (await reload(stand, {"circuit_breaker": {"half_open_requests": 2}})).status == 200
    assert await stand.circuit("llama") == "open"
    assert (await reload(stand, {"upstreams": {"llama": {"url": stand.sims["mistral"].url}}})).status == 200
    assert (await stand.chat("served", headers=NEVER)).status == 200
    assert await stand.circuit("llama") == "closed"

    async def risen():
        return (await stand.state())["mode"]["ceiling"] == "creative"

    await stand.until_that(risen, 10)


async def test_others_are_served_meanwhile(stand):
    """Reading the configuration and making its schemas ready is not done on the loop; one comes after the other."""
    read = stand.proxy._load
    answered: list[int] = []

    def slowly():
        deadline = time.monotonic() + 10
        while not answered and time.monotonic() < deadline:
            time.sleep(0.01)
        return read()

    stand.proxy._load = slowly
    stand.changes = merged(stand.changes, {"json_guard": {"schemas": {"one": {"schema": {"type": "object"}}}}})
    reloads = [asyncio.create_task(stand.ask("POST", "/guard/reload", admin=True)) for _ in range(2)]
    await asyncio.sleep(0.05)
    answered.append((await stand.get("/healthz")).status)
    assert answered == [200]
    assert [(await one).status for one in reloads] == [200, 200]
    assert "one" in stand.proxy.house.parts.schemas
