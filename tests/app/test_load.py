"""A model is sent no more calls at once than it bears, end to end."""

from __future__ import annotations

import asyncio
from typing import Any

NEVER = {"X-Guardproxy-Downshift": "never"}
SMALL: dict[str, Any] = {
    "load": {"enabled": True, "floor": 1, "initial": 2, "ceiling": 2, "queue": 2, "queue_seconds": 20},
    "health": {"interval": 3600},
    "timeouts": {"first_token": 30, "total": 30},
}


async def test_a_burst_is_moved_then_waits(make):
    """What a model has no place for goes to the mode below; who may not go there waits for a place, and gets one."""
    stand = await make(SMALL)
    stand.sims["llama"].faults = "latency=2"
    moved = await asyncio.gather(*(stand.chat(f"call {number}", model="creative") for number in range(4)))
    assert {answer.status for answer in moved} == {200}
    modes = sorted(answer.headers["X-Guardproxy-Mode"] for answer in moved)
    assert modes == ["balanced; from=creative; reason=overloaded"] * 2 + ["creative"] * 2
    stand.sims["llama"].faults = "latency=0.3"
    waited = await asyncio.gather(*(stand.chat(f"strict {number}", headers=NEVER) for number in range(4)))
    assert {answer.status for answer in waited} == {200}
    assert (await stand.state())["guards"]["load"]["llama"]["taken"] == 0


async def test_a_line_has_an_end(make):
    """Who finds the line full hears so at once, and that trying again may help."""
    stand = await make(SMALL)
    stand.sims["llama"].faults = "latency=1.5"
    calls = [asyncio.ensure_future(stand.chat(f"call {number}", headers=NEVER)) for number in range(4)]

    async def full():
        return (await stand.state())["guards"]["load"]["llama"]["queue"] == 2

    await stand.until_that(full, 10)
    answer = await stand.chat("one too many", headers=NEVER)
    assert (answer.status, answer.code) == (503, "overloaded")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "x-should-retry" not in answer.headers
    await asyncio.gather(*calls)
    assert {call.result().status for call in calls} == {200}


async def test_who_leaves_the_line_gives_his_place_back(make):
    """A caller who hangs up while he waits takes no place; nothing leaks."""
    stand = await make(SMALL)
    stand.sims["llama"].faults = "latency=1.5"
    calls = [asyncio.ensure_future(stand.chat(f"call {number}", headers=NEVER)) for number in range(4)]

    async def full():
        return (await stand.state())["guards"]["load"]["llama"]["queue"] == 2

    await stand.until_that(full, 10)
    calls[3].cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    async def at_rest():
        load = (await stand.state())["guards"]["load"]["llama"]
        return stand.at_rest() and (load["taken"], load["queue"]) == (0, 0)

    await stand.until_that(at_rest, 10)
    assert (await stand.chat("next", headers=NEVER)).status == 200


async def test_batch_work_waits_last(make):
    """`X-Guardproxy-Priority: batch` lets those in a hurry go first."""
    stand = await make({**SMALL, "load": {**SMALL["load"], "initial": 1, "ceiling": 1}})
    stand.sims["llama"].faults = "latency=1"
    order = []

    async def call(name, **headers):
        assert (await stand.chat(name, headers={**NEVER, **headers})).status == 200
        order.append(name)

    async def queued(number):
        return (await stand.state())["guards"]["load"]["llama"]["queue"] == number

    calls = [asyncio.ensure_future(call("first"))]

    async def taken():
        return (await stand.state())["guards"]["load"]["llama"]["taken"] == 1

    await stand.until_that(taken, 10)
    calls.append(asyncio.ensure_future(call("batch", **{"X-Guardproxy-Priority": "batch"})))
    await stand.until_that(lambda: queued(1), 10)
    calls.append(asyncio.ensure_future(call("hurried")))
    await asyncio.gather(*calls)
    assert order == ["first", "hurried", "batch"]
