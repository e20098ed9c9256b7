"""The circuit of one upstream.

Here belongs the state machine, pure: time and dice are arguments, and what changed is returned.  Which upstreams have
one, and who is told, is the breaker's (`guards.breaker`).

| state | permit | success | failure | late | warming | anything else | time |
|---|---|---|---|---|---|---|---|
| closed | token | counts as good | counts as bad; **open** at a limit | counts as slow; **open** at a limit | – | – | old marks slide out |
| open | refusal; once due: **half-open** and a probe | – | – | – | – | – | due after its time |
| half-open | probe while few are out, or refusal | enough: **closed** | **open** | **open** | given back | given back | lost probe: **open** |

Only outcomes that were permitted in the present state count (a token carries the generation): what a call finds
that was let through before the circuit opened says nothing about the half-open one.  *Few* are fewer than
`half_open_requests`, *enough* are `success_threshold`; *anything else* is throttled, ignored, or that nobody waited
for it: then a probe is given back, and may be had anew.  A probe that does not come back within its lease is lost.
One that is out for long may be a long answer, or may hang: no verdict, but a *check* may then be made in its place,
and nothing else where nobody waits for it any more.

*A limit* is `failure_threshold` or `slow_threshold`, as a share of the attempts in the window, of which there must be
`minimum_requests`; or `consecutive_failures` with no success in between, however long they took.  *Late* is said of an
attempt that is still under way.  *Warming* is what a model says that is being loaded: a failure only after it has said
so for `warmup_seconds`.

It stays open for `timeout` seconds; where it opens again without having been closed for a whole window, for twice as
long each time, of which one half is left to chance (equal jitter), up to `max_timeout`.
Source of the jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""  # noqa: E501 -- the table

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, final

from guardproxy.core.values import Kind, Refusal
from guardproxy.core.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.tuning import Tuning

LEASE = 600.0
"""Seconds after which a probe that has not come back is taken for lost, so that it never wedges the circuit."""
DOUBT = 30.0
"""Seconds, or as many as the circuit was open for if those are fewer, after which a check may go beside a probe."""
BUSY = 1.0
"""Seconds after which asking may help where all probes are out."""
_DOUBLINGS = 30
"""So many make a second thirty years: more are not counted."""


class State(Enum):
    """What a circuit is doing; the order is that of the metric."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


_CLOSED, _SUCCESS = State.CLOSED, Kind.SUCCESS
"""Python 3.11 takes 0.3 µs to look a member of an enumeration up, and these are needed on every call."""


@final
@dataclass(slots=True, eq=False)
class Permit:
    """The right to one attempt."""

    generation: int
    expires: float = 0.0
    """When the lease of a probe runs out; nothing else has one."""
    late: float | None = None
    """When the attempt was counted as slow, while it was under way."""


@final
class Circuit:
    """The circuit of one upstream. Pure: the caller brings the time, and *dice* from 0 up to 1."""

    __slots__ = (
        "_again", "_checks_until", "_dice", "_lease", "_permit", "_probes", "_refusal", "_since", "_streak",
        "_successes", "_warming", "_window", "generation", "held", "settings", "state", "until",
    )  # fmt: skip

    def __init__(self, settings: Tuning, lease: float = LEASE, dice: Callable[[], float] = lambda: 0.5) -> None:
        self.settings = settings
        self._lease = lease
        self._dice = dice
        self._window = Window(settings.window)
        self._probes: list[Permit] = []
        self._streak = 0
        """Failures since the last success."""
        self._again = 0
        """How often it has opened without a healthy window in between."""
        self._warming: float | None = None
        """Since when it has said nothing but that it is being loaded."""
        self.held: State | None = None
        """The state it is held in by hand."""
        self.until = 0.0
        """When an open circuit is due."""
        self._refusal = Refusal("circuit_open")
        self.generation = 0
        self._checks_until = float("-inf")
        """Until when only checks are let through: a probe was given back that had been out for long."""
        self._enter(State.CLOSED, float("-inf"))

    def __repr__(self) -> str:
        held, window = ", held" if self.held else "", self._window
        slow = f", {window.slow} slow" if window.slow else ""
        counted = f"{window.bad}/{window.total} bad{slow}"
        return f"<Circuit {self.state.value}{held}, {counted}, {len(self._probes)} probes out>"

    def permit(self, now: float, *, check: bool = False) -> Permit | Refusal:
        """Ask to make an attempt, which may be a *check*: short, and made for nothing but a verdict."""
        if self.state is _CLOSED:
            return self._permit
        if self.held is State.OPEN:
            return Refusal("circuit_open", now + self.settings.timeout)
        if self.state is State.OPEN:
            if now < self.until:
                return self._refusal
            self._enter(State.HALF_OPEN, now)
        elif not self._room(now, check=check):
            return Refusal("circuit_open", now + BUSY)
        probe = Permit(self.generation, now + self._lease)
        self._probes.append(probe)
        return probe

    def available(self, now: float, *, check: bool = False) -> bool:
        """Whether `permit` would be given; changes nothing."""
        if self.state is State.CLOSED:
            return True
        if self.held is State.OPEN:
            return False
        return now >= self.until if self.state is State.OPEN else self._room(now, check=check)

    def waits(self, now: float, *, check: bool = False) -> bool:
        """Whether an attempt would be a probe."""
        return self.state is not State.CLOSED and self.available(now, check=check)

    def observe(self, permit: Permit, kind: Kind | None, now: float, floor: float = 0.0) -> State | None:
        """Take note of an outcome (None: nobody waited for it); the state left, if it was left.

        *floor* is how many seconds the upstream asked to be left alone.
        """
        if permit.generation != self.generation:
            return None
        if self.state is _CLOSED and kind is _SUCCESS and permit.late is None:
            self._streak = 0  # by far the most frequent case comes first
            self._warming = None
            self._window.attempt(now)
            return None
        if kind is Kind.WARMING:
            kind = self._warm(now)
        elif kind is Kind.SUCCESS or kind is Kind.SLOW:
            self._streak = 0
            self._warming = None
        ended = self._count if self.state is State.CLOSED else self._prove
        return ended(permit, kind, now, floor)

    def late(self, permit: Permit, now: float) -> tuple[Permit, State | None]:
        """An attempt that is under way has brought nothing in time: its permit from now on, and the state left."""
        if permit.generation != self.generation or permit.late is not None:
            return permit, None
        if self.state is not State.CLOSED:
            if permit not in self._probes:
                return permit, None
            self._open(now)
            return permit, State.HALF_OPEN
        settings, window = self.settings, self._window
        window.attempt(now)
        window.mark_slow()
        slow = window.slow / window.total >= settings.slow_threshold
        if self.held is None and slow and window.total >= settings.minimum_requests:
            self._open(now)
            return permit, State.CLOSED
        return Permit(permit.generation, late=now), None

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
            self._enter(State.CLOSED, now)
        return None if self.state is old else old

    def retune(self, other: Circuit) -> None:
        """Be set as *other* is; it stays as it is, marks aside where they count for another time now."""
        if other.settings.window != self.settings.window:
            self._window = other._window
        self.settings, self._lease, self._dice = other.settings, other._lease, other._dice

    def rates(self, now: float) -> tuple[float, float, int]:
        """The shares of failures and of slow attempts in the window, and of how many attempts."""
        window = self._window
        window.slide(now)
        total = max(window.total, 1)
        return window.bad / total, window.slow / total, window.total

    def _warm(self, now: float) -> Kind:
        """What it means that the model is being loaded."""
        if self._warming is None:
            self._warming = now
        return Kind.FAILURE if now - self._warming >= self.settings.warmup_seconds else Kind.IGNORED

    def _count(self, permit: Permit, kind: Kind | None, now: float, floor: float) -> State | None:
        """An attempt of the closed state has ended."""
        if kind is not Kind.SUCCESS and kind is not Kind.SLOW and kind is not Kind.FAILURE:
            return None
        settings, window = self.settings, self._window
        if permit.late is None or now - permit.late >= settings.window:  # else it has been counted
            window.attempt(now)
        if kind is not Kind.FAILURE:
            return None
        window.slide(now)
        window.mark_bad()
        self._streak += 1
        bad = window.total >= settings.minimum_requests and window.bad / window.total >= settings.failure_threshold
        if self.held is None and (bad or 0 < settings.consecutive_failures <= self._streak):
            self._open(now, floor)
            return State.CLOSED
        return None

    def _prove(self, probe: Permit, kind: Kind | None, now: float, floor: float) -> State | None:
        """A probe has come back."""
        if probe not in self._probes:
            return None  # its lease had run out: too late to speak for the model
        self._probes.remove(probe)
        if kind is Kind.SUCCESS:
            self._successes += 1
            if self._successes < self.settings.success_threshold:
                return None
            self._enter(State.CLOSED, now)
        elif kind is Kind.FAILURE or kind is Kind.SLOW:
            self._open(now, floor)
        else:
            if now >= probe.expires - self._lease + self.doubt:
                self._checks_until = now + self.doubt
            return None
        return State.HALF_OPEN

    @property
    def doubt(self) -> float:
        """Seconds after which a probe that is out is suspicious."""
        return min(DOUBT, self.settings.timeout)

    def _room(self, now: float, *, check: bool) -> bool:
        if now < self._checks_until and not check:
            return False
        spent = max(0.0, self._lease - self.doubt) if check else 0.0
        return sum(now < probe.expires - spent for probe in self._probes) < self.settings.half_open_requests

    def _open(self, now: float, floor: float = 0.0) -> None:
        settings = self.settings
        well = self.state is State.CLOSED and now - self._since >= settings.window
        self._again = 0 if well else min(self._again + 1, _DOUBLINGS)
        most = max(settings.timeout, settings.max_timeout)
        span = settings.timeout
        if self._again:
            half = min(settings.timeout * 2**self._again, most) / 2
            span = max(span, half + half * self._dice())
        self.until = now + max(span, min(floor, most))
        self._refusal = Refusal("circuit_open", self.until)
        self._enter(State.OPEN, now)

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self.generation += 1
        self._permit = Permit(self.generation)
        self._probes = []
        self._checks_until = float("-inf")
        self._successes = 0
        self._streak = 0
        self._since = now
        self._window.clear()
