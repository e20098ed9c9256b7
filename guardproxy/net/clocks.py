"""The deadlines of one attempt.

Here belongs the timing of content: the first word, the pause between two events, and the whole.  Connecting has a clock
of its own in `upstream`.  Comments that keep a connection alive do not wind any of these clocks, and what
comes before the first word (a role alone) is no more than they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from guardproxy.core.units import Seconds
from guardproxy.core.values import Fault, Kind

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.core.steps import Ask


@final
@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an upstream may take (``timeouts``); an answer that is not streamed has `connect` and `total` only."""

    connect: Seconds = Seconds(5)
    """Seconds for looking up, connecting and the TLS handshake together."""
    first_token: Seconds = Seconds(60)
    """Seconds to the first event of a stream that says something; a role alone does not."""
    stall: Seconds = Seconds(30)
    """Seconds between two events of a stream."""
    total: Seconds = Seconds(600)
    """Seconds for the whole call, retries and waits included."""


NEAR = 2.0
"""Seconds: a deadline within them has a timer of its own."""
SLOWLY = 0.1
"""Share of an attempt's time for which it was not read, from which on it is the caller's fault that it did not end."""
LOOK = 1.0
"""Seconds between two looks at deadlines that are further away."""


@final
class Rota:
    """Looks after all clocks whose deadline is far away, so that an attempt that ends well never sets a timer."""

    __slots__ = ("_far", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._far: dict[Clocks, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._far)

    def watch(self, clocks: Clocks) -> None:
        """Have *clocks* set their own timer as soon as their deadline is near."""
        self._far[clocks] = None
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK, self._look)

    def forget(self, clocks: Clocks) -> None:
        """They have stopped, or have a timer of their own by now."""
        self._far.pop(clocks, None)

    def _look(self) -> None:
        self._timer = None
        soon = self._loop.time() + NEAR
        for clocks in [one for one in self._far if one.due() <= soon]:
            del self._far[clocks]
            clocks.arm()
        if self._far:
            self._timer = self._loop.call_later(LOOK, self._look)


@final
class Clocks:
    """Watches one attempt of a call that has *arrived* then; calls *expired* with the `Fault` when a deadline passes.

    A timer is set when the next deadline is near, and set anew when it goes off, with the first event, and when the
    caller reads again: any other event costs a comparison, not a timer.
    """

    __slots__ = (
        "_deadline",
        "_expired",
        "_first_by",
        "_hurried",
        "_last",
        "_late",
        "_loop",
        "_patience",
        "_rota",
        "_started",
        "_streams",
        "_terms",
        "_timeouts",
        "_timer",
        "_unread",
        "_upstream",
        "_waiting",
        "_within",
        "begun",
    )

    def __init__(
        self,
        ask: Ask,
        timeouts: Timeouts,
        loop: asyncio.AbstractEventLoop,
        rota: Rota,
        arrived: float = float("-inf"),
    ) -> None:
        call = ask.call
        self._rota = rota
        self._upstream = ask.target.upstream
        self._timeouts = timeouts
        self._started = loop.time()
        self._deadline = call.deadline
        self._first_by = arrived + call.terms.first
        self._hurried = call.terms.total < timeouts.total
        self._terms = call.terms
        self._loop = loop
        self._streams = ask.streams and call.stream  # who does not want events knows no first token
        self._patience = ask.patience
        self._late = ask.late if ask.patience and ask.streams else None
        self._within = ask.within
        self._last = 0.0
        self.begun: Callable[[], None] | None = None
        """Told with the first word, before anybody sees it."""
        self._waiting = False
        self._unread = 0.0
        """Seconds for which the upstream was not read, since the caller read slowly."""
        self._expired: Callable[[Fault], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, expired: Callable[[Fault], None]) -> None:
        """Start them."""
        self._expired = expired
        if self.due() - self._started > NEAR:
            self._rota.watch(self)
        else:
            self.arm()

    def arm(self) -> None:
        """Set the timer for the next deadline."""
        self._timer = self._loop.call_at(self.due(), self._check)

    def beat(self, now: float) -> None:
        """The first word has come, or any event after it."""
        first, self._last = not self._last, now
        if first:
            self._hurry()
            if self.begun is not None:
                begun, self.begun = self.begun, None
                begun()

    def plain(self) -> None:
        """It is no stream after all: only the deadline counts."""
        self._streams = False
        self._late = None

    def suspend(self, *, waiting: bool) -> None:
        """While the caller reads slowly the upstream is not to blame for silence."""
        now = self._loop.time()
        if self._waiting:
            self._unread += now - self._last
        self._waiting, self._last = waiting, now
        if not waiting:
            self._hurry()

    def stop(self) -> None:
        """The attempt is over."""
        self._expired = self._late = self.begun = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._rota.forget(self)

    def _hurry(self) -> None:
        """Set the timer anew where it would go off too late for what is waited for now."""
        due, timer = self.due(), self._timer
        if timer is not None:
            if timer.when() > due:
                timer.cancel()
                self.arm()
        elif self._expired is not None and due - self._last <= NEAR:
            self._rota.forget(self)
            self.arm()

    def due(self) -> float:
        """When the next deadline passes."""
        if self._waiting:
            return self._deadline
        if not self._last:
            due = min(self._deadline, self._within)
            if self._streams:
                due = min(due, self._started + self._timeouts.first_token, self._first_by)
            return due if self._late is None else min(due, self._started + self._patience)
        if not self._streams:
            return self._deadline
        return min(self._deadline, self._last + self._timeouts.stall)

    def _check(self) -> None:
        now = self._loop.time()
        if now < self.due():
            self.arm()
            return
        late, self._late = self._late, None
        tried = self._on_trial(now) and now >= self._started + self._patience
        if late is not None and (tried or now < self.due()):
            late(now)  # an experiment that is given up is late all the same
        if now < self.due():
            self.arm()
            return
        expired = self._expired
        self.stop()
        if expired is not None:
            expired(self._fault(now))

    def _fault(self, now: float) -> Fault:
        """What passed; where it is the caller who is in a hurry, it says nothing about the upstream."""
        waits = now >= self._deadline if self._hurried else not self._last and self._streams and now >= self._first_by
        if waits:
            done = "finished" if self._hurried else "begun"
            what = f"had not {done} when its caller's time was over, after {self._gave:g} s"
            kind = Kind.IGNORED
        elif self._on_trial(now):
            what = f"was asked to see whether it is well, and said nothing for {now - self._started:.1f} s"
            return Fault(now, "upstream_timeout", f"upstream {self._upstream} {what}", 504, Kind.IGNORED, again=False)
        elif self._waiting or (now >= self._deadline and self._unread >= SLOWLY * (now - self._started)):
            what = f"was not read to its end in {self._timeouts.total:g} s (timeouts.total): its caller reads slowly"
            kind = Kind.IGNORED
        else:
            what, kind = self._words(now), Kind.FAILURE
        return Fault(now, "upstream_timeout", f"upstream {self._upstream} {what}", status=504, kind=kind)

    def _on_trial(self, now: float) -> bool:
        """Whether it is an experiment that has taken too long."""
        return not self._last and self._within <= now < self._deadline

    @property
    def _gave(self) -> float:
        """Seconds that the caller gave, less the little that is kept back to tell him."""
        return self._terms.total if self._hurried else self._terms.first

    def _words(self, now: float) -> str:
        if now >= self._deadline:
            return f"had not finished when the call's {self._timeouts.total:g} s were over (timeouts.total)"
        if not self._last:
            return f"sent no first token within {self._timeouts.first_token:g} s (timeouts.first_token)"
        return f"sent nothing for {self._timeouts.stall:g} s in the middle of its answer (timeouts.stall)"
