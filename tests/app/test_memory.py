"""What is given up as memory runs short, and in which order."""

from __future__ import annotations

import pytest

from guardproxy.app.memory import Memory, granted, taken
from guardproxy.core.lru import Lru
from guardproxy.guards.cache import Cache, Settings


@pytest.mark.parametrize(
    "shares, cached, full, words",
    [
        ([0.5], 8, False, ""),
        ([0.85, 0.6], 4, False, "4 kept answers were dropped"),
        ([0.96, 0.9], 4, False, "4 kept answers were dropped"),
        ([0.96, 0.96], 4, True, "4 kept answers were dropped; new calls are refused"),
    ],
)
def test_kept_answers_go_first(shares, cached, full, words):
    cache = Cache(Settings())
    cache.entries = Lru(100, 1000, 60.0)
    for number in range(8):
        cache.entries.put(bytes([number]), None, 10, 0.0)  # type: ignore[arg-type]
    reads = iter(shares)
    memory = Memory(1000, lambda: int(next(reads) * 1000))
    assert memory.look(cache) == words
    assert (len(cache.entries), cache.entries.bytes, memory.full) == (cached, 10 * cached, full)
    assert cache.entries.get(bytes([7]), 1.0) is not None  # the least recently used go


def test_calls_are_taken_again_well_below():
    """Not at once below the mark, lest it open and shut with every call."""
    reads = iter([0.96, 0.9, 0.86, 0.84])
    memory = Memory(1000, lambda: int(next(reads) * 1000))
    told = [(memory.look(None), memory.full) for _ in range(4)]
    assert told == [("new calls are refused", True), ("", True), ("", True), ("new calls are taken again", False)]


def test_nobody_limits_it():
    memory = Memory(None)
    assert memory.look(None) == ""
    assert not memory.full


def test_what_the_system_says():
    assert taken() > 1 << 20
    assert granted() is None or (granted() or 0) > 1 << 20
