"""Two upstreams asked for one stream: who is asked second, who is heard, and that both are settled."""

from __future__ import annotations

from typing import Any

import pytest

from guardproxy.core.guard import Guard
from guardproxy.core.limiter import Slot
from guardproxy.core.steps import Ask, Raced
from guardproxy.core.values import Kind, Record, Relayed, Reply
from guardproxy.flow.story import Story
from guardproxy.guards import breaker
from guardproxy.guards.load import Load, Settings
from tests.flow.playbook import NEVER, UPSTREAMS, House, broke, labels, refused

STREAM = b'{"model":"creative","messages":[],"stream":true}'
CALM = breaker.Settings(minimum_requests=9)


class Hurry(Guard):
    """Asks second after a second, while it may."""

    name = "hurry"

    def __init__(self, budget: int = 9) -> None:
        self.budget = budget
        self.asked: list[str] = []

    def hedge(self, upstream: str) -> float | None:
        del upstream
        return 1.0

    def hedged(self, upstream: str) -> bool:
        self.budget -= 1
        if self.budget < 0:
            return False
        self.asked.append(upstream)
        return True


def begun(*more: Guard, headers: Any = (), **how: Any) -> tuple[Story[Reply], Record, Ask, House, Load]:
    """A stream that has been asked for, in a house where each upstream bears many calls."""
    load = Load(Settings(enabled=True), UPSTREAMS)
    house = House(more=[load, *more], circuit=CALM, **how)
    telling, record = house.begin(STREAM, headers=headers)
    step = telling.send(None)
    assert isinstance(step, Ask)
    return telling, record, step, house, load


def second_of(step: Ask, now: float = 1.0) -> Ask | None:
    assert step.hedge is not None
    return step.hedge.second(now)


def streamed(at: float, first: float) -> Relayed:
    return Relayed(at, 200, [], Kind.SUCCESS, first, complete=True)


def ended(telling: Story[Reply], came: object) -> Reply:
    with pytest.raises(StopIteration) as end:
        telling.send(came)
    reply = end.value.value
    assert isinstance(reply, Reply)
    return reply


def taken(load: Load) -> int:
    return sum(limiter.taken for limiter in load.limiters.values())


def test_the_second_is_heard():
    """It begins first: the answer is its own, under its mode and its reason; the first is settled as hung up on."""
    telling, record, step, _, load = begun(Hurry())
    assert step.hedge is not None
    assert step.hedge.after == 1.0
    second = second_of(step)
    assert second is not None
    target = second.target
    assert (target.mode, target.moved_from, target.reason) == ("balanced", "creative", "slow")
    assert taken(load) == 2
    record.target = target  # as the network says when it has begun
    assert ended(telling, Raced(streamed(5.0, 1.5), second=True, lost=None)).status == 200
    assert labels(record) == [("llama", "hedged", Kind.IGNORED), ("mistral", "200", Kind.SUCCESS)]
    assert [attempt.first for attempt in record.attempts] == [None, 0.5]
    assert taken(load) == 0


def test_the_first_is_heard_after_all():
    """The second was asked in vain: it is settled, and the answer is the first one's."""
    telling, record, step, _, load = begun(Hurry())
    assert second_of(step) is not None
    assert ended(telling, Raced(streamed(5.0, 1.2), second=False, lost=None)).status == 200
    assert labels(record) == [("mistral", "hedged", Kind.IGNORED), ("llama", "200", Kind.SUCCESS)]
    assert taken(load) == 0


def test_one_fails_and_the_other_answers():
    """What the loser had come to by itself counts as what it is."""
    telling, record, step, _, load = begun(Hurry())
    second_of(step)
    assert ended(telling, Raced(streamed(5.0, 1.2), second=True, lost=broke(1.1))).status == 200
    assert labels(record)[0] == ("llama", "upstream_reset", Kind.FAILURE)
    assert taken(load) == 0


def test_both_fail():
    """Then it is an attempt that has failed like any other, and somebody else is tried."""
    telling, record, step, _, load = begun(Hurry(), share=1.0)
    second_of(step)
    record.target = step.target
    again = telling.send(Raced(broke(2.0), second=False, lost=refused(1.5, 500)))
    assert isinstance(again, Ask)
    assert again.target.upstream in UPSTREAMS
    assert len(record.attempts) == 2
    telling.close()
    assert taken(load) == 0


def test_the_caller_leaves_both():
    """Every permit is given back, of the second too."""
    telling, record, step, _, load = begun(Hurry())
    second_of(step)
    assert taken(load) == 2
    telling.close()
    assert taken(load) == 0
    assert [name for name, _, _ in labels(record)] == ["llama", "mistral"]


def test_nobody_is_asked_second():
    """Where none lets it in, the budget is spent, or the caller wants this model and no other."""
    hurry = Hurry(budget=0)
    telling, _, step, _, load = begun(hurry)
    assert second_of(step) is None
    assert taken(load) == 1
    telling.close()
    telling, _, step, _, _ = begun(Hurry(), headers=NEVER)
    assert step.hedge is None
    telling.close()
    hurry = Hurry()
    telling, _, step, house, load = begun(hurry)
    for name in ("mistral", "qwen"):
        house.breaker.hold(name, breaker.State.OPEN, 0.0)
    assert second_of(step) is None
    assert hurry.asked == []
    telling.close()
    assert taken(load) == 0


def test_without_a_guard_that_hedges_nothing_is_set_up():
    telling, _, step, _, load = begun()
    assert step.hedge is None
    assert isinstance(load.permit(step.target, 0.0), Slot)
    telling.close()
