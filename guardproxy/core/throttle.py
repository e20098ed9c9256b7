"""The gate before an upstream that has asked to be left alone.

Here belongs the state machine, pure: time and dice are arguments.  Which upstreams have a gate, and who is told, is
`guards.throttle`'s.  An upstream without one is open to all: a gate begins with the first throttle and ends by itself.

| state | permit | throttled, warming | success | anything else | time |
|---|---|---|---|---|---|
| held | refusal | held until the later of both | – | – | due: **ramp**, with room for one |
| ramp | token while there is room, or refusal | **held**, for longer | room for one more; enough: **over** | given back | lost token: its room is free; quiet: **over** |

How long it is held: as long as the upstream named, within `most`, and up to a tenth longer by chance, so that a fleet
does not come back in one moment; where it named nothing (or at once), a second, then twice as long each time, half of it by chance.
What was sent before the gate was held says only that it was too much, once: it does not make the next time longer.
"""  # noqa: E501 -- the table

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from guardproxy.core.values import Kind, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = 1.0
"""Seconds that an upstream is left alone where it has not said how long."""
FULL = 16
"""Calls at once at which the ramp ends: who bears so many is well."""
LEASE = 600.0
"""Seconds after which a call that has not come back no longer takes room."""
LASTING = 10.0
"""Seconds from which on a throttle lasts: until then single calls are moved, and nobody need be told."""
BUSY = 1.0
"""Seconds after which asking may help where the ramp has no room."""
QUIET = 30.0
"""Seconds without another throttle, after it was due, that end a gate too: there may be too few calls for a ramp."""
_DOUBLINGS = 16


@final
@dataclass(slots=True, eq=False)
class Pass:
    """The right to one attempt on the ramp."""

    generation: int
    expires: float


@final
class Gate:
    """The gate of one upstream; *most* seconds are the longest that it is held. Pure: the caller brings the time."""

    __slots__ = ("_dice", "_most", "_out", "_strikes", "generation", "reason", "room", "since", "until")

    def __init__(self, most: float, now: float, dice: Callable[[], float]) -> None:
        self._most = most
        self._dice = dice
        self._out: list[Pass] = []
        self._strikes = 0
        self.reason = "throttled"
        self.generation = 0
        """Of the present ramp; what belongs to none has 0."""
        self.room = 0
        """Calls at once; 0 while it is held."""
        self.since = now
        """When it began."""
        self.until = now

    def __repr__(self) -> str:
        return f"<Gate {f'ramp, {len(self._out)}/{self.room} out' if self.room else 'held'}, {self.reason}>"

    def hold(self, kind: Kind, now: float, asked: float | None, generation: int = 0) -> None:
        """An attempt of *generation* was throttled, *asked* being the seconds that were named."""
        if generation != self.generation:  # permitted before the last time that this became held
            if asked is not None:
                self.until = max(self.until, now + min(asked, self._most))
            return
        self.reason = "warming" if kind is Kind.WARMING else "throttled"
        if not asked:
            span = min(FIRST * 2.0 ** min(self._strikes, _DOUBLINGS), self._most)
            span = span / 2 + self._dice() * span / 2
        else:
            span = min(asked, self._most)
            span += self._dice() * span / 10
        self._strikes += 1
        self.until = now + span
        self.generation += 1
        self.room = 0
        self._out = []

    def permit(self, now: float) -> Pass | Refusal:
        """Ask to make an attempt."""
        if not self.available(now):
            until = self.until if now < self.until else now + BUSY
            return Refusal(self.reason, until, brief=True)
        self.room = self.room or 1
        token = Pass(self.generation, now + LEASE)
        self._out.append(token)
        return token

    def available(self, now: float) -> bool:
        """Whether `permit` would be given; changes nothing."""
        if now < self.until:
            return False
        return sum(now < token.expires for token in self._out) < max(self.room, 1)

    def lasts(self, now: float) -> bool:
        """Whether it is held, and not just for a moment."""
        return now < self.until and self.until - self.since >= LASTING

    def quiet(self, now: float) -> bool:
        """Whether nothing has been throttled for so long that it is over."""
        return now - self.until >= QUIET

    def passed(self, token: Pass, kind: Kind | None) -> bool:
        """An attempt on the ramp has ended otherwise than by a throttle; whether the gate is over."""
        if token not in self._out:
            return False
        self._out.remove(token)
        if kind is Kind.SUCCESS or kind is Kind.SLOW:
            self.room += 1
            return self.room >= FULL
        return False
