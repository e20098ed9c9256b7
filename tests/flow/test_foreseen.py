"""A call that nobody can take ends as its story would have ended, without being told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.units import Seconds
from guardproxy.core.values import Call, Record, Reply, Target
from guardproxy.flow.foreseen import foreseen
from guardproxy.guards import cache, load
from tests.flow.playbook import GUARDED, NEVER, UPSTREAMS, House, ask, code, header, play, said

TIGHT = load.Settings(enabled=True, floor=1, initial=1, ceiling=1, queue=1, queue_seconds=Seconds(5))
BODY = b'{"model":"creative","messages":[]}'


def crowded(*names: str, waiting: bool = True, batch: bool = False, **how) -> tuple[House, load.Load]:
    """A house in which all places of *names* are taken, and the lines before them are full too, or empty."""
    guard = load.Load(TIGHT, UPSTREAMS)
    house = House(more=(guard,), **how)
    for name in names:
        guard.permit(Target(name), 0.0)
        if waiting:
            guard.limiters[name].line.join(0.0, batch=batch)
    return house, guard


def end(house: House, body: bytes = BODY, **how) -> tuple[Reply | None, Record]:
    """What is foreseen of a call that the guards admit."""
    record = Record(0.0)
    call = house.admit(record, body, **how)
    assert isinstance(call, Call)
    return foreseen(call, house.rules, record, how.get("now", 0.0)), record


def test_nobody_can_take_it_nor_let_it_wait():
    house, guard = crowded(*UPSTREAMS)
    reply, record = end(house)
    assert reply is not None
    assert (reply.status, code(reply), header(reply, "Retry-After")) == (503, "overloaded", "1")
    assert header(reply, "x-should-retry") is None
    assert record.call is not None
    assert (record.attempts, record.trail, record.target) == ([], None, None)
    assert sum(one.line.dropped for one in guard.limiters.values()) == 1


@pytest.mark.parametrize("headers", [(), NEVER])
def test_it_is_what_the_story_would_have_said(headers):
    """Byte for byte; and the same who counts as sent away."""
    house, guard = crowded(*UPSTREAMS)
    telling, _ = house.begin(BODY, headers=headers)
    told = play(telling)
    counts = [one.line.dropped for one in guard.limiters.values()]
    found, _ = end(house, headers=headers)
    assert found == told
    assert [one.line.dropped for one in guard.limiters.values()] == [count * 2 for count in counts]


@pytest.mark.parametrize("free", list(UPSTREAMS))
def test_one_place_or_room_to_wait_is_enough_for_a_story(free):
    """Somebody can be asked, or the line has an end that is not reached: nothing is foreseen, nothing is counted."""
    others = [name for name in UPSTREAMS if name != free]
    house, guard = crowded(*others)
    assert end(house)[0] is None
    guard.permit(Target(free), 0.0)
    assert end(house)[0] is None
    assert not any(one.line.dropped for one in guard.limiters.values())


def test_who_is_in_a_hurry_takes_the_place_of_batch_work():
    house, _ = crowded(*UPSTREAMS, batch=True)
    assert end(house)[0] is None
    assert end(house, headers=[("X-Guardproxy-Priority", "batch")])[0] is not None


def test_who_skips_the_guard_is_not_held_up():
    house, _ = crowded(*UPSTREAMS)
    assert end(house, headers=[("X-Guardproxy-Skip", "load")])[0] is None


def test_an_answer_that_is_kept_is_shown_in_the_flood():
    house, _ = crowded()
    telling, _ = house.begin(BODY)
    play(telling, (ask("llama"), said(1.0)))
    full, _ = crowded(*UPSTREAMS)
    full.cache.entries = house.cache.entries
    hit = full.admit(Record(2.0), BODY, now=2.0)
    assert isinstance(hit, Reply)
    assert hit.source == "cache"


def test_a_question_on_its_way_is_joined():
    """Whoever joins waits for no place."""
    house, guard = crowded()
    telling, _ = house.begin(BODY)
    assert ask("llama") == telling.send(None)
    for name in UPSTREAMS:
        guard.limiters[name].taken = 1
        guard.limiters[name].line.join(0.0, batch=False)
    assert end(house)[0] is None
    assert end(house, b'{"model":"creative","messages":[{}]}')[0] is not None
    telling.close()


def test_a_store_that_several_share_is_asked_first():
    house, _ = crowded(*UPSTREAMS)
    house.rules.far = True
    record = Record(0.0)
    call = house.admit(record, BODY)
    assert isinstance(call, Call)
    record.wanted = True
    assert foreseen(call, house.rules, record, 0.0) is None


def test_something_better_than_an_error():
    """A stale answer where that is wanted, a declared fallback."""
    house, _ = crowded(*UPSTREAMS, fallback={"x": 0})
    reply, record = end(house, headers=GUARDED)
    assert reply is not None
    assert (reply.status, reply.source, record.fallback) == (200, "fallback", "brief")
    assert json.loads(json.loads(reply.body)["choices"][0]["message"]["content"]) == {"x": 0}
    keeps = cache.Settings(ttl_seconds=Seconds(10), stale_if_error_seconds=Seconds(100))
    house, guard = crowded(keeps=keeps)
    telling, _ = house.begin(BODY)
    play(telling, (ask("llama"), said(1.0)))
    for name in UPSTREAMS:
        guard.limiters[name].taken = 1
        guard.limiters[name].line.join(0.0, batch=False)
    reply, record = end(house, now=20.0)
    assert reply is not None
    assert (reply.status, reply.source) == (200, "stale")
    assert "stale-if-error" in record.cache


def test_what_is_only_relayed_is_not_held_up():
    house, _ = crowded(*UPSTREAMS)
    assert end(house, b"", target="/llama/v1/files", method="GET")[0] is None


def test_off_it_costs_nothing():
    """Without a guard that has lines nobody asks."""
    assert not House().rules.lined
    assert crowded()[0].rules.lined


@given(
    st.lists(st.tuples(st.sampled_from(list(UPSTREAMS)), st.booleans(), st.integers(0, 2)), max_size=6), st.booleans()
)
def test_nothing_is_foreseen_that_the_story_would_not_say(taken, batch):
    """Whatever places are taken and whoever waits: where a refusal is foreseen the story says the same at once."""
    guard = load.Load(TIGHT, UPSTREAMS)
    house = House(more=(guard,))
    for name, late, many in taken:
        guard.permit(Target(name), 0.0)
        for _ in range(many):
            guard.limiters[name].line.join(0.0, batch=late)
    headers = [("X-Guardproxy-Priority", "batch")] if batch else []
    found, _ = end(house, headers=headers)
    if found is not None:
        telling, _ = house.begin(BODY, headers=headers)
        assert play(telling) == found
