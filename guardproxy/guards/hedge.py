"""Ask a second upstream where the first is slower to begin than it almost ever is.

Here belong the settings, how long "almost ever" is, and the budget.  Who is asked second, and that the loser is hung up
on, is the story's and the network's.  Off as shipped: both may have computed, and both may be billed.
Source: "The Tail at Scale" (CACM 56-2).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.guard import NOBODY, Guard, Spec
from guardproxy.core.units import Seconds
from guardproxy.core.values import Kind, Relayed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.values import News, Outcome, Target

REMEMBERED = 200
"""First tokens of each upstream that are remembered."""
ENOUGH = 20
"""So many have to be known before anybody is asked second; and after so many more the quantile is found anew."""
BURST = 5.0
"""Hedges that may be saved up."""
ONE = 1.0 - 1e-9
"""One, and what twenty twentieths make of it in binary."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """Asking a second upstream for a stream that is slow to begin (``hedge``)."""

    enabled: bool = False
    """Whether a second upstream is asked at all."""
    quantile: float = 0.95
    """Share of first tokens that come sooner than the second upstream is asked, 0 < x < 1."""
    budget: float = 0.05
    """Share of calls for which a second upstream is asked, at the most."""
    least_seconds: Seconds = Seconds(0.5)
    """Seconds that the first upstream has in any case."""


@final
class Hedge(Guard):
    """Knows how long first tokens take, and how often a second upstream may be asked."""

    name = "hedge"

    def __init__(self, settings: Settings, upstreams: Iterable[str]) -> None:
        self.settings = settings
        self.made = dict.fromkeys(upstreams, 0)
        """By upstream: how often it was asked second, since start."""
        self._seen: dict[str, deque[float]] = {name: deque(maxlen=REMEMBERED) for name in self.made}
        self._fresh = dict.fromkeys(self.made, 0)
        """First tokens that the quantile does not know yet."""
        self._after: dict[str, float] = {}
        self._tokens = 0.0

    def permit(self, target: Target, now: float) -> float:
        """When the attempt began."""
        del target
        self._tokens = min(self._tokens + self.settings.budget, BURST)
        return now

    def observe(self, target: Target, token: float, outcome: Outcome | None, now: float) -> Iterable[News] | None:
        """A stream has begun so late; or was hung up on that had not begun by then, which is nearly as good to know."""
        if type(outcome) is Relayed and outcome.first and outcome.kind in (Kind.SUCCESS, Kind.SLOW):
            took = outcome.first - token
        elif outcome is None and now > token:
            took = now - token
        else:
            return None
        name = target.upstream
        self._seen[name].append(took)
        self._fresh[name] += 1
        if self._fresh[name] >= ENOUGH:
            self._fresh[name] = 0
            ordered = sorted(self._seen[name])
            self._after[name] = ordered[int(len(ordered) * self.settings.quantile)]
        return None

    def hedge(self, upstream: str) -> float | None:
        """Seconds after which another upstream may be asked beside *upstream*."""
        after = self._after.get(upstream)
        return None if after is None or self._tokens < ONE else max(after, float(self.settings.least_seconds))

    def hedged(self, upstream: str) -> bool:
        """*upstream* is to be asked second: whether the budget allows it, which is then spent."""
        if self._tokens < ONE:
            return False
        self._tokens -= 1.0
        self.made[upstream] += 1
        return True

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """What is known of upstreams that are still there."""
        if isinstance(old, Hedge):
            for name in self.made.keys() & old.made.keys():
                self.made[name] = old.made[name]
                if name not in moved:
                    self._seen[name], self._fresh[name] = old._seen[name], ENOUGH - 1  # noqa: SLF001 -- its own kind

    def state(self, now: float) -> dict[str, Any]:
        """After how long, and how often so far."""
        del now
        return {name: {"after": self._after.get(name), "made": made} for name, made in self.made.items()}


SPEC = Spec("hedge", "hedge", 58, lambda settings, parts: Hedge(settings, parts.models))
"""What the registry loads."""
