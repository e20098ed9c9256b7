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


@pytest.mark.parametrize(
    "own, files, limit",
    [
        ("0::/\n", {"memory.max": "1000\n"}, 1000),  # a container: its own group is the root
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/system.slice/proxy.service\n", {"system.slice/proxy.service/memory.max": "1000\n"}, 1000),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "500\n", "memory.max": "900\n"}, 500),
        ("0::/of/the/host\n", {"memory.max": "1000\n"}, 1000),  # a container that is told another's names
        ("4:memory:/pod:1\n0::/\n", {"memory/pod:1/memory.limit_in_bytes": "700\n"}, 700),
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        (None, {"memory.max": "1000\n"}, 1000),
        ("nonsense\n", {}, None),
    ],
)
def test_what_is_granted(tmp_path, own, files, limit):
    """The least of what the groups of this process grant, wherever they are."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if own is not None:
        (tmp_path / "own").write_text(own)
    assert granted(tmp_path, tmp_path / "own") == limit
