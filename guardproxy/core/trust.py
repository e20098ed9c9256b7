"""Whether something that helps, but is not needed, may be waited for.

Here belongs the breaker of the shared store: one that is dead or slow costs one wait, and then nothing, since calls
do not ask it any more; only the keeper of the store does, in the background, until it is well.

    state     a question was answered in time   one was not                 it is time to prove
    trusted   same                              away, for `first` seconds   –
    away      –                                 –                           proving
    proving   trusted                           away, for twice as long     –
"""

from __future__ import annotations

from typing import final

FIRST = 1.0
"""Seconds until it is proven again after it has failed once."""
MOST = 30.0
"""Seconds at the most."""


@final
class Trust:
    """Begins without: nobody waits for what has not been proven."""

    __slots__ = ("_wait", "failures", "until", "well", "why")

    def __init__(self) -> None:
        self.well = False
        """Whether it may be waited for."""
        self.until = float("-inf")
        """When it is to be proven, where it is not well."""
        self.why = "not asked yet"
        """Why it is not well."""
        self.failures = 0
        """How often it has failed."""
        self._wait = FIRST

    def __repr__(self) -> str:
        return "<Trust well>" if self.well else f"<Trust away: {self.why}>"

    def failed(self, why: str, now: float) -> bool:
        """It did not answer, or too late: whether that is news."""
        news = self.well or not self.failures  # where it has never been there somebody should know that, too
        self.failures += 1
        if news:
            self._wait = FIRST
        self.well, self.why = False, why
        if news or now >= self.until:
            self.until = now + self._wait
            self._wait = min(self._wait * 2, MOST)
        return news

    def proven(self) -> bool:
        """It has answered in time: whether that is news."""
        news = not self.well
        self.well, self.why = True, ""
        return news
