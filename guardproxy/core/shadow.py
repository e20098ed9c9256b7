"""A gate that is watched but not heeded, so that one can see what it would do before it may.

Here belongs what is the same for every guard that permits attempts: in shadow it judges every attempt, sees how each
ended, changes its own condition as it would, and changes nothing else.  Guards that answer or judge (cache, JSON) know
by themselves what shadow means for them.

| the gate      | in truth the attempt | counted as |
|---|---|---|
| permits       | is made, and is told | `permitted` |
| would refuse  | is made, and fails   | `refused`, `spared`: it would have saved the caller a wait |
| would refuse  | is made, and answers | `refused`, `lost`: it would have taken an answer away |
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.guard import NOBODY, Guard
from guardproxy.core.values import Kind, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.values import News, Outcome, Target


@final
@dataclass(slots=True)
class Would:
    """What a gate would have done, since it was put into shadow."""

    permitted: int = 0
    refused: int = 0
    spared: int = 0
    """Of those refused: they failed."""
    lost: int = 0
    """Of those refused: they were answered."""
    opened: int = 0
    """How often it would have begun to refuse."""


@final
class Shadow(Guard):
    """Lets *inner* see everything and decide nothing."""

    def __init__(self, inner: Guard) -> None:
        self.inner = inner
        self.name = inner.name
        self.would = Would()

    def permit(self, target: Target, now: float) -> Any:
        """Whatever the gate says, the attempt is made."""
        token = self.inner.permit(target, now)
        if type(token) is Refusal:
            self.would.refused += 1
            return _TURNED_AWAY
        self.would.permitted += 1
        return token

    def observe(self, target: Target, token: Any, outcome: Outcome | None, now: float) -> Iterable[News]:
        """The gate is told of what it would have permitted; of the rest it is counted how right it was."""
        if token is not _TURNED_AWAY:
            return self._aside(self.inner.observe(target, token, outcome, now))
        if outcome is not None and outcome.kind in (Kind.FAILURE, Kind.SLOW):
            self.would.spared += 1
        elif outcome is not None and outcome.kind is Kind.SUCCESS:
            self.would.lost += 1
        return ()

    def late(self, target: Target, token: Any, now: float) -> tuple[Any, Iterable[News]]:
        """The gate is told, if it would have permitted it."""
        if token is _TURNED_AWAY:
            return token, ()
        token, news = self.inner.late(target, token, now)
        return token, self._aside(news)

    def hear(self, news: News, now: float) -> None:
        """What the gate makes of others' news is its own affair."""
        self.inner.hear(news, now)

    def tick(self, now: float) -> Iterable[News]:
        """Time passes for it too."""
        return self._aside(self.inner.tick(now))

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """What a gate has learnt holds in shadow and out of it; what it would have done is counted on."""
        if isinstance(old, Shadow):
            self.inner.inherit(old.inner, moved)
            if old.name == self.name:
                self.would = old.would
        else:
            self.inner.inherit(old, moved)

    def state(self, now: float) -> dict[str, Any]:
        """The gate's condition, and what it would have done."""
        return {"shadow": True, "would": asdict(self.would), "gate": self.inner.state(now)}

    def _aside(self, news: Iterable[News] | None) -> list[News]:
        """The same news in other words: nobody acts on them, but they are written down."""
        told = [replace(one, what=f"shadow {one.what}") for one in news or ()]
        self.would.opened += sum(one.new == "open" for one in told)
        return told


_TURNED_AWAY = object()
"""The token of an attempt that the gate would have refused."""
