"""How often an upstream may be tried again, so that an outage is not multiplied.

Here belongs the token bucket of retries (after Envoy's and Finagle's retry budgets).  Whether a call
deserves another try at all is decided by the story.
"""

from __future__ import annotations

from typing import final

HORIZON = 10.0
"""Seconds over which first attempts earn retries."""


@final
class Budget:
    """Retries earned as a share of first attempts, and a floor per second besides.

    *share* of the attempts of the last ten seconds or so may be retried (0.2 is one in five), and
    *floor* retries a second are always allowed, so that a quiet upstream can be tried again at all.
    """

    __slots__ = ("_at", "_cap", "_floor", "_share", "tokens")

    def __init__(self, share: float, floor: float) -> None:
        self._share = share
        self._floor = floor
        self._cap = max(floor * HORIZON, 1.0 if floor > 0 else 0.0)
        self._at: float | None = None
        self.tokens = self._cap

    def earn(self, now: float) -> None:
        """One first attempt was made."""
        self._refill(now)
        self.tokens = min(self.tokens + self._share, self._cap + self._share * 1000)

    def left(self, now: float) -> float:
        """The retries that there are."""
        self._refill(now)
        return self.tokens

    def take(self, now: float) -> bool:
        """Spend one retry, if there is one."""
        self._refill(now)
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True

    def _refill(self, now: float) -> None:
        if self._at is None:
            self._at = now
        elapsed = now - self._at
        if elapsed <= 0:
            return
        self._at = now
        if self.tokens > self._cap:  # what traffic earned fades over the horizon, the floor does not
            self.tokens = self._cap + (self.tokens - self._cap) * max(0.0, 1.0 - elapsed / HORIZON)
        self.tokens = max(self.tokens, min(self._cap, self.tokens + elapsed * self._floor))

    def __repr__(self) -> str:
        return f"<Budget {self.tokens:.1f} retries>"
