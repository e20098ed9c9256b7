"""A second upstream is asked where the first is slow to begin, end to end."""

from __future__ import annotations

import asyncio
from typing import Any

ON: dict[str, Any] = {
    "hedge": {"enabled": True, "least_seconds": 0.2},
    "health": {"interval": 3600},
    "timeouts": {"first_token": 20, "total": 20},
    "cache": {"enabled": False},
}


async def learn(stand, calls=20):
    """Let the proxy learn how long llama's first tokens take: as few calls as are enough, so that none is hedged."""
    for number in range(calls):
        answer = await stand.chat(f"learn {number}", model="creative", stream=True)
        assert answer.headers["X-Guardproxy-Upstream"] == "llama"


async def test_the_faster_one_is_heard(make):
    """llama is slow for once: mistral is asked too and heard, llama is hung up on, and both are told of."""
    stand = await make(ON)
    await learn(stand)
    stand.sims["llama"].faults = "latency=5"
    answer = await stand.chat("for once", model="creative", stream=True)
    assert (answer.status, answer.headers["X-Guardproxy-Upstream"]) == (200, "mistral")
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=slow"
    assert answer.headers["X-Guardproxy-Attempts"] == "2"
    assert b"[DONE]" in answer.body
    await stand.until(lambda: stand.sims["llama"].memory.fates["cancelled"] >= 1, 10)
    await stand.until(stand.at_rest, 10)
    assert await stand.metric('guardproxy_hedges_total{model="mistral"}') == 1
    assert await stand.circuit("llama") == "closed"


async def test_the_first_one_may_still_win(make):
    """The second is slower yet: the first is heard, and the second is hung up on."""
    stand = await make(ON)
    await learn(stand)
    stand.sims["llama"].faults = "latency=0.8"
    stand.sims["mistral"].faults = "latency=5"
    answer = await stand.chat("for once", model="creative", stream=True)
    assert (answer.status, answer.headers["X-Guardproxy-Mode"]) == (200, "creative")
    await stand.until(lambda: stand.sims["mistral"].memory.fates["cancelled"] >= 1, 10)
    await stand.until(stand.at_rest, 10)


async def test_one_breaks_while_the_other_is_awaited(make):
    """A reset of the first while the second is under way is nothing that the app would see."""
    stand = await make(ON)
    await learn(stand)
    stand.sims["llama"].faults = "latency=0.5,reset-before"
    stand.sims["mistral"].faults = "latency=0.8"
    answer = await stand.chat("for once", model="creative", stream=True)
    assert (answer.status, answer.headers["X-Guardproxy-Upstream"]) == (200, "mistral")
    assert answer.headers["X-Guardproxy-Attempts"] in {"2", "3"}
    await stand.until(stand.at_rest, 10)


async def test_the_caller_leaves_both(make):
    """He hangs up while both are awaited: both are hung up on, nothing leaks."""
    stand = await make(ON)
    await learn(stand)
    for name in ("llama", "mistral"):
        stand.sims[name].faults = "latency=5"
    call = asyncio.ensure_future(stand.chat("for once", model="creative", stream=True))
    await stand.until(lambda: len(stand.sims["mistral"].memory.open) == 1, 10)
    call.cancel()
    await stand.until(stand.at_rest, 10)
    await stand.until(lambda: all(stand.sims[name].memory.fates["cancelled"] >= 1 for name in ("llama", "mistral")), 10)


async def test_with_followers(make):
    """Callers who have joined hear the one that is heard, whichever that is."""
    stand = await make({**ON, "cache": {"enabled": True}})
    await learn(stand)
    stand.sims["llama"].faults = "latency=5"
    calls = [asyncio.ensure_future(stand.chat("together", model="creative", stream=True)) for _ in range(3)]
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert stand.asked("mistral") == 1
    await stand.until(stand.at_rest, 10)
