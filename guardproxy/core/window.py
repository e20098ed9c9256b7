"""A sliding window that counts what was good and what was bad.

Here belongs the counting over time that circuits rest on.  What a count means is theirs.
"""

from __future__ import annotations

from typing import final

SLICES = 10
"""Parts of the window that expire one by one: the window slides in steps of a tenth of its length."""


@final
class Window:
    """Good and bad marks of the last *seconds* seconds, forgotten a tenth of the window at a time.

    A mark is remembered for at least nine tenths of the window and never longer than all of it.
    Cost and memory do not depend on how many marks are made.
    """

    __slots__ = ("_bad", "_good", "_slice", "_step", "bad", "good")

    def __init__(self, seconds: float) -> None:
        self._step = seconds / SLICES
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._good = [0] * SLICES
        self._bad = [0] * SLICES
        self._slice = 0
        self.good = 0
        self.bad = 0

    def mark(self, ok: bool, now: float) -> None:
        """Count one more at time *now*; a mark older than the newest one is counted as of then."""
        self.slide(now)
        index = self._slice % SLICES
        if ok:
            self._good[index] += 1
            self.good += 1
        else:
            self._bad[index] += 1
            self.bad += 1

    def slide(self, now: float) -> None:
        """Forget what lies before the window that ends at *now*."""
        current = int(now / self._step)
        behind = current - self._slice
        if behind <= 0:
            return
        for old in range(self._slice + 1, self._slice + 1 + min(behind, SLICES)):
            index = old % SLICES
            self.good -= self._good[index]
            self.bad -= self._bad[index]
            self._good[index] = self._bad[index] = 0
        self._slice = current

    @property
    def total(self) -> int:
        """Marks within the window as it last slid."""
        return self.good + self.bad

    def __repr__(self) -> str:
        return f"<Window {self.good} good, {self.bad} bad>"
