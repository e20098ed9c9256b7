"""A second upstream beside the first, where that is slow to begin.

Here belongs who is asked second, with which permits, and that both are settled, the one that was heard and the other.
When a second one is asked, the guards say (`Guard.hedge`); that the loser is hung up on is the network's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.steps import Hedge
from guardproxy.core.values import Refusal
from guardproxy.flow.settle import settle

if TYPE_CHECKING:
    from guardproxy.core.steps import Ask, Raced
    from guardproxy.core.values import Call, Record, Target
    from guardproxy.flow.places import Places
    from guardproxy.flow.rules import Rules


@final
class Rival:
    """The second place of one attempt of *call*, of which *first* is the first."""

    __slots__ = ("_call", "_first", "_places", "_rules", "_started", "_target", "_tokens")

    def __init__(self, rules: Rules, call: Call, places: Places, first: Target) -> None:
        self._rules = rules
        self._call = call
        self._places = places
        self._first = first
        self._target: Target | None = None
        """Who was asked second and is not settled; None: nobody."""
        self._tokens: list[Any] = []
        self._started = 0.0

    def ask(self, now: float) -> Ask | None:
        """What to ask beside the first, if anybody else lets it in and the budget allows it."""
        rules, call = self._rules, self._call
        for place in self._places.left:
            if place.upstream == self._first.upstream:
                continue
            tokens = rules.permit(place, now, call.skip)
            if type(tokens) is Refusal:
                continue
            if not rules.hedged(place.upstream):
                rules.observe(place, tokens, None, now)
                return None
            self._target = replace(place, reason="slow") if place.moved_from and not place.reason else place
            self._tokens, self._started = tokens, now
            return rules.aim(call, self._target)
        return None

    def raced(
        self, came: Raced, record: Record, tokens: list[Any] | None, started: float
    ) -> tuple[Target, list[Any] | None, float]:
        """Settle the one that was not heard, *tokens* and *started* being the first one's; what is the other's."""
        second, self._target = self._target, None
        first, until = self._first, came.outcome.first or came.outcome.at
        if second is None or not came.second:
            if second is not None:
                settle(self._rules, record, second, self._tokens, came.lost, self._started, until, "hedged")
            return first, tokens, started
        settle(self._rules, record, first, tokens, came.lost, started, until, "hedged")
        return second, self._tokens, self._started

    def forgo(self, record: Record) -> None:
        """The caller has left both: the first is settled elsewhere."""
        if self._target is not None:
            settle(self._rules, record, self._target, self._tokens, None, self._started, self._started)


def rival(rules: Rules, call: Call, places: Places, target: Target, ask: Ask) -> Rival | None:
    """Have another one asked too where *target* is slow to begin, and there is somebody else."""
    after = None if rules.hedge is None or len(places.left) < 2 else rules.hedge(target.upstream)
    if after is None:
        return None
    second = Rival(rules, call, places, target)
    ask.hedge = Hedge(after, second.ask)
    return second
