"""Retries are a share of the traffic and a floor a second, and never more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.budget import HORIZON, Budget

EVENTS = st.lists(st.tuples(st.floats(0, 30), st.sampled_from(["earn", "take", "take"])), max_size=120)


@given(EVENTS, st.sampled_from([0.0, 0.1, 0.2, 1.0]), st.sampled_from([0.0, 0.05, 1.0, 5.0]), st.floats(0, 1e6))
def test_an_outage_is_not_multiplied(events, share, floor, start):
    """Over any history: retries are at most those in hand at first, the floor's, and the share of first attempts."""
    budget, now, earned, taken = Budget(share, floor), start, 0, 0
    first = budget.tokens
    assert first <= max(1.0, floor * HORIZON)
    for pause, what in events:
        now += pause
        if what == "earn":
            budget.earn(now)
            earned += 1
        else:
            taken += budget.take(now)
        assert budget.tokens >= 0.0
        assert taken <= first + (now - start) * floor + earned * share + 1e-6


@given(EVENTS, st.floats(0, 1e6))
def test_the_floor_is_always_there(events, start):
    """A quiet upstream may be tried again: after a second and a bit there is a retry, whatever was before."""
    budget, now = Budget(0.2, 1.0), start
    for pause, what in events:
        now += pause
        budget.earn(now) if what == "earn" else budget.take(now)
    assert budget.take(now + 1.01)


def test_traffic_earns():
    """At one in four, eighty calls earn twenty retries on top of the floor's ten."""
    budget = Budget(0.25, 1.0)
    for _ in range(80):
        budget.earn(0.0)
    assert [budget.take(0.0) for _ in range(31)] == [True] * 30 + [False]
    assert repr(budget) == "<Budget 0.0 retries>"


def test_what_was_earned_fades():
    """The traffic of an hour ago earns nothing now."""
    budget = Budget(0.2, 1.0)
    for _ in range(1000):
        budget.earn(0.0)
    assert sum(budget.take(3600.0) for _ in range(100)) == 10


def test_none_at_all():
    """`budget: 0` and `min_per_second: 0` mean no retries."""
    budget = Budget(0.0, 0.0)
    budget.earn(0.0)
    assert not budget.take(1e6)


def test_it_fades_evenly():
    """Half of what traffic has earned is gone after half of the horizon; what the floor gives is not touched."""
    budget = Budget(0.5, 1.0)
    for _ in range(40):
        budget.earn(100.0)
    assert budget.tokens == 30.0
    budget.take(100.0 + HORIZON / 2)
    assert budget.tokens == 10.0 + 20.0 / 2 - 1.0
    budget.take(100.0 + HORIZON / 2)
    assert budget.tokens == 18.0


def test_the_floor_comes_back_in_any_steps():
    """Asked often or rarely, it gives the same; and one whole retry can always be saved up."""
    budget = Budget(0.0, 0.5)
    assert [budget.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    for tenth in range(1, 20):
        assert not budget.take(tenth / 10)
    assert budget.take(2.0)
    slow = Budget(0.0, 0.01)
    assert slow.take(0.0)
    assert not slow.take(99.0)
    assert slow.take(100.0)
