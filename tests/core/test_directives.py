"""What a caller may say about kept answers (RFC 9111 § 5.2.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.directives import NOTHING, Asks, read


@pytest.mark.parametrize(
    "text, asks",
    [
        ("", NOTHING),
        ("no-store", Asks(no_store=True)),
        ("no-cache, only-if-cached", Asks(no_cache=True, only_if_cached=True)),
        ("max-age=5,min-fresh=3", Asks(max_age=5.0, min_fresh=3.0)),
        ("max-age=5, max-age=6", Asks(max_age=6.0)),
        ("max-age", Asks(max_age=0.0)),
        ('max-age="7"', Asks(max_age=7.0)),
        ("max-age=-1", Asks(max_age=0.0)),
        ("max-age=\u00b2", Asks(max_age=0.0)),
        ("min-fresh=x", Asks(min_fresh=float("inf"))),
        ("max-stale", Asks(max_stale=float("inf"))),
        ("max-stale=8", Asks(max_stale=8.0)),
        ("max-stale=", Asks()),
        (",;=, private", NOTHING),
        ('ext="a, no-store, only-if-cached", max-age=5', Asks(max_age=5.0)),
        ('ext="a\\", no-store", no-cache', Asks(no_cache=True)),
        ('no-cache, ext="never closed, no-store', Asks(no_cache=True)),
        ("max-age = 5 ,no-cache ", Asks(max_age=5.0, no_cache=True)),
        ('no-cache="set-cookie"', Asks(no_cache=True)),
        ("no-store-at-all, xno-cache", NOTHING),
    ],
)
def test_reading(text, asks):
    """A later directive beats an earlier one; a number that cannot be read asks for the freshest."""
    assert read(text) == asks


@pytest.mark.parametrize(
    "text, age, left, taken",
    [
        ("", 5, 1, True),
        ("", 5, 0, False),
        ("", 5, -1, False),
        ("max-age=5", 5, 1, True),
        ("max-age=4", 5, 1, False),
        ("min-fresh=1", 5, 1, True),
        ("min-fresh=2", 5, 1, False),
        ("max-stale", 5, -1000, True),
        ("max-stale=3", 5, -3, True),
        ("max-stale=3", 5, -4, False),
        ("max-stale, max-age=4", 5, -1, False),
        ("max-stale, min-fresh=1", 5, -1, False),
        ("no-cache, max-stale", 5, 1, False),
        ("no-store", 5, 1, False),
    ],
)
def test_what_is_taken(text, age, left, taken):
    """Every directive binds by itself."""
    assert read(text).takes(age, left) is taken


@given(st.text(st.characters(codec="latin-1"), max_size=30), st.floats(0, 100), st.floats(-100, 100))
def test_any_field(text, age, left):
    """No caller's header field is an error, and whoever bounds the age is bound by it."""
    asks = read(text.lower())
    if asks.takes(age, left):
        assert age <= asks.max_age
        assert left > 0 or -left <= asks.max_stale
        assert asks.bears(age)
