"""Who asks, who listens, who asks again: one question is never on its way twice at once.

Here belongs the register of the calls that are on their way and may be joined, and what becomes of those who have
joined when somebody leaves or an answer comes.  What a listener is told, and how, is `net`'s; whether an answer is
good enough to be shared is the story's.

    state      joined    leader leaves      a listener leaves         answered           broke off
    alone      shared    dropped *)         –                         landed             failed
    shared     same      adopted            alone if he was the last  landed, all told   failed, all told
    adopted    same      –                  dropped *) if the last    landed, all told   failed, all told
    landed, failed, dropped: it can be neither found nor joined, and nobody is told twice

    *) nobody wants the answer any more: hang up

A flight is found by its key, which says everything that shapes the answer, and whether it streams.  Whoever finds
none leads.  Listeners are told in the order in which they came; of those who are told of a failure the first to ask
anew leads, and the others find his flight: that is how a failed leader has one heir, and not a crowd of them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, final

if TYPE_CHECKING:
    from guardproxy.core.values import Record, Reply


class Condition(Enum):
    """What a flight is like."""

    ALONE = "alone"
    SHARED = "shared"
    ADOPTED = "adopted"
    LANDED = "landed"
    FAILED = "failed"
    DROPPED = "dropped"


_ALONE, _SHARED, _ADOPTED, _LANDED, _FAILED, _DROPPED = Condition  # looked up once, not with every call


class Listener(Protocol):
    """Somebody who waits for the answer that another has asked for."""

    def land(self, reply: Reply | None) -> None:
        """Take what came of it: the leader's reply, or None where he broke off without one.  Must not raise."""


@final
class Flight:
    """One call that is on its way, and all who wait for what comes of it."""

    __slots__ = ("_register", "closed", "condition", "key", "leader", "listeners", "pilot", "source")

    def __init__(self, key: bytes, leader: Record, register: dict[bytes, Flight]) -> None:
        self.key = key
        self.leader = leader
        """The book of the call that asked."""
        self._register = register
        self.condition = _ALONE
        self.closed = False
        """Whether nobody can join any more, though it goes on for those who have."""
        self.listeners: dict[Any, None] = {}
        """Those who have joined, in the order in which they came; the leader is not among them."""
        self.pilot: Any = None
        """Whoever performs it; known to `net` alone."""
        self.source: Any = None
        """Where its answer comes in at the moment, if anything comes in; known to `net` alone."""

    def __repr__(self) -> str:
        return f"<Flight {self.condition.value}, {len(self.listeners)} listening>"

    def join(self, listener: Listener) -> None:
        """Wait for what comes of it."""
        self.listeners[listener] = None
        if self.condition is _ALONE:
            self.condition = _SHARED

    def leave(self, listener: Listener) -> bool:
        """A listener waits no longer: whether nobody does, so that it can be hung up on."""
        if listener not in self.listeners:
            return False
        del self.listeners[listener]
        if self.listeners:
            return False
        if self.condition is _SHARED:
            self.condition = _ALONE
        elif self.condition is _ADOPTED:
            self._over(_DROPPED)
            return True
        return False

    def leader_left(self) -> bool:
        """The leader waits no longer: whether nobody does, so that it can be hung up on."""
        if self.condition is _SHARED:
            self.condition = _ADOPTED
        elif self.condition is _ALONE:
            self._over(_DROPPED)
            return True
        return False

    def end(self, reply: Reply | None) -> None:
        """It is over: everybody is told, once."""
        if self.condition not in _LIVE:
            return
        self._over(_FAILED if reply is None else _LANDED)
        if self.listeners:
            listeners, self.listeners = self.listeners, {}
            for listener in listeners:
                listener.land(reply)

    def _over(self, condition: Condition) -> None:
        self.condition = condition
        if self._register.get(self.key) is self:
            del self._register[self.key]


@final
class Flights:
    """All flights of one configuration, by their keys."""

    __slots__ = ("_flights",)

    def __init__(self) -> None:
        self._flights: dict[bytes, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def __repr__(self) -> str:
        return f"<Flights {len(self._flights)}>"

    def find(self, key: bytes) -> Flight | None:
        """The flight that a call with this key may join."""
        flight = self._flights.get(key)
        return None if flight is None or flight.closed else flight

    def lead(self, key: bytes, leader: Record) -> Flight:
        """Begin one; there must be none with this key that can be joined."""
        flight = self._flights[key] = Flight(key, leader, self._flights)
        return flight

    def close_all(self) -> None:
        """Let nobody join those that there are: what is asked from now on is asked anew."""
        self._flights.clear()


_LIVE = frozenset((_ALONE, _SHARED, _ADOPTED))
