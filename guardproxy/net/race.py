"""Two asks for one answer: whoever begins first is heard, the other is hung up on.

Here belongs the race between two errands of one attempt.  Whether there may be a second one, and whom it asks, the
story says when it is due.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

from guardproxy.core.steps import Raced
from guardproxy.core.values import Answer, Fault

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.core.steps import Ask, Hedge
    from guardproxy.core.values import Outcome, Record
    from guardproxy.net.errand import Errand

    Make = Callable[[Ask, Callable[[Outcome], None], Callable[[], None]], Errand]


@final
class Race:
    """Puts *ask*, and after a while what *hedge* says; *over* is called once with what came of it.

    *make* starts an errand: it is given the ask, whom to tell of its outcome, and whom to tell that it has begun.
    """

    __slots__ = ("_asks", "_errands", "_first", "_hedge", "_lost", "_make", "_over", "_record", "_timer")

    def __init__(
        self,
        ask: Ask,
        hedge: Hedge,
        make: Make,
        record: Record,
        over: Callable[[Outcome | Raced], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._hedge = hedge
        self._make = make
        self._record = record
        self._over = over
        self._first = ask
        self._asks = [ask]
        self._lost: Outcome | None = None
        """What one of two had come to while the other was still awaited."""
        self._errands: dict[int, Errand] = {}
        self._errands[id(ask)] = make(ask, partial(self._done, ask), partial(self._begun, ask))
        self._timer: asyncio.TimerHandle | None = loop.call_later(hedge.after, lambda: self._due(loop.time()))

    def cancel(self) -> None:
        """Hang up on both; nothing is told any more."""
        self._no_other()
        for errand in self._errands.values():
            errand.cancel()
        self._errands.clear()

    def _due(self, now: float) -> None:
        """The first has not begun in time."""
        self._timer = None
        second = self._hedge.second(now)
        if second is not None:
            self._asks.append(second)
            self._record.beside = 1
            self._errands[id(second)] = self._make(second, partial(self._done, second), partial(self._begun, second))

    def _begun(self, ask: Ask) -> None:
        """*ask* has brought its first word, and nobody has seen it yet: it is the one that is heard."""
        self._no_other()
        for other in self._asks:
            if other is not ask and (errand := self._errands.pop(id(other), None)) is not None:
                errand.cancel()
        self._record.target = ask.target
        if self._record.flight is not None:
            self._record.flight.source = self._errands[id(ask)].sink

    def _done(self, ask: Ask, outcome: Outcome) -> None:
        """One of them is over."""
        del self._errands[id(ask)]
        if self._errands and (type(outcome) is Fault or (type(outcome) is Answer and outcome.status >= 400)):
            self._lost = outcome
            return
        self._begun_at_last(ask)
        if len(self._asks) == 1:
            self._over(outcome)
        else:
            self._over(Raced(outcome, second=ask is not self._first, lost=self._lost))

    def _begun_at_last(self, ask: Ask) -> None:
        """It has been answered in one piece, or failed: whoever is still under way is not needed any more."""
        self._no_other()
        for errand in self._errands.values():
            errand.cancel()
        self._errands.clear()
        self._record.target = ask.target

    def _no_other(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
