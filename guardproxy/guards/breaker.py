"""Stop asking an upstream that keeps failing.

Here belong the settings, and the guard that keeps a circuit for each upstream.  The circuit itself is
`core.circuit`'s; who is asked instead is for the modes; that a model is sick without failing is for health.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.circuit import LEASE, Circuit, Permit, State
from guardproxy.core.guard import Guard, Spec
from guardproxy.core.units import Seconds
from guardproxy.core.values import News

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.guard import Parts
    from guardproxy.core.values import Kind, Outcome, Refusal, Target

__all__ = ["SPEC", "Breaker", "Circuit", "Override", "Permit", "Settings", "State", "effective"]


@final
@dataclass(frozen=True, slots=True)
class Override:
    """What one model's circuit does differently; what is left out is as for all."""

    failure_threshold: float | None = None
    """Share of failed attempts at which this circuit opens, 0 < x <= 1."""
    success_threshold: int | None = None
    """Successes of probes that close this circuit."""
    timeout: Seconds | None = None
    """Seconds this circuit stays open before it is probed."""
    half_open_requests: int | None = None
    """Probes at once."""
    minimum_requests: int | None = None
    """Attempts in the window before there is a verdict."""
    window: Seconds | None = None
    """Seconds of the sliding window."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How the circuits behave (``circuit_breaker``)."""

    enabled: bool | Literal["shadow"] = True
    """``true``, ``false``, or ``shadow``: judged and counted, but nobody is refused."""
    failure_threshold: float = 0.5
    """The circuit opens at this share of failed attempts or above, 0 < x <= 1."""
    success_threshold: int = 5
    """Successes of probes, while half-open, that close the circuit."""
    timeout: Seconds = Seconds(60)
    """Seconds the circuit stays open before it is probed."""
    half_open_requests: int = 3
    """At most so many probes at once."""
    auto_downshift: bool = True
    """Whether the mode ceiling falls when the circuit of its upstream opens."""
    minimum_requests: int = 5
    """No verdict on fewer attempts within the window."""
    window: Seconds = Seconds(60)
    """Seconds of the sliding window."""
    models: dict[str, Override] = field(default_factory=dict)
    """Per upstream: what its circuit does differently."""


@final
class Breaker(Guard):
    """One circuit for each upstream."""

    name = "breaker"
    refuses = "circuit_open"

    def __init__(self, settings: Settings, upstreams: Iterable[str], lease: float = LEASE) -> None:
        self.settings = settings
        self.circuits = {name: Circuit(effective(settings, name), lease) for name in upstreams}

    def permit(self, target: Target, now: float) -> Permit | Refusal:
        """A token, or the refusal of an open circuit."""
        return self.circuits[target.upstream].permit(now)

    def observe(self, target: Target, token: Permit, outcome: Outcome | None, now: float) -> News | None:
        """The outcome moves the circuit."""
        kind = None if outcome is None else outcome.kind
        return self.tell(target.upstream, token, kind, now, "" if outcome is None else outcome.label)

    def tell(self, upstream: str, token: Permit, kind: Kind | None, now: float, label: str = "") -> News | None:
        """Take note of an outcome, be it a call's or that of a health check."""
        circuit = self.circuits[upstream]
        old = circuit.observe(token, kind, now)
        return None if old is None else self._news(upstream, old, now, label)

    def hold(self, upstream: str, state: State | None, now: float) -> News | None:
        """Hold the circuit of *upstream* by hand, or let go."""
        old = self.circuits[upstream].hold(state, now)
        return None if old is None else self._news(upstream, old, now, "by hand")

    def inherit(self, old: Guard) -> None:
        """The circuits of upstreams that are still there and judged as they were."""
        if isinstance(old, Breaker):
            for name, circuit in old.circuits.items():
                if name in self.circuits and circuit.settings == self.circuits[name].settings:
                    self.circuits[name] = circuit

    def available(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be permitted."""
        return self.circuits[upstream].available(now)

    def due(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be a probe."""
        circuit = self.circuits[upstream]
        return circuit.state is not State.CLOSED and circuit.available(now)

    def tick(self, now: float) -> Iterable[News]:
        """Probes that were lost open their circuit again."""
        lapsed = [(name, old) for name, circuit in self.circuits.items() if (old := circuit.lapse(now)) is not None]
        return [self._news(name, old, now, "a probe did not come back") for name, old in lapsed]

    def state(self, now: float) -> dict[str, Any]:
        """Each circuit's condition."""
        return {name: _told(circuit, now) for name, circuit in self.circuits.items()}

    def _news(self, upstream: str, old: State, now: float, reason: str) -> News:
        circuit = self.circuits[upstream]
        until = circuit.until if circuit.state is State.OPEN else 0.0
        return News(now, "circuit", upstream, old.value, circuit.state.value, reason, until)


def effective(settings: Settings, upstream: str) -> Settings:
    """The settings of one upstream's circuit."""
    override = settings.models.get(upstream)
    if override is None:
        return settings
    names = Override.__dataclass_fields__
    return replace(settings, **{name: value for name in names if (value := getattr(override, name)) is not None})


def _told(circuit: Circuit, now: float) -> dict[str, Any]:
    rate, attempts = circuit.rate(now)
    told: dict[str, Any] = {"state": circuit.state.value, "failure_rate": round(rate, 4), "attempts": attempts}
    if circuit.state is State.OPEN:
        told["due_in"] = round(max(0.0, circuit.until - now), 3)
    if circuit.held is not None:
        told["held"] = circuit.held.value
    settings = circuit.settings
    told["settings"] = {name: getattr(settings, name) for name in Override.__dataclass_fields__}
    return told


def _build(settings: Settings, parts: Parts) -> Breaker:
    return Breaker(settings, parts.models, max(LEASE, parts.config.timeouts.total))


SPEC = Spec("breaker", "circuit_breaker", 50, _build)
"""What the registry loads."""
