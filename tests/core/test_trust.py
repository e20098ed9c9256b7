"""A store that is dead or slow costs one wait, and then nothing until it has been proven."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.trust import FIRST, MOST, Trust


def test_its_life():
    """Unproven, well, away for longer and longer, well again."""
    trust = Trust()
    assert not trust.well
    assert trust.proven()
    assert not trust.proven()
    assert repr(trust) == "<Trust well>"
    assert trust.failed("late", 10.0)
    assert (trust.well, trust.why, trust.until) == (False, "late", 10.0 + FIRST)
    assert not trust.failed("late", 10.5)  # somebody who was waiting already
    assert trust.until == 10.0 + FIRST
    assert not trust.failed("still late", 11.0)
    assert trust.until == 11.0 + 2 * FIRST
    assert repr(trust) == "<Trust away: still late>"
    assert trust.proven()
    assert trust.failed("late", 20.0)
    assert trust.until == 20.0 + FIRST
    assert trust.failures == 4


@given(st.lists(st.tuples(st.sampled_from(["failed", "proven"]), st.floats(0, 100)), max_size=30))
def test_it_is_waited_for_only_when_the_last_word_was_good(steps):
    """Whatever happens; it is proven again in `MOST` seconds; news comes where it changes, and of a first failure."""
    trust, now, well = Trust(), 0.0, False
    for what, after in steps:
        now += after
        news = trust.proven() if what == "proven" else trust.failed("x", now)
        assert news is (well is not (what == "proven") or (what == "failed" and trust.failures == 1))
        well = what == "proven"
        assert trust.well is well
        assert well or trust.until <= now + MOST
