"""Stop asking an upstream that keeps failing.

Here belongs the circuit of one upstream and the guard that keeps one for each.  Who is asked instead is for the
modes; that a model is sick without failing is for health.

| state | permit | success | failure | throttled, ignored, nobody waited | time |
|---|---|---|---|---|---|
| closed | token | counts as good | counts as bad; **open** at the threshold | – | old marks slide out |
| open | refusal; once due: **half-open** and a probe | – | – | – | due after `timeout` |
| half-open | a probe while fewer than `half_open_requests` are out, else refusal | enough of them: **closed** | **open** | the probe is given back | a probe's lease runs out |

Only outcomes that were permitted in the present state count (a token carries the generation): what a call finds
that was let through before the circuit opened says nothing about the half-open one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import Guard, Spec
from guardproxy.core.units import Seconds
from guardproxy.core.values import Kind, News, Refusal
from guardproxy.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.values import Outcome, Target

LEASE = 600.0
"""Seconds after which a probe that has not come back is taken for lost, so that it never wedges the circuit."""
BUSY = 1.0
"""Seconds after which asking may help where all probes are out."""


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


class State(Enum):
    """What a circuit is doing; the order is that of the metric."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@final
@dataclass(slots=True, eq=False)
class Permit:
    """The right to one attempt."""

    generation: int
    expires: float = 0.0
    """When the lease of a probe runs out; nothing else has one."""


@final
class Circuit:
    """The circuit of one upstream. Pure: the caller brings the time."""

    __slots__ = ("_lease", "_permit", "_probes", "_successes", "_window", "generation", "held", "settings", "state", "until")

    def __init__(self, settings: Settings, lease: float = LEASE) -> None:
        self.settings = settings
        self._lease = lease
        self._window = Window(settings.window)
        self._probes: list[Permit] = []
        self.held: State | None = None
        """The state it is held in by hand."""
        self.until = 0.0
        """When an open circuit is due."""
        self.generation = 0
        self._enter(State.CLOSED)

    def __repr__(self) -> str:
        held = ", held" if self.held else ""
        return f"<Circuit {self.state.value}{held}, {self._window.bad}/{self._window.total} bad, {len(self._probes)} probes out>"

    def permit(self, now: float) -> Permit | Refusal:
        """Ask to make an attempt."""
        if self.state is State.CLOSED:
            return self._permit
        if self.held is State.OPEN:
            return Refusal("circuit_open", now + self.settings.timeout)
        if self.state is State.OPEN:
            if now < self.until:
                return Refusal("circuit_open", self.until)
            self._enter(State.HALF_OPEN)
        elif not self._room(now):
            return Refusal("circuit_open", now + BUSY)
        probe = Permit(self.generation, now + self._lease)
        self._probes.append(probe)
        return probe

    def available(self, now: float) -> bool:
        """Whether `permit` would be given; changes nothing."""
        if self.state is State.CLOSED:
            return True
        if self.held is State.OPEN:
            return False
        return now >= self.until if self.state is State.OPEN else self._room(now)

    def observe(self, permit: Permit, kind: Kind | None, now: float) -> State | None:
        """Take note of an outcome (None: nobody waited for it); the state left, if it was left."""
        if permit.generation != self.generation:
            return None
        old = self.state
        if old is State.CLOSED:
            return self._count(kind, now)
        if permit not in self._probes:
            return None  # its lease had run out: too late to speak for the model
        self._probes.remove(permit)
        if kind is Kind.SUCCESS:
            self._successes += 1
            if self._successes >= self.settings.success_threshold:
                self._enter(State.CLOSED)
        elif kind is Kind.FAILURE or kind is Kind.SLOW:
            self._open(now)
        return None if self.state is old else old

    def hold(self, state: State | None, now: float) -> State | None:
        """Hold it open or closed by hand, or let go (None); the state left, if it was left."""
        old, self.held = self.state, state
        if state is State.OPEN and old is not State.OPEN:
            self._open(now)
        elif state is State.CLOSED and old is not State.CLOSED:
            self._enter(State.CLOSED)
        return None if self.state is old else old

    def rate(self, now: float) -> tuple[float, int]:
        """The share of failures in the window, and of how many attempts."""
        self._window.slide(now)
        return (self._window.bad / self._window.total if self._window.total else 0.0), self._window.total

    def _count(self, kind: Kind | None, now: float) -> State | None:
        if kind is Kind.SUCCESS:
            self._window.mark(ok=True, now=now)
            return None
        if kind is not Kind.FAILURE and kind is not Kind.SLOW:
            return None
        window = self._window
        window.mark(ok=False, now=now)
        enough = window.total >= self.settings.minimum_requests
        if self.held is None and enough and window.bad >= self.settings.failure_threshold * window.total:
            self._open(now)
            return State.CLOSED
        return None

    def _room(self, now: float) -> bool:
        self._probes = [probe for probe in self._probes if now < probe.expires]
        return len(self._probes) < self.settings.half_open_requests

    def _open(self, now: float) -> None:
        self._enter(State.OPEN)
        self.until = now + self.settings.timeout

    def _enter(self, state: State) -> None:
        self.state = state
        self.generation += 1
        self._permit = Permit(self.generation)
        self._probes = []
        self._successes = 0
        self._window.clear()


@final
class Breaker(Guard):
    """One circuit for each upstream."""

    name = "breaker"

    def __init__(self, settings: Settings, upstreams: Iterable[str]) -> None:
        self.settings = settings
        self.circuits = {name: Circuit(effective(settings, name)) for name in upstreams}

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

    def available(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be permitted."""
        return self.circuits[upstream].available(now)

    def due(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be a probe."""
        circuit = self.circuits[upstream]
        return circuit.state is not State.CLOSED and circuit.available(now)

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


SPEC = Spec("breaker", "circuit_breaker", 50, lambda settings, parts: Breaker(settings, parts.models))
"""What the registry loads."""
