"""Leave an upstream alone that has asked for it, and come back to it slowly.

Here belong the settings, and the guard that keeps a gate for each upstream that has answered 429, 503 with Retry-After,
or that its model is being loaded.  The gate itself is `core.throttle`'s.  None of this counts against a circuit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import NOBODY, Guard, Spec
from guardproxy.core.throttle import Gate, Pass
from guardproxy.core.units import Seconds
from guardproxy.core.values import Kind, News, Relayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from guardproxy.core.guard import Parts
    from guardproxy.core.values import Outcome, Refusal, Target

LOADING = 5.0
"""Seconds between two looks at a model that is being loaded, at the most."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How upstreams are treated that ask to be left alone (``throttle``)."""

    enabled: bool | Literal["shadow"] = True
    """Whether a throttled upstream is left alone; ``false``: each call finds out for itself; ``shadow``: so too, but it
    is counted what would have been held back."""
    max_seconds: Seconds = Seconds(60)
    """Seconds that a Retry-After holds calls back at the most."""


@final
class Throttle(Guard):
    """A gate for each upstream that was throttled; for all others it has nothing to say."""

    name = "throttle"
    refuses = "throttled"

    def __init__(self, settings: Settings, upstreams: Iterable[str], dice: Callable[[], float]) -> None:
        self.settings = settings
        self._upstreams = frozenset(upstreams)
        self._dice = dice
        self.gates: dict[str, Gate] = {}
        self._lasting: set[str] = set()

    def permit(self, target: Target, now: float) -> Pass | Refusal | None:
        """A place on the ramp, or the refusal of a gate that is held; None where there is no gate."""
        if not self.gates:
            return None
        gate = self.gates.get(target.upstream)
        return None if gate is None else gate.permit(now)

    def observe(self, target: Target, token: Pass | None, outcome: Outcome | None, now: float) -> Sequence[News]:
        """A throttle holds the gate; what ends well on the ramp widens it."""
        kind = None if outcome is None else outcome.kind
        if outcome is not None and (kind is Kind.THROTTLED or kind is Kind.WARMING):
            asked = None if type(outcome) is Relayed else outcome.retry_after
            self._hold(target.upstream, token, outcome.kind, asked, now)
            return ()
        if token is None or (gate := self.gates.get(target.upstream)) is None or not gate.passed(token, kind):
            return ()
        return self._end(target.upstream, gate, now)

    def tick(self, now: float) -> Iterable[News]:
        """A throttle that lasts is news; one that has been quiet is over."""
        if not self.gates:
            return ()
        news: list[News] = []
        for upstream, gate in list(self.gates.items()):
            if gate.quiet(now):
                news += self._end(upstream, gate, now)
            elif upstream not in self._lasting and gate.lasts(now):
                self._lasting.add(upstream)
                news.append(News(now, "throttle", upstream, "open", "held", gate.reason, gate.until))
        return news

    def available(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be permitted."""
        return not self.gates or (gate := self.gates.get(upstream)) is None or gate.available(now)

    def due(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be one of the ramp: how else is it to be known that the throttle is over."""
        return (gate := self.gates.get(upstream)) is not None and gate.available(now)

    def why(self, upstream: str, now: float) -> str:
        """``throttled`` or ``warming``."""
        del now
        gate = self.gates.get(upstream)
        return self.refuses if gate is None else gate.reason

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """The gates of upstreams that are still there."""
        if isinstance(old, Throttle):
            kept = self._upstreams - moved
            self.gates = {name: gate for name, gate in old.gates.items() if name in kept}
            self._lasting = old._lasting & self.gates.keys()  # noqa: SLF001 -- its own kind

    def state(self, now: float) -> dict[str, Any]:
        """Each gate's condition; upstreams that are not here are open."""
        return {
            name: {"reason": gate.reason, "due_in": round(max(0.0, gate.until - now), 3), "room": gate.room}
            for name, gate in self.gates.items()
        }

    def _hold(self, upstream: str, token: Pass | None, kind: Kind, asked: float | None, now: float) -> None:
        gate = self.gates.get(upstream)
        if gate is None:
            most = LOADING if kind is Kind.WARMING else float(self.settings.max_seconds)
            gate = self.gates[upstream] = Gate(most, now, self._dice)
        gate.hold(kind, now, asked, 0 if token is None else token.generation)

    def _end(self, upstream: str, gate: Gate, now: float) -> Sequence[News]:
        del self.gates[upstream]
        if upstream not in self._lasting:
            return ()
        self._lasting.discard(upstream)
        return (News(now, "throttle", upstream, "held", "open", gate.reason),)


def _build(settings: Settings, parts: Parts) -> Throttle:
    return Throttle(settings, parts.models, parts.dice)


SPEC = Spec("throttle", "throttle", 45, _build)
"""What the registry loads."""
