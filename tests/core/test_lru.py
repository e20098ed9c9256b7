"""The store of the cache, against a slow and obvious one."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardproxy.core.lru import Lru

SIZE, BYTES, TTL, LINGER = 3, 100, 10.0, 5.0
KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])


class Machine(RuleBasedStateMachine):
    """A list of (key, value, weight, expires), the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.lru: Lru[int] = Lru(SIZE, BYTES, TTL, LINGER)
        self.model: list[tuple[bytes, int, int, float]] = []
        self.now = 0.0
        self.value = 0
        self.evicted = 0
        self.gone_stale: set[int] = set()
        """Values of which it has been noticed that they expired."""

    def find(self, key):
        return next((entry for entry in self.model if entry[0] == key), None)

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 5.0, 10.0, 20.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(key=KEYS, weight=st.sampled_from([0, 1, 30, 60, 100, 101]))
    def put(self, key, weight):
        self.value += 1
        kept = self.lru.put(key, self.value, weight, self.now)
        assert kept is (weight <= BYTES)
        if not kept:
            return
        if (old := self.find(key)) is not None:
            self.model.remove(old)
            self.notice(old)
        while self.model and (len(self.model) >= SIZE or sum(entry[2] for entry in self.model) + weight > BYTES):
            oldest = self.model.pop(0)
            if not self.notice(oldest):
                self.evicted += 1
        self.model.append((key, self.value, weight, self.now + TTL))

    def notice(self, entry):
        """Whether it has expired; that is counted once."""
        if self.now >= entry[3]:
            self.gone_stale.add(entry[1])
            return True
        return False

    @rule(key=KEYS)
    def get(self, key):
        found, entry = self.lru.get(key, self.now), self.find(key)
        if entry is None:
            assert found is None
        elif self.notice(entry):
            assert found is None
            if self.now >= entry[3] + LINGER:
                self.model.remove(entry)
        else:
            assert found is not None
            assert (found.value, found.stored) == (entry[1], entry[3] - TTL)
            self.model.remove(entry)
            self.model.append(entry)

    @rule(key=KEYS)
    def stale(self, key):
        found, entry = self.lru.stale(key, self.now), self.find(key)
        if entry is None or self.now >= entry[3] + LINGER:
            assert found is None
        else:
            assert found is not None
            assert found.value == entry[1]

    @rule(even=st.booleans())
    def purge(self, even):
        doomed = [entry for entry in self.model if not even or entry[1] % 2 == 0]
        assert self.lru.purge((lambda value: value % 2 == 0) if even else None) == len(doomed)
        self.model = [entry for entry in self.model if entry not in doomed]

    @rule(most=st.sampled_from([0, 30, 60, 100]))
    def shrink(self, most):
        dropped = 0
        while sum(entry[2] for entry in self.model) > most:
            self.model.pop(0)
            self.evicted += 1
            dropped += 1
        assert self.lru.shrink(most) == dropped

    @rule()
    def sweep(self):
        while not self.lru.sweep(self.now, most=2):
            pass
        while not self.lru.sweep(self.now, most=2):  # one begun before the last change may have missed some
            pass
        for entry in list(self.model):
            if self.notice(entry) and self.now >= entry[3] + LINGER:
                self.model.remove(entry)

    @invariant()
    def bounds(self):
        assert len(self.lru) == len(self.model) <= SIZE
        assert self.lru.bytes == sum(entry[2] for entry in self.model) <= BYTES
        assert self.lru.evictions == self.evicted
        assert self.lru.expirations == len(self.gone_stale)
        assert sorted(key for slot in self.lru._wheel.values() for key in slot) == sorted(e[0] for e in self.model)


TestLru = Machine.TestCase
TestLru.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_a_sweep_in_slices():
    """However many entries there are, one slice of a sweep looks at no more than it is told to."""
    lru: Lru[int] = Lru(100, 1 << 20, TTL)
    for number in range(50):
        lru.put(b"%d" % number, number, 1, 0.0)
    assert [lru.sweep(TTL, most=20) for _ in range(3)] == [False, False, True]
    assert repr(lru) == "<Lru 0/100 entries, 0/1048576 bytes>"
    assert lru.expirations == 50


def test_a_heavy_entry_evicts_nobody():
    """One answer larger than the whole cache does not empty it."""
    lru: Lru[int] = Lru(10, 100, TTL)
    lru.put(b"a", 1, 50, 0.0)
    assert not lru.put(b"b", 2, 101, 0.0)
    assert (len(lru), lru.evictions) == (1, 0)
