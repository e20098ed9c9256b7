"""A sliding window that counts attempts, and which of them were bad or slow.

Here belongs the counting over time that circuits rest on.  What a count means is theirs.
"""

from __future__ import annotations

from typing import final

SLICES = 10
"""Parts of the window that expire one by one: the window slides in steps of a tenth of its length."""


@final
class Window:
    """Attempts of the last *seconds* seconds, forgotten a tenth of the window at a time.

    A mark is remembered for at least nine tenths of the window and never longer than all of it.
    Cost and memory do not depend on how many marks are made.
    """

    __slots__ = ("_bad", "_edge", "_index", "_slice", "_slow", "_step", "_total", "bad", "slow", "total")

    def __init__(self, seconds: float) -> None:
        self._step = seconds / SLICES
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._total = [0] * SLICES
        self._bad = [0] * SLICES
        self._slow = [0] * SLICES
        self._slice = self._index = 0
        self._edge = self._step
        """When the present slice ends."""
        self.total = 0
        """Attempts within the window as it last slid."""
        self.bad = 0
        self.slow = 0

    def attempt(self, now: float) -> None:
        """Count an attempt at time *now*; one that is older than the newest is counted as of then."""
        if now >= self._edge:
            self.slide(now)
        self._total[self._index] += 1
        self.total += 1

    def mark_bad(self) -> None:
        """An attempt that has been counted was bad; it is marked as of the last slide."""
        self._bad[self._index] += 1
        self.bad += 1

    def mark_slow(self) -> None:
        """An attempt that has been counted was slow; it is marked as of the last slide."""
        self._slow[self._index] += 1
        self.slow += 1

    def slide(self, now: float) -> None:
        """Forget what lies before the window that ends at *now*."""
        current = int(now / self._step)
        behind = current - self._slice
        if behind <= 0:
            return
        for old in range(self._slice + 1, self._slice + 1 + min(behind, SLICES)):
            index = old % SLICES
            self.total -= self._total[index]
            self.bad -= self._bad[index]
            self.slow -= self._slow[index]
            self._total[index] = self._bad[index] = self._slow[index] = 0
        self._slice, self._index, self._edge = current, current % SLICES, (current + 1) * self._step

    def __repr__(self) -> str:
        return f"<Window {self.total} attempts, {self.bad} bad, {self.slow} slow>"
