"""Stop asking an upstream that keeps failing.

Here belong the settings, and the guard that keeps a circuit for each upstream.  The circuit itself is
`core.circuit`'s; who is asked instead is for the modes; that a model is sick without failing is for health.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.circuit import DOUBT, LEASE, Circuit, Permit, State
from guardproxy.core.guard import NOBODY, Guard, Spec
from guardproxy.core.hearsay import LEARNT
from guardproxy.core.provenance import HAND, Provenance
from guardproxy.core.units import Seconds
from guardproxy.core.values import Kind, News, Relayed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from guardproxy.core.guard import Parts
    from guardproxy.core.values import Outcome, Refusal, Target

__all__ = [
    "HAND", "LEARNT", "SLOW", "SPEC", "Breaker", "Circuit", "Override", "Permit", "Settings", "State", "effective",
]  # fmt: skip

_CLOSED, _SUCCESS = State.CLOSED, Kind.SUCCESS  # looked up on every call
SLOW = "slow"
"""The reason of a circuit that opened because its model takes too long to begin."""


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
    consecutive_failures: int | None = None
    """Failures in a row that open this circuit; 0: any number."""
    slow_first_token: Seconds | None = None
    """Seconds after which a stream that has said nothing counts as slow; 0: never."""
    slow_threshold: float | None = None
    """Share of slow attempts at which this circuit opens, 0 < x <= 1."""
    max_timeout: Seconds | None = None
    """Seconds this circuit stays open at the most."""
    warmup_seconds: Seconds | None = None
    """Seconds for which this model may be loading before that counts as a failure."""


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
    """No verdict on shares of fewer attempts within the window."""
    window: Seconds = Seconds(60)
    """Seconds of the sliding window."""
    consecutive_failures: int = 5
    """The circuit opens after so many failures in a row too, however far apart; 0: any number."""
    slow_first_token: Seconds = Seconds(30)
    """Seconds after which a stream that has said nothing counts as slow, while it is still waited for; 0: never."""
    slow_threshold: float = 0.8
    """The circuit opens at this share of slow attempts or above, 0 < x <= 1."""
    max_timeout: Seconds = Seconds(240)
    """Seconds it stays open at the most: each time it opens again it stays open for twice as long, half by chance."""
    warmup_seconds: Seconds = Seconds(300)
    """Seconds for which a model may say that it is being loaded before that counts as a failure."""
    models: dict[str, Override] = field(default_factory=dict)
    """Per upstream: what its circuit does differently."""


@final
class Breaker(Guard):
    """One circuit for each upstream."""

    name = "breaker"
    refuses = "circuit_open"

    def __init__(
        self,
        settings: Settings,
        upstreams: Iterable[str],
        lease: float = LEASE,
        dice: Callable[[], float] = lambda: 0.5,
    ) -> None:
        self.settings = settings
        self.circuits = {name: Circuit(effective(settings, name), lease, dice) for name in upstreams}
        self._unsaid: list[News] = []
        """What became of circuits that were asked for a permit: told with the next news, or by the next tick."""
        self._provenance = Provenance()

    def permit(self, target: Target, now: float) -> Permit | Refusal:
        """A token, or the refusal of an open circuit."""
        circuit = self.circuits[target.upstream]
        return circuit.permit(now) if circuit.state is _CLOSED else self.ask(target.upstream, now)

    def ask(self, upstream: str, now: float, *, check: bool = False) -> Permit | Refusal:
        """Ask to make an attempt, be it a call's or a health check."""
        circuit = self.circuits[upstream]
        if circuit.state is not State.OPEN:
            return circuit.permit(now, check=check)
        permit = circuit.permit(now)
        if type(permit) is Permit:
            self._unsaid.append(self._news(upstream, State.OPEN, now, "due"))
        return permit

    def observe(self, target: Target, token: Permit, outcome: Outcome | None, now: float) -> Sequence[News]:
        """The outcome moves the circuit."""
        if outcome is None:
            return self.tell(target.upstream, token, None, now)
        if outcome.kind is _SUCCESS:
            old = self.circuits[target.upstream].observe(token, _SUCCESS, now)
            return () if old is None and not self._unsaid else self._told(target.upstream, old, now, outcome.label)
        floor = (outcome.retry_after or 0.0) if type(outcome) is not Relayed and outcome.kind is Kind.FAILURE else 0.0
        return self.tell(target.upstream, token, outcome.kind, now, outcome, floor)

    def tell(
        self, upstream: str, token: Permit, kind: Kind | None, now: float, why: Outcome | str = "", floor: float = 0.0
    ) -> Sequence[News]:
        """Take note of an outcome, be it a call's or that of a health check."""
        old = self.circuits[upstream].observe(token, kind, now, floor)
        if old is None and not self._unsaid:
            return ()
        return self._told(upstream, old, now, why if isinstance(why, str) else why.label)

    def late(self, target: Target, token: Permit, now: float) -> tuple[Permit, Sequence[News]]:
        """An attempt that is under way has brought nothing in time."""
        token, old = self.circuits[target.upstream].late(token, now)
        return token, self._told(target.upstream, old, now, SLOW)

    def hold(self, upstream: str, state: State | None, now: float) -> Sequence[News]:
        """Hold the circuit of *upstream* by hand, or let go."""
        return self._told(upstream, self.circuits[upstream].hold(state, now), now, HAND)

    def learn(self, upstream: str, now: float) -> Sequence[News]:
        """Another proxy has opened its circuit of *upstream*: open too, unless attempts of our own say otherwise."""
        circuit = self.circuits[upstream]
        if self.proven(upstream, now) or circuit.held is not None or circuit.state is not State.CLOSED:
            return ()
        return self._told(upstream, self._put(circuit, State.OPEN, now), now, LEARNT)

    def unlearn(self, upstream: str, now: float, *, well: bool) -> Sequence[News]:
        """Another proxy has closed its circuit, being *well*, or says nothing any more.

        One that is open by its word alone closes, or is due; one of our own is due where the other is well.
        """
        circuit = self.circuits[upstream]
        learnt = self._provenance.learnt(upstream)
        if circuit.held is not None or not (well or learnt):
            return ()
        if well and learnt:
            return self._told(upstream, self._put(circuit, State.CLOSED, now), now, LEARNT)
        if circuit.state is State.OPEN:
            circuit.until = min(circuit.until, now)
        return ()

    def proven(self, upstream: str, now: float) -> bool:
        """Whether attempts of our own, of late, say that *upstream* is well: then nobody can tell us otherwise."""
        circuit = self.circuits[upstream]
        if circuit.state is not State.CLOSED:
            return False
        lately = now - self._provenance.proven(upstream) < circuit.settings.window
        return lately or circuit.rates(now)[2] >= circuit.settings.minimum_requests

    def stands(self, upstream: str) -> str:
        """Why the circuit of *upstream* is not closed, where this proxy has seen it itself; else empty."""
        return "" if self.circuits[upstream].held is not None else self._provenance.own(upstream)

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """The circuits of upstreams that are still there, whatever they are set by now."""
        if isinstance(old, Breaker):
            for name in self.circuits.keys() & old.circuits.keys():
                circuit, new = old.circuits[name], self.circuits[name]
                if name in moved:
                    new.hold(circuit.held, 0.0)  # an order is about the name, whoever has it
                    continue
                circuit.retune(new)
                self.circuits[name] = circuit
                self._provenance.take(name, old._provenance)  # noqa: SLF001 -- its own kind

    def available(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be permitted."""
        return self.circuits[upstream].available(now)

    def due(self, upstream: str, now: float) -> bool:
        """Whether an attempt would be a probe."""
        return self.circuits[upstream].waits(now)

    def trial(self, token: Permit) -> float:
        """A probe is an experiment with its caller's call."""
        return DOUBT if token.expires else inf

    def waits(self, upstream: str, now: float) -> bool:
        """Whether a health check would be a probe: also beside one that has been out for suspiciously long."""
        return self.circuits[upstream].waits(now, check=True)

    def tick(self, now: float) -> Iterable[News]:
        """Probes that were lost open their circuit again."""
        told = self._told("", None, now, "")
        for name, circuit in self.circuits.items():
            told += self._told(name, circuit.lapse(now), now, "a probe did not come back")
        return told

    def tuned(self, upstream: str) -> Settings:
        """What holds for one upstream."""
        return effective(self.settings, upstream)

    def state(self, now: float) -> dict[str, Any]:
        """Each circuit's condition."""
        return {name: _shown(circuit, now) for name, circuit in self.circuits.items()}

    def _told(self, upstream: str, old: State | None, now: float, reason: str) -> list[News]:
        """What has not been said yet, and what happened now, if a state was left."""
        told, self._unsaid = self._unsaid, []
        if old is not None:
            told.append(self._news(upstream, old, now, reason))
            self._provenance.note(upstream, old, self.circuits[upstream].state, reason, now)
        return told

    @staticmethod
    def _put(circuit: Circuit, state: State, now: float) -> State | None:
        """Put *circuit* into *state*, from where it goes on by itself."""
        old = circuit.hold(state, now)
        circuit.hold(None, now)
        return old

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


def _tuned(circuit: Circuit) -> dict[str, Any]:
    """The settings by which a circuit judges."""
    return {name: getattr(circuit.settings, name) for name in Override.__dataclass_fields__}


def _shown(circuit: Circuit, now: float) -> dict[str, Any]:
    bad, slow, attempts = circuit.rates(now)
    told: dict[str, Any] = {"state": circuit.state.value, "failure_rate": round(bad, 4), "slow_rate": round(slow, 4)}
    told["attempts"] = attempts
    if circuit.state is State.OPEN:
        told["due_in"] = round(max(0.0, circuit.until - now), 3)
    if circuit.held is not None:
        told["held"] = circuit.held.value
    told["settings"] = _tuned(circuit)
    return told


def _build(settings: Settings, parts: Parts) -> Breaker:
    return Breaker(settings, parts.models, max(LEASE, parts.config.timeouts.total), parts.dice)


SPEC = Spec("breaker", "circuit_breaker", 50, _build)
"""What the registry loads."""
