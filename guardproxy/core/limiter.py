"""How many calls at once an upstream bears.

Here belongs the limit that finds itself, and the line before it; pure: time is an argument.  Which upstreams have one,
and who is told, is `guards.load`'s.

| event | limit |
|---|---|
| an attempt ended well and in good time, and at least half of the places were taken | grows by one for each *limit* of them |
| its first token took longer than `tolerance` times the best of the last minute or two | falls by a tenth |
| an answer in one piece took so much longer than the quickest of about its size, each by its tokens | falls by a tenth |
| nobody waited for it any more, after so much longer than the longest of late take, where nothing is streamed | falls by a tenth |
| it was throttled, timed out, or is late | falls by a tenth |
| the upstream says that calls wait within it | falls by a tenth a second, and does not grow |

It falls once for what was sent before it last fell (additive increase, multiplicative decrease), and stays within
`floor` and `ceiling`.

An answer in one piece has no first token: how long it takes is how much the model says, and how long it stood in a queue.
The size takes the first out of it: its tokens, those of the prompt at a thirty-second (they are read that much faster
than others are written, roughly), and sixteen for all that does not depend on either.  It is held against answers of at
most twice or half its size.
"""  # noqa: E501 -- the table

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, final

from guardproxy.core.best import Best
from guardproxy.core.line import Line
from guardproxy.core.values import Kind, Refusal

if TYPE_CHECKING:
    from guardproxy.core.line import Ticket

FALL = 0.9
SLACK = 0.05
"""Seconds by which a first token may be later in any case: below that, nobody queues."""
CONSTANT, READ_FASTER = 16, 32
"""Tokens' worth of time that every answer takes, and how many tokens are read while one is written."""
BREATH = 1.0
"""Seconds between two falls for what the upstream says of itself."""
SOON = 1.0
"""Seconds after which asking may help."""


class Tuning(Protocol):
    """What a limiter is set by; see `guards.load.Settings`."""

    @property
    def floor(self) -> int:
        """Calls at once at the least."""

    @property
    def ceiling(self) -> int:
        """Calls at once at the most."""

    @property
    def initial(self) -> int:
        """Calls at once in the beginning."""

    @property
    def tolerance(self) -> float:
        """How many times longer than the best a first token may take."""

    @property
    def queue(self) -> int:
        """Calls that wait at the most."""

    @property
    def queue_seconds(self) -> float:
        """Seconds that each of them waits at the most."""


@final
@dataclass(slots=True, eq=False)
class Slot:
    """A place that is taken."""

    since: float
    quiet: bool = True
    """Whether so few were taken that nobody can have stood in a queue for them."""


@final
class Limiter:
    """The limit of one upstream. Pure: the caller brings the time."""

    __slots__ = ("_fell", "_first", "_pressed", "_settings", "_whole", "limit", "line", "taken", "waiting")

    def __init__(self, settings: Tuning) -> None:
        self._settings = settings
        self.limit = float(min(max(settings.initial, settings.floor), settings.ceiling))
        self.line = Line(settings.queue, settings.queue_seconds)
        self.taken = 0
        """Places that are taken."""
        self.waiting = 0
        """Calls that wait within the upstream, as it says itself."""
        self._fell = float("-inf")
        self._first = Best()
        """Seconds to the first token."""
        self._whole: dict[int, Best] = {}
        """Seconds for a token's worth of an answer in one piece, by the binary digits of its size."""
        self._pressed: float | None = None
        """Since when there has been no place without waiting."""

    def __repr__(self) -> str:
        return f"<Limiter {self.taken}/{self.limit:.1f}, {len(self.line)} waiting>"

    def retune(self, settings: Tuning) -> None:
        """Be set by *settings* from now on; places that are taken stay so, and who waits goes on waiting."""
        self._settings = settings
        self.limit = min(max(self.limit, float(settings.floor)), float(settings.ceiling))
        self.line.most, self.line.patience = settings.queue, settings.queue_seconds

    @property
    def told(self) -> tuple[float, int, int]:
        """The limit, the places that are taken, and how many wait here."""
        return self.limit, self.taken, len(self.line)

    def permit(self, now: float) -> Slot | Refusal:
        """A place, or a refusal with the line to wait in."""
        if self.taken < int(self.limit) and not self.line:
            return self._take(now)
        if self._pressed is None:
            self._pressed = now
        return Refusal("overloaded", now + SOON, line=self.line)

    def available(self, _now: float) -> bool:
        """Whether `permit` would be given; changes nothing."""
        return self.taken < int(self.limit) and not self.line

    def full(self, *, batch: bool) -> Line | None:
        """The line, where there is neither a place nor room to wait; changes nothing."""
        line = self.line
        return line if self.taken >= int(self.limit) and line.full(batch=batch) else None

    def ended(self, slot: Slot, kind: Kind | None, first: float | None, now: float, size: int = 0) -> None:
        """An attempt is over.

        *first* is how many seconds its first token took, where it had one; *size* how large an answer in one piece was
        (`sized`).
        """
        self.taken -= 1
        if kind is Kind.SUCCESS or kind is Kind.SLOW:
            if self._was_late(slot, first, now) if first is not None else self._took_long(slot, size, now):
                self.fall(slot, now)
            elif not self.waiting and self.taken * 2 + 2 >= self.limit:
                self.limit = min(self.limit + 1.0 / self.limit, float(self._settings.ceiling))
        elif kind is Kind.THROTTLED or (kind is None and self._in_vain(now - slot.since, now)):
            self.fall(slot, now)
        self.serve(now)

    def fall(self, slot: Slot, now: float) -> None:
        """What has this place shows that there are too many; it says nothing new if it began before the last fall."""
        if slot.since >= self._fell:
            self._less(now)

    def hear(self, waiting: int, now: float) -> None:
        """The upstream says how many calls wait within it."""
        self.waiting = waiting
        if waiting and now - self._fell >= BREATH:
            self._less(now)

    def pressed(self, now: float) -> float:
        """Seconds for which nobody has found a place at once."""
        if self._pressed is not None and not self.line and self.taken < int(self.limit):
            self._pressed = None
        return 0.0 if self._pressed is None else now - self._pressed

    def serve(self, now: float) -> None:
        """Give free places to those who wait."""
        while self.line and self.taken < int(self.limit):
            ticket: Ticket | None = self.line.next(now)
            if ticket is None:
                return
            ticket.call(self._take(now))

    def _take(self, now: float) -> Slot:
        self.taken += 1
        return Slot(now, self.taken <= self._settings.floor)

    def _less(self, now: float) -> None:
        self.limit = max(self.limit * FALL, float(self._settings.floor))
        self._fell = now

    def _was_late(self, slot: Slot, first: float, now: float) -> bool:
        """Whether a first token took too long."""
        return first > self._first.take(first, now, quiet=slot.quiet) * self._settings.tolerance + SLACK

    def _took_long(self, slot: Slot, size: int, now: float) -> bool:
        """Whether an answer in one piece took too long for its size, where that is known."""
        if not size:
            return False
        best, seconds = self._whole.setdefault(size.bit_length(), Best()), now - slot.since
        return seconds > best.take(seconds / size, now, quiet=slot.quiet) * size * self._settings.tolerance + SLACK

    def _in_vain(self, seconds: float, now: float) -> bool:
        """Whether somebody has waited for longer than any answer may take; a stream may have been read meanwhile."""
        if self._first.fresh(now):
            return False
        longest = max((best.value * 2**digits for digits, best in self._whole.items() if best.fresh(now)), default=None)
        return longest is not None and seconds > longest * self._settings.tolerance + SLACK


def sized(asked: int, answered: int) -> int:
    """The size of an answer in one piece, of so many tokens to as many asked; 0: not known."""
    return CONSTANT + answered + asked // READ_FASTER if asked or answered else 0
