"""Waiting for a place, in order, for as long as it is worth it.

Here belongs the line before an upstream that has enough to do: who is next, and who has waited too long.  How many
places there are is `core.limiter`'s; waiting itself is done by `net`.

Those in a hurry go first, batch work after them.  A line that has been empty within the last *patience* seconds is a
burst: it is served in order, and each may wait that long.  One that has not been is standing, and whoever waits in it
waits for nothing: then the newest is served first, since his caller is the likeliest to be still there, and whoever has
waited for a tenth of that time is sent away.
Source: "Fail at Scale" (ACM Queue 13-8), after CoDel (RFC 8289).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable

STANDING = 0.1
"""Share of the patience that is left to those who wait in a standing line."""


@final
class Ticket:
    """One who waits."""

    __slots__ = ("_line", "batch", "gate", "since", "token", "wake")

    def __init__(self, line: Line, since: float, *, batch: bool) -> None:
        self._line = line
        self.gate = line.gate
        """The guard whose line it is."""
        self.since = since
        self.batch = batch
        self.token: Any = None
        """What he got; None: nothing yet, or nothing at all."""
        self.wake: Callable[[], None] | None = None
        """Told once he need not wait any more, whether he got something or not."""

    def leave(self) -> None:
        """Wait no more."""
        self._line.leave(self)

    def call(self, token: Any) -> None:
        """It is his turn (*token*), or it will not be (None)."""
        self.token = token
        if self.wake is not None:
            self.wake()


@final
class Line:
    """The line before one upstream: *most* may wait, for *patience* seconds each. Pure: the caller brings the time."""

    __slots__ = ("_emptied", "_waiting", "dropped", "gate", "most", "patience")

    def __init__(self, most: int, patience: float, gate: str = "load") -> None:
        self.gate = gate
        self.most = most
        self.patience = patience
        self.dropped = 0
        """How many were sent away, since the beginning."""
        self._waiting: tuple[deque[Ticket], deque[Ticket]] = (deque(), deque())
        """Those in a hurry, and batch work."""
        self._emptied = float("-inf")
        """When it was last empty."""

    def __len__(self) -> int:
        return len(self._waiting[0]) + len(self._waiting[1])

    def __repr__(self) -> str:
        return f"<Line of {len(self)}, {self.dropped} sent away>"

    def full(self, *, batch: bool) -> bool:
        """Whether nobody can join: one in a hurry takes the place of batch work."""
        return len(self) >= self.most and (batch or not self._waiting[1])

    def join(self, now: float, *, batch: bool) -> Ticket | None:
        """Wait; None where there is no more room, unless one in a hurry takes the place of batch work."""
        if not self:
            self._emptied = now
        if self.full(batch=batch):
            self.dropped += 1
            return None
        if len(self) >= self.most:
            self._send_away(self._waiting[1].pop())
        ticket = Ticket(self, now, batch=batch)
        self._waiting[batch].append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """He has gone, or was called."""
        waiting = self._waiting[ticket.batch]
        if ticket in waiting:
            waiting.remove(ticket)

    def standing(self, now: float) -> bool:
        """Whether it has not been empty for too long."""
        return bool(self) and now - self._emptied > self.patience

    def next(self, now: float) -> Ticket | None:
        """Whose turn it is, taken out of the line; whoever has waited too long is sent away."""
        self.expire(now)
        standing = self.standing(now)
        for waiting in self._waiting:
            if waiting:
                ticket = waiting.pop() if standing else waiting.popleft()
                if not self:
                    self._emptied = now
                return ticket
        return None

    def expire(self, now: float) -> None:
        """Send those away who have waited too long."""
        if not self:
            self._emptied = now
            return
        allowed = self.patience * (STANDING if self.standing(now) else 1.0)
        for waiting in self._waiting:
            while waiting and now - waiting[0].since > allowed:
                self._send_away(waiting.popleft())

    def _send_away(self, ticket: Ticket) -> None:
        self.dropped += 1
        ticket.call(None)
