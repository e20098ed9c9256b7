"""Which word counts, and for how long."""

from __future__ import annotations

from itertools import permutations

import hypothesis.strategies as st
from hypothesis import given

from guardproxy.core.hearsay import LEASE, ORDER_LEASE, Hearsay, Word

WORDS = st.builds(
    Word,
    st.sampled_from(["ceiling", "held ceiling"]),
    st.sampled_from(["", "a", "b"]),
    st.just(""),
    st.sampled_from([90.0, 99.0, 100.0]),
    st.sampled_from(["x", "y"]),
    st.sampled_from([90.0, 100.0, 105.0]),
)


def said(hearsay: Hearsay) -> dict[str, tuple[float, str]]:
    return {word.subject: (word.at, word.by) for word in hearsay}


@given(st.lists(WORDS, max_size=4))
def test_whatever_the_order(words):
    """Whoever has heard the same words knows the same, in whichever order they came, and however often."""
    known = set()
    for order in permutations(words):
        hearsay = Hearsay("own")
        for word in (*order, *order):
            hearsay.hear(word, 110.0)
        known.add(tuple(sorted(said(hearsay).items())))
    assert len(known) == 1


@given(st.lists(WORDS, max_size=4), st.floats(0, 1000))
def test_what_we_say_is_the_last_word(words, now):
    """Also by a clock that is behind those of all others."""
    hearsay = Hearsay("own")
    for word in words:
        hearsay.hear(word, 110.0)
    before = list(hearsay)
    word = hearsay.say("ceiling", "c", "why", now)
    assert hearsay.mine("ceiling")
    assert all(word.later(other) for other in before if other.subject == "ceiling")
    assert not any(hearsay.hear(other, 110.0) for other in before)


def test_a_word_is_good_for_as_long_as_somebody_stands_by_it():
    """A finding for half a minute, an order for ten; the same word again is no news."""
    hearsay = Hearsay("own")
    finding, order = Word("ceiling", "a", "", 0.0, "x", 0.0), Word("held ceiling", "a", "", 0.0, "x", 0.0)
    assert hearsay.hear(finding, 1.0)
    assert hearsay.hear(order, 1.0)
    assert not hearsay.hear(Word("ceiling", "a", "", 0.0, "x", 20.0), 20.0)
    assert hearsay.over(LEASE + 19.0) == []
    assert [word.subject for word in hearsay.over(LEASE + 20.0)] == ["ceiling"]
    assert hearsay.on("ceiling") is None
    stood = hearsay.stand(order, 500.0)
    assert (stood.at, stood.seen) == (0.0, 500.0)
    assert hearsay.over(ORDER_LEASE) == []
    assert [word.says for word in hearsay.over(ORDER_LEASE + 500.0)] == ["a"]


def test_what_is_no_word():
    """One whose time is over when it comes, put back by somebody; and one from a time that has not come."""
    hearsay = Hearsay("own")
    assert not hearsay.hear(Word("ceiling", "a", "", 0.0, "x", 0.0), LEASE)
    assert not hearsay.hear(Word("ceiling", "a", "", 100.0, "x", 100.0), 50.0)
    assert list(hearsay) == []


def test_the_clock_of_the_store_has_gone_back():
    """What was said in a time that has not come again ends at once: it would hold for too long."""
    hearsay = Hearsay("own")
    hearsay.say("ceiling", "a", "", 10_000.0)
    assert [word.by for word in hearsay.over(100.0)] == ["own"]
    assert repr(hearsay) == "<Hearsay of 0 subjects>"
