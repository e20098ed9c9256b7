"""The deadlines of one attempt: which comes first, what it says, and about whom."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any

import pytest

from guardproxy.core.steps import Ask
from guardproxy.core.terms import Terms
from guardproxy.core.units import Seconds
from guardproxy.core.values import Call, Kind, Target
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.net import clocks as clocks_module
from guardproxy.net.clocks import Clocks, Rota, Timeouts


async def ran(
    *,
    first_token: float = 9.0,
    patience: float = 0.0,
    beat: bool = False,
    streams: bool = True,
    wanted: bool | None = None,
    total: float = 1.0,
    first: float = inf,
    within: float = inf,
    trial: float = inf,
):
    """What one attempt that brings nothing is told, in order."""
    loop = asyncio.get_running_loop()
    told: list = []
    timeouts = Timeouts(first_token=Seconds(first_token), stall=Seconds(9), total=Seconds(total))
    over = loop.create_future()
    started = loop.time()
    terms = Terms(within, first)
    call = Call("id", "POST", "/", "", [], b"", {}, CHAT, stream=streams if wanted is None else wanted)
    call.deadline = started + min(total, within)
    call.terms = terms
    ask = Ask(call, Target("llama"), [], b"", relay=streams, streams=streams)
    ask.within = started + trial
    ask.patience, ask.late = patience, lambda now: told.append(("late", now, None))
    clocks = Clocks(ask, timeouts, loop, Rota(loop), started)

    def expired(fault):
        told.append((fault.message, fault.at, fault.kind))
        over.set_result(None)

    clocks.start(expired)
    if beat:
        clocks.beat(loop.time())
    await asyncio.wait_for(over, 20)
    assert all(at >= started for _, at, _ in told)
    return [(what, kind) for what, _, kind in told]


@pytest.mark.parametrize(
    "how, told",
    [
        ({"first_token": 0.8, "patience": 0.05}, ["late", "first_token"]),
        ({"first_token": 0.1, "patience": 0.2}, ["first_token"]),
        ({"first_token": 0.1, "patience": 0.0}, ["first_token"]),
        ({"patience": 0.05}, ["late", "total"]),
        ({"patience": 0.05, "beat": True}, ["total"]),
        ({"patience": 0.05, "streams": False}, ["total"]),
        ({"patience": 0.05, "first_token": 0.1, "wanted": False}, ["late", "total"]),
        ({"patience": 0.05, "wanted": False, "beat": True}, ["total"]),
    ],
)
async def test_late_is_told_once_and_the_attempt_goes_on(how, told):
    """An attempt that has brought nothing in time is told of once; the deadline comes all the same."""
    said = await ran(**how)
    assert len(said) == len(told)
    assert all(word in text for word, (text, _) in zip(told, said, strict=True))
    assert said[-1][1] is Kind.FAILURE


@pytest.mark.parametrize(
    "how, says",
    [
        ({"within": 0.1}, "not finished when its caller's time was over, after 0.1 s"),
        ({"within": 0.1, "streams": False}, "not finished when its caller's"),
        ({"within": 0.1, "beat": True}, "not finished when its caller's"),
        ({"first": 0.1}, "not begun when its caller's time was over, after 0.1 s"),
    ],
)
async def test_a_caller_in_a_hurry(how, says):
    """His own time is up before ours: he hears so, and the upstream is not to blame."""
    ((text, kind),) = await ran(**how)
    assert says in text
    assert kind is Kind.IGNORED


@pytest.mark.parametrize("streams", [True, False])
async def test_an_experiment_is_given_up(*, streams):
    """After its time, where nothing has come: it says nothing about the upstream, which is not asked once more."""
    ((text, kind),) = await ran(trial=0.1, streams=streams)
    assert "to see whether it is well, and said nothing for 0.1 s" in text
    assert kind is Kind.IGNORED
    for told in (await ran(trial=0.1, beat=True), await ran(trial=9.0)):
        assert told[0][1] is Kind.FAILURE
    assert [text for text, _ in await ran(trial=0.1, patience=0.1)][:-1] == ["late"]
    assert len(await ran(trial=0.1, patience=0.3)) == 1


@pytest.mark.parametrize(
    "how", [{"within": 9.0}, {"first": 9.0}, {"first": 0.1, "beat": True}, {"first_token": 0.1, "first": 5.0}]
)
async def test_a_caller_who_waits_longer_than_we_do(how):
    """Our own deadlines hold, and what misses them is a failure."""
    ((text, kind),) = await ran(**how)
    assert "timeouts." in text
    assert kind is Kind.FAILURE


@pytest.mark.parametrize("slow_reader", [False, True])
async def test_a_stall_is_noticed_before_the_first_token_would_have_been_due(*, slow_reader):
    """Once there is an event the pause counts, however late the clock set at the beginning would go off."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    timeouts = Timeouts(first_token=Seconds(0.1 if slow_reader else 60), stall=Seconds(0.2), total=Seconds(600))
    call = Call("id", "POST", "/", "", [], b"", {}, CHAT, stream=True, deadline=loop.time() + 600)
    clocks = Clocks(Ask(call, Target("llama"), [], b"", relay=True, streams=True), timeouts, loop, Rota(loop))
    clocks.start(over.set_result)
    clocks.beat(loop.time())
    if slow_reader:  # the timer goes off meanwhile, and is set for the deadline
        clocks.suspend(waiting=True)
        await asyncio.sleep(0.3)
        assert not over.done()
        clocks.suspend(waiting=False)
    fault = await asyncio.wait_for(over, 20)
    assert "timeouts.stall" in fault.message


@pytest.mark.parametrize("unread, kind", [(0.0, Kind.FAILURE), (0.4, Kind.IGNORED), (9.0, Kind.IGNORED)])
async def test_whose_fault_the_end_of_all_time_is(unread, kind):
    """An upstream that was not read, since its caller did not read, is not to blame that its answer did not end."""
    loop = asyncio.get_running_loop()
    over, started = loop.create_future(), loop.time()
    timeouts = Timeouts(first_token=Seconds(60), stall=Seconds(60), total=Seconds(1))
    call = Call("id", "POST", "/", "", [], b"", {}, CHAT, stream=True, deadline=started + 1)
    clocks = Clocks(Ask(call, Target("llama"), [], b"", relay=True, streams=True), timeouts, loop, Rota(loop))
    clocks.start(over.set_result)
    clocks.beat(loop.time())
    if unread:
        clocks.suspend(waiting=True)
    if unread < 1.0:
        await asyncio.sleep(unread)
        clocks.suspend(waiting=False)
    fault = await asyncio.wait_for(over, 20)
    assert (fault.code, fault.kind) == ("upstream_timeout", kind)
    assert ("reads slowly" in fault.message) is (kind is Kind.IGNORED)


async def test_a_deadline_far_away_has_no_timer_until_it_is_near(monkeypatch: pytest.MonkeyPatch):
    """And passes when it is due all the same; clocks that were stopped are looked after no longer."""
    monkeypatch.setattr(clocks_module, "NEAR", 0.1)
    monkeypatch.setattr(clocks_module, "LOOK", 0.05)
    loop = asyncio.get_running_loop()
    rota, over = Rota(loop), loop.create_future()
    begun = loop.time()

    def started(expired: Any) -> Clocks:
        call = Call("id", "POST", "/", "", [], b"", {}, CHAT, deadline=begun + 0.5)
        clocks = Clocks(Ask(call, Target("llama"), [], b"", relay=False, streams=False), Timeouts(), loop, rota)
        clocks.start(expired)
        return clocks

    kept, stopped = started(over.set_result), started(None)
    assert len(rota) == 2
    assert kept._timer is None
    stopped.stop()
    assert len(rota) == 1
    fault = await asyncio.wait_for(over, 20)
    assert fault.at - begun >= 0.499  # uvloop counts milliseconds
    assert len(rota) == 0
    assert rota._timer is None
