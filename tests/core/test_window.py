"""The sliding window, against a list of all marks ever made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.window import SLICES, Window

STEPS = st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60)


@given(STEPS, st.sampled_from([1.0, 10.0, 60.0]), st.floats(0, 1e6))
def test_a_mark_is_remembered_nine_tenths_and_forgotten_after_all(steps, seconds, start):
    """Nothing younger than nine tenths of the window is forgotten, nothing older than all of it counts."""
    window, marks, now = Window(seconds), [], start
    for pause, ok in steps:
        now += pause
        window.mark(ok, now)
        marks.append((now, ok))
        window.slide(now)
        slack = 1e-6 * max(1.0, now)
        surely = [good for at, good in marks if now - at < seconds * (1 - 1 / SLICES) - slack]
        at_most = [good for at, good in marks if now - at < seconds + slack]
        assert surely.count(True) <= window.good <= at_most.count(True)
        assert surely.count(False) <= window.bad <= at_most.count(False)
        assert window.total == window.good + window.bad


@given(STEPS)
def test_it_forgets_everything_in_time(steps):
    """A quiet minute leaves an empty window, whatever was before."""
    window, now = Window(60.0), 0.0
    for pause, ok in steps:
        now += pause
        window.mark(ok, now)
    window.slide(now + 60.1)
    assert (window.good, window.bad) == (0, 0)


def test_a_late_mark_counts_as_of_now():
    """Outcomes that are told out of order are not lost."""
    window = Window(10.0)
    window.mark(ok=True, now=100.0)
    window.mark(ok=False, now=50.0)
    assert repr(window) == "<Window 1 good, 1 bad>"
    window.slide(111.0)
    assert window.total == 0


def test_clear():
    """A circuit that changes its state begins anew."""
    window = Window(10.0)
    window.mark(ok=False, now=5.0)
    window.clear()
    window.mark(ok=True, now=5.0)
    assert (window.good, window.bad) == (1, 0)


@pytest.mark.parametrize("age, total", [(8.9, 1), (10.1, 0)])
def test_by_hand(age, total):
    """The two ages that the class promises something about."""
    window = Window(10.0)
    window.mark(ok=True, now=1000.0)
    window.slide(1000.0 + age)
    assert window.total == total
