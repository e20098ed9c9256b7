"""The best of the last minute or two.

Here belongs what a measurement is held against; what is measured is the limiter's.

The best is let go only where a *quiet* measurement takes its place, one that no crowd of ours can have spoilt.  A best
that ages by the clock alone is soon that of a queue, and a queue that is the measure of itself only grows.
"""

from __future__ import annotations

from typing import final

MEMORY = 60.0
"""Seconds after which a quiet measurement begins the search anew; the best before counts for as long again."""


@final
class Best:
    """The least of what was measured of late. Pure: the caller brings the time."""

    __slots__ = ("_best", "_former", "_looked", "_seen")

    def __init__(self) -> None:
        self._best = self._former = float("inf")
        self._looked = self._seen = float("-inf")

    def __repr__(self) -> str:
        return f"<Best {self.value:g}>"

    @property
    def value(self) -> float:
        """What a measurement is held against."""
        return min(self._best, self._former)

    def fresh(self, now: float) -> bool:
        """Whether anything was measured within the last minute."""
        return now - self._seen < MEMORY

    def take(self, measured: float, now: float, *, quiet: bool) -> float:
        """Take note of a measurement; what it is held against, itself included."""
        if quiet and now - self._looked >= MEMORY:
            self._former, self._best, self._looked = self._best, float("inf"), now
        self._seen = now
        self._best = min(self._best, measured)
        return self.value
