"""What is counted of one upstream.

Here belong the numbers and their buckets.  What moves them is metrics'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Kind
from guardproxy.openai.usage import tokens
from guardproxy.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from guardproxy.core.values import Attempt

ASKS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
PLACE = {
    Kind.SUCCESS: (0, 2),
    Kind.FAILURE: (1, 1),
    Kind.SLOW: (2, 2),
    Kind.THROTTLED: (3, 0),
    Kind.IGNORED: (4, 0),
    Kind.WARMING: (5, 0),
}
"""Of each kind its place among the counts, and what it is worth: of a call's attempts on one upstream the best one says
how it went. 2 it answered, 1 it failed, 0 nothing can be said."""
KEY_REFUSED = frozenset(("401", "403"))
BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
LOOKUPS = ("hit", "collapsed", "stale", "miss", "bypass")


@final
class Model:
    """The counts of one upstream."""

    def __init__(self) -> None:
        self.requests = self.failures = self.invalid = self.fallbacks = 0
        self.retries = self.aborted = self.keys_refused = self.checks_failed = 0
        self.check_seconds = 0.0
        self.check_tokens = 0
        self.tokens_in = self.tokens_out = self.tokens_saved = self.tokens_wasted = 0
        self.kinds = [0] * len(PLACE)
        self.asks = Histogram(ASKS)
        self.first = Histogram(FIRST)
        self.between = Histogram(BETWEEN)
        self.lookups = dict.fromkeys(LOOKUPS, 0)

    def time(self, attempt: Attempt) -> None:
        """An attempt is over: how soon its first event came, and how fast the others."""
        first = attempt.first
        if first is not None:
            self.first.add(first)
            if attempt.events > 1:
                gaps = attempt.events - 1
                self.between.add(max(0.0, attempt.seconds - first) / gaps, gaps)

    def spend(self, usage: dict[str, Any]) -> None:
        """An answer says that it took these tokens."""
        asked, answered = tokens(usage)
        self.tokens_in += asked
        self.tokens_out += answered
