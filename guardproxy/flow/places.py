"""Where a call may still go, and who of them lets it in.

Here belongs the choice of the next upstream: the most wanted one that every guard permits, and what those who refused
have said about it.  What happens there is the story's.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.line import Line
    from guardproxy.core.values import Record, Target
    from guardproxy.flow.rules import Rules


@final
class Places:
    """The places of one call, the most wanted first; one that failed goes to the end."""

    __slots__ = ("left", "line", "soon", "until")

    def __init__(self, targets: Sequence[Target]) -> None:
        self.left = list(targets)
        self.until = inf
        """When the first of those that refused may be asked again."""
        self.soon = inf
        """When the first of those may be that refused only for a moment, the last time round."""
        self.line: tuple[Line, Target] | None = None
        """Where to stand in line, the last time round: the most wanted of those that have one."""

    def choose(
        self, rules: Rules, skip: frozenset[str], record: Record, why: str, now: float
    ) -> tuple[Target, list[Any]] | None:
        """The first place where every guard permits an attempt; advice is heard while anybody is left.

        *why* is what kept the call from the places before, for the one to which it is moved.
        """
        self.soon, self.line = inf, None
        for permit in (rules.permit, rules.insist):
            advised, reason = False, why
            for target in self.left:
                tokens = permit(target, now, skip)
                if type(tokens) is not Refusal:
                    return _reasoned(target, reason), tokens
                reason = reason or tokens.reason
                record.note(now, "refused", f"{target.upstream}: {tokens.reason}")
                if tokens.soft:
                    advised = True
                else:
                    self._refused(target, tokens, reason)
            if not advised:
                break
        return None

    def last(self, target: Target) -> None:
        """*target* has failed: it is asked after all others."""
        self.left.sort(key=lambda place: place.upstream == target.upstream)  # stable

    def drop(self, target: Target) -> bool:
        """*target* is not asked any more; whether anybody is left."""
        self.left = [place for place in self.left if place.upstream != target.upstream]
        return bool(self.left)

    def move(self, spare: Sequence[Target]) -> bool:
        """Only the *spare* places are left; whether there are any."""
        self.left = list(spare)
        return bool(self.left)

    @property
    def busy(self) -> bool:
        """Whether somebody would have been asked, and only has enough to do."""
        return self.soon < inf or self.line is not None

    def _refused(self, target: Target, refusal: Refusal, reason: str) -> None:
        self.until = min(self.until, refusal.until)
        if refusal.brief:
            self.soon = min(self.soon, refusal.until)
        if refusal.line is not None and self.line is None:
            self.line = refusal.line, _reasoned(target, reason)


def _reasoned(target: Target, reason: str) -> Target:
    """The same place, with the reason for which the call was moved to it."""
    if target.moved_from and not target.reason:
        return replace(target, reason=reason or "unavailable")
    return target
