"""Guards in shadow, in a whole proxy: nothing changes for anybody, and the report says what would have."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from guardproxy.checklist.ask import fetch
from tests.app.stand import BRIEF, NEVER

SHADOW: dict[str, Any] = {
    "circuit_breaker": {"enabled": "shadow", "minimum_requests": 2, "consecutive_failures": 2},
    "throttle": {"enabled": "shadow"},
    "load": {"enabled": "shadow", "floor": 1, "initial": 1},
    "cache": {"enabled": "shadow"},
    "json_guard": {"enabled": "shadow", "schemas": {"brief": BRIEF}},
    "retry": {"attempts": 0},
}


GATE = (
    "breaker   shadow  would have refused 3 of 8 (38%) attempts, after opening 1 times: "
    "2 of them failed, 1 were answered all the same"
)


async def report(stand, *arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "guardproxy", "report", stand.app, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode().splitlines()


async def test_what_would_have_been(make):
    """A model that fails, answers that repeat themselves, prose in the place of JSON: all of it passes, and counts."""
    stand = await make(SHADOW)
    for number in range(4):
        answer = await stand.chat(f"fails {number}", headers={**NEVER, "X-Simulate": "status=500"})
        assert answer.status == 500
    assert (await stand.chat("one answer", headers=NEVER)).status == 200
    for _ in range(2):
        assert "hit" not in (await stand.chat("again", model="qwen")).headers.get("Cache-Status", "")
    prose = await stand.chat("prose", model="qwen", headers={"X-Simulate": "not-json", "X-Guardproxy-Schema": "brief"})
    assert prose.status == 200
    assert stand.asked("llama") == 5
    assert stand.asked("qwen") == 3

    told = (await stand.get("/guard/report")).json()
    assert told["calls"] == 8
    assert told["guards"]["breaker"]["would"] == {"permitted": 5, "refused": 3, "spared": 2, "lost": 1, "opened": 1}
    assert told["guards"]["cache"] == {"enabled": "shadow", "hit": 1, "miss": 7}
    assert told["guards"]["json"]["invalid"] == 1
    assert await stand.metric('guardproxy_shadow_total{guard="breaker",would="lost"}') == 1
    assert (await stand.state())["guards"]["breaker"]["gate"]["llama"]["state"] == "open"
    assert [line["msg"] for line in stand.log() if line["msg"].startswith("shadow")] == ["shadow circuit"]
    assert await stand.metric("guardproxy_mode_ceiling") == 0

    status, lines = await report(stand)
    assert status == 0
    assert lines[0].startswith("8 calls in ")
    assert lines[1:] == [
        "json      shadow  1 of 1 (100%) answers that have to be JSON would not have been accepted as they were",
        "cache     shadow  1 of 8 (12%) calls would have been answered from it",
        GATE,
        "throttle  shadow  would have let all 8 attempts pass",
        "load      shadow  would have let all 8 attempts pass",
    ]


async def test_a_guard_that_is_turned_on_knows_what_it_saw(make):
    """From shadow to true by a reload: the circuit that was open in shadow is open now."""
    stand = await make(SHADOW)
    for number in range(2):
        await stand.chat(f"fails {number}", headers={**NEVER, "X-Simulate": "status=500"})
    stand.changes = SHADOW | {"circuit_breaker": SHADOW["circuit_breaker"] | {"enabled": True}}
    assert (await stand.ask("POST", "/guard/reload", admin=True)).status == 200
    assert await stand.circuit("llama") == "open"
    assert (await stand.chat(headers=NEVER)).code == "circuit_open"


async def test_a_limit_in_shadow_lets_everybody_through(make):
    """Those who would have waited are counted, and wait for nobody."""
    stand = await make(SHADOW)
    stand.sims["qwen"].faults = "latency=0.2"
    answers = await asyncio.gather(*(stand.chat(f"call {number}", model="qwen") for number in range(5)))
    assert [answer.status for answer in answers] == [200] * 5
    would = (await stand.get("/guard/report")).json()["guards"]["load"]["would"]
    assert (would["permitted"], would["refused"], would["lost"]) == (1, 4, 4)


async def test_shadow_is_not_safe_to_promote(make):
    """The checklist wants guards that guard."""
    stand = await make(SHADOW)
    told = await asyncio.to_thread(fetch, stand.app)
    assert not told["safe"]
    assert [check["detail"] for check in told["checks"]][:3] == [
        "json_guard.enabled is shadow",
        "circuit_breaker.enabled is shadow",
        "cache.enabled is shadow",
    ]


async def test_guards_that_are_on(stand):
    """The report says in a line what each has done."""
    await stand.chat("a")
    await stand.chat("a")
    status, lines = await report(stand)
    assert (status, lines[0][:7]) == (0, "2 calls")
    assert lines[1:] == [
        "json      on      no calls for JSON",
        "cache     on      1 of 2 (50%) calls answered from it",
        "breaker   on      see its metrics",
        "throttle  on      see its metrics",
        "load      off",
    ]
