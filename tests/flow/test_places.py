"""Where a call may still go; standing in line for a place, and giving it back."""

from __future__ import annotations

import json

import pytest

from guardproxy.core.limiter import Slot
from guardproxy.core.steps import Stand
from guardproxy.core.values import Call, Record, Refusal, Target
from guardproxy.flow.places import Places
from guardproxy.guards import breaker
from guardproxy.guards.load import Load, Settings
from tests.flow.playbook import NEVER, UPSTREAMS, House, ask, code, play, said

SMALL = Settings(enabled=True, floor=1, initial=1, ceiling=1, queue=1)


def loaded(**how) -> tuple[House, Load]:
    """A house in which each upstream bears one call at once."""
    load = Load(SMALL, UPSTREAMS)
    return House(more=[load], **how), load


def body(number: int) -> bytes:
    return json.dumps({"model": "creative", "seed": number}).encode()


def test_the_order_of_places():
    """Who failed goes last, who is dropped goes; those that differ in nothing but their mode go together."""
    a, b, c = Target("a"), Target("b", mode="x"), Target("b", mode="y")
    places = Places([a, b, c])
    places.last(a)
    assert places.left == [b, c, a]
    assert places.drop(b)
    assert places.left == [a]
    assert not places.drop(a)
    assert not places.busy


def test_overloaded_means_moved():
    """Where another mode has a place, nobody waits: the call goes there, and says why."""
    house, load = loaded()
    load.permit(Target("llama"), 0.0)
    telling, record = house.begin()
    play(telling, (ask("mistral", "balanced", "overloaded"), said(1.0)))
    assert len(record.attempts) == 1
    assert load.limiters["mistral"].taken == 0


def test_in_line():
    """Who may go nowhere else stands in line, is called, and takes the place that he was called for."""
    house, load = loaded()
    slot = load.permit(Target("llama"), 0.0)
    assert isinstance(slot, Slot)
    telling, record = house.begin(headers=NEVER)
    step = telling.send(None)
    assert isinstance(step, Stand)
    assert step.seconds == 5.0
    load.observe(Target("llama"), slot, None, 1.0)
    assert (step.ticket.token is None, load.limiters["llama"].taken) == (False, 1)
    assert telling.send(1.0) == ask("llama")
    assert record.attempts == []
    with pytest.raises(StopIteration) as end:
        telling.send(said(2.0))
    assert end.value.value.status == 200
    assert load.limiters["llama"].taken == 0


def test_the_line_is_full_or_too_long():
    """Who finds no room in it, or waits in vain, is told that somebody is busy, and that he may come again."""
    house, load = loaded()
    load.permit(Target("llama"), 0.0)
    waiting, _ = house.begin(headers=NEVER)
    assert isinstance(waiting.send(None), Stand)
    telling, _ = house.begin(body(1), headers=NEVER)
    reply = play(telling)
    assert (reply.status, code(reply)) == (503, "overloaded")
    with pytest.raises(StopIteration) as end:
        waiting.send(5.0)
    assert code(end.value.value) == "overloaded"
    assert len(load.limiters["llama"].line) == 0


def test_who_leaves_while_he_waits():
    """Hung up on, a story leaves the line; if it had been called already the place is free again."""
    for called in (False, True):
        house, load = loaded()
        slot = load.permit(Target("llama"), 0.0)
        assert isinstance(slot, Slot)
        telling, _ = house.begin(headers=NEVER)
        telling.send(None)
        if called:
            load.observe(Target("llama"), slot, None, 1.0)
        telling.close()
        assert load.limiters["llama"].taken == (0 if called else 1)
        assert len(load.limiters["llama"].line) == 0


def test_a_circuit_that_has_opened_meanwhile():
    """A place is of no use where another gate refuses by then: it is given back."""
    house, load = loaded(circuit=breaker.Settings())
    slot = load.permit(Target("llama"), 0.0)
    assert isinstance(slot, Slot)
    telling, _ = house.begin(headers=NEVER)
    telling.send(None)
    house.breaker.hold("llama", breaker.State.OPEN, 0.5)
    load.observe(Target("llama"), slot, None, 1.0)
    with pytest.raises(StopIteration) as end:
        telling.send(1.0)
    assert end.value.value.status == 503
    assert load.limiters["llama"].taken == 0


def test_skipped():
    """Who does without the guard stands in no line."""
    house, load = loaded()
    load.permit(Target("llama"), 0.0)
    telling, _ = house.begin(headers=(*NEVER, ("X-Guardproxy-Skip", "load")))
    play(telling, (ask("llama"), said(1.0)))
    assert load.limiters["llama"].taken == 1


def test_nobody_to_be_asked():
    """What refused decides what is said: the earliest time, and whether anybody is only busy."""
    house = House()
    house.fail("llama", "mistral", "qwen")
    call = house.read()
    assert isinstance(call, Call)
    admitted = house.rules.admit(call, Record(0.0), 0.0)
    assert isinstance(admitted, Call)
    places = Places(admitted.targets)
    assert places.choose(house.rules, frozenset(), Record(0.0), "", 1.0) is None
    assert (places.until, places.busy) == (10.0, False)
    assert isinstance(house.rules.permit(call.targets[0], 1.0), Refusal)
