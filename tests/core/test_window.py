"""The sliding window, against a list of all marks ever made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.window import SLICES, Window

STEPS = st.lists(st.tuples(st.floats(0, 40), st.sampled_from(["", "bad", "slow"])), max_size=60)


def mark(window: Window, now: float, how: str = "") -> None:
    """One attempt, and how it was."""
    window.attempt(now)
    if how == "bad":
        window.mark_bad()
    elif how == "slow":
        window.mark_slow()


@given(STEPS, st.sampled_from([1.0, 10.0, 60.0]), st.floats(0, 1e6))
def test_a_mark_is_remembered_nine_tenths_and_forgotten_after_all(steps, seconds, start):
    """Nothing younger than nine tenths of the window is forgotten, nothing older than all of it counts."""
    window, marks, now = Window(seconds), [], start
    for pause, how in steps:
        now += pause
        mark(window, now, how)
        marks.append((now, how))
        window.slide(now)
        slack = 1e-6 * max(1.0, now)
        surely = [how for at, how in marks if now - at < seconds * (1 - 1 / SLICES) - slack]
        at_most = [how for at, how in marks if now - at < seconds + slack]
        assert len(surely) <= window.total <= len(at_most)
        assert surely.count("bad") <= window.bad <= at_most.count("bad")
        assert surely.count("slow") <= window.slow <= at_most.count("slow")


@given(STEPS)
def test_it_forgets_everything_in_time(steps):
    """A quiet minute leaves an empty window, whatever was before."""
    window, now = Window(60.0), 0.0
    for pause, how in steps:
        now += pause
        mark(window, now, how)
    window.slide(now + 60.1)
    assert (window.total, window.bad, window.slow) == (0, 0, 0)


def test_a_late_mark_counts_as_of_now():
    """Outcomes that are told out of order are not lost."""
    window = Window(10.0)
    mark(window, 100.0)
    mark(window, 50.0, "bad")
    assert repr(window) == "<Window 2 attempts, 1 bad, 0 slow>"
    window.slide(111.0)
    assert window.total == 0


def test_clear():
    """A circuit that changes its state begins anew."""
    window = Window(10.0)
    mark(window, 5.0, "bad")
    mark(window, 5.0, "slow")
    window.clear()
    mark(window, 5.0)
    assert (window.total, window.bad, window.slow) == (1, 0, 0)


@pytest.mark.parametrize("age, total", [(8.9, 1), (10.1, 0)])
def test_by_hand(age, total):
    """The two ages that the class promises something about."""
    window = Window(10.0)
    mark(window, 1000.0, "bad")
    window.slide(1000.0 + age)
    assert (window.total, window.bad) == (total, total)
