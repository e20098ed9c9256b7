"""The deadlines of one attempt: which comes first, and what it says."""

from __future__ import annotations

import asyncio

import pytest

from guardproxy.core.units import Seconds
from guardproxy.net.clocks import Clocks, Timeouts


async def ran(*, first_token: float, patience: float, beat: bool = False, streams: bool = True, total: float = 0.3):
    """What one attempt that brings nothing is told, in order."""
    loop, told = asyncio.get_running_loop(), []
    timeouts = Timeouts(first_token=Seconds(first_token), stall=Seconds(9), total=Seconds(total))
    over = loop.create_future()
    clocks = Clocks(
        "llama",
        timeouts,
        loop.time() + total,
        loop,
        streams=streams,
        patience=patience,
        late=lambda now: told.append(("late", now)),
    )

    def expired(fault):
        told.append((fault.message, fault.at))
        over.set_result(None)

    started = loop.time()
    clocks.start(expired)
    if beat:
        clocks.beat(loop.time())
    await asyncio.wait_for(over, 20)
    assert all(at >= started for _, at in told)
    return [what for what, _ in told]


@pytest.mark.parametrize(
    "how, told",
    [
        ({"first_token": 0.1, "patience": 0.05}, ["late", "first_token"]),
        ({"first_token": 0.1, "patience": 0.2}, ["first_token"]),
        ({"first_token": 0.1, "patience": 0.0}, ["first_token"]),
        ({"first_token": 9.0, "patience": 0.05}, ["late", "total"]),
        ({"first_token": 9.0, "patience": 0.05, "beat": True}, ["total"]),
        ({"first_token": 9.0, "patience": 0.05, "streams": False}, ["total"]),
    ],
)
async def test_late_is_told_once_and_the_attempt_goes_on(how, told):
    """An attempt that has brought nothing in time is told of once; the deadline comes all the same."""
    said = await ran(**how)
    assert len(said) == len(told)
    assert all(word in text for word, text in zip(told, said, strict=True))


@pytest.mark.parametrize("slow_reader", [False, True])
async def test_a_stall_is_noticed_before_the_first_token_would_have_been_due(*, slow_reader):
    """Once there is an event the pause counts, however late the clock set at the beginning would go off."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    timeouts = Timeouts(first_token=Seconds(0.1 if slow_reader else 60), stall=Seconds(0.2), total=Seconds(600))
    clocks = Clocks("llama", timeouts, loop.time() + 600, loop, streams=True)
    clocks.start(over.set_result)
    clocks.beat(loop.time())
    if slow_reader:  # the timer goes off meanwhile, and is set for the deadline
        clocks.suspend(waiting=True)
        await asyncio.sleep(0.3)
        assert not over.done()
        clocks.suspend(waiting=False)
    fault = await asyncio.wait_for(over, 20)
    assert "timeouts.stall" in fault.message
