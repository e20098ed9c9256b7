"""By whom a circuit was opened, and when its upstream was proven here.

Here belongs what tells this proxy's own evidence from what others say, and from what an operator wants.
"""

from __future__ import annotations

from typing import final

from guardproxy.core.circuit import State
from guardproxy.core.hearsay import LEARNT

HAND = "by hand"
"""The reason of a circuit that an operator has opened or closed."""
OTHERS = frozenset((LEARNT, HAND))
"""Reasons that are not what this proxy has seen itself."""


@final
class Provenance:
    """Of the circuits of all upstreams."""

    __slots__ = ("_opened", "_proven")

    def __init__(self) -> None:
        self._opened: dict[str, str] = {}
        self._proven: dict[str, float] = {}

    def note(self, upstream: str, old: State, new: State, reason: str, now: float) -> None:
        """A circuit has left the state *old*."""
        if new is State.OPEN:
            self._opened[upstream] = reason or "open"
        elif new is State.CLOSED:
            self._opened.pop(upstream, None)
            if old is State.HALF_OPEN and reason not in OTHERS:
                self._proven[upstream] = now

    def learnt(self, upstream: str) -> bool:
        """Whether it is open on another's word alone."""
        return self._opened.get(upstream) == LEARNT

    def own(self, upstream: str) -> str:
        """Why it is open, where this proxy has seen it itself; else empty."""
        why = self._opened.get(upstream, "")
        return "" if why in OTHERS else why

    def proven(self, upstream: str) -> float:
        """When probes of this proxy's own last closed it."""
        return self._proven.get(upstream, float("-inf"))

    def take(self, upstream: str, old: Provenance) -> None:
        """Take over what *old* knows of one."""
        if upstream in old._opened:
            self._opened[upstream] = old._opened[upstream]
        if upstream in old._proven:
            self._proven[upstream] = old._proven[upstream]
