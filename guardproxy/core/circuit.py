"""The circuit of one upstream.

Here belongs the state machine, pure: time is an argument, and what changed is returned.  Which upstreams have one, and
who is told, is the breaker's (`guards.breaker`).

| state | permit | success | failure | anything else | time |
|---|---|---|---|---|---|
| closed | token | counts as good | counts as bad; **open** at the threshold | – | old marks slide out |
| open | refusal; once due: **half-open** and a probe | – | – | – | due after `timeout` |
| half-open | probe while few are out, or refusal | enough: **closed** | **open** | given back | lost probe: **open** |

Only outcomes that were permitted in the present state count (a token carries the generation): what a call finds
that was let through before the circuit opened says nothing about the half-open one.  *Few* are fewer than
`half_open_requests`, *enough* are `success_threshold`; *anything else* is throttled, ignored, or that nobody waited
for it: then a probe is given back, and may be had anew.  A probe that does not come back within its lease is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, final

from guardproxy.core.values import Kind, Refusal
from guardproxy.core.window import Window

LEASE = 600.0
"""Seconds after which a probe that has not come back is taken for lost, so that it never wedges the circuit."""
BUSY = 1.0
"""Seconds after which asking may help where all probes are out."""


class Tuning(Protocol):
    """What a circuit is set by; see `guards.breaker.Settings`."""

    @property
    def failure_threshold(self) -> float:
        """Share of failures that opens it."""

    @property
    def success_threshold(self) -> int:
        """Successes of probes that close it."""

    @property
    def timeout(self) -> float:
        """Seconds it stays open."""

    @property
    def half_open_requests(self) -> int:
        """Probes at once."""

    @property
    def minimum_requests(self) -> int:
        """Attempts before there is a verdict."""

    @property
    def window(self) -> float:
        """Seconds that count."""


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

    __slots__ = (
        "_lease", "_permit", "_probes", "_successes", "_window",
        "generation", "held", "settings", "state", "until",
    )  # fmt: skip

    def __init__(self, settings: Tuning, lease: float = LEASE) -> None:
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
        held, window = ", held" if self.held else "", self._window
        return f"<Circuit {self.state.value}{held}, {window.bad}/{window.total} bad, {len(self._probes)} probes out>"

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

    def lapse(self, now: float) -> State | None:
        """Open again where a probe has not come back in time; the state left, if it was left."""
        if self.state is not State.HALF_OPEN or all(now < probe.expires for probe in self._probes):
            return None
        self._open(now)
        return State.HALF_OPEN

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
        if self.held is None and enough and window.bad / window.total >= self.settings.failure_threshold:
            self._open(now)
            return State.CLOSED
        return None

    def _room(self, now: float) -> bool:
        return sum(now < probe.expires for probe in self._probes) < self.settings.half_open_requests

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
