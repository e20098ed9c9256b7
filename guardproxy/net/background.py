"""Calls that no caller waits for.

Here belongs the making of a call whose answer is only to be kept: what was shown in its place has expired.  Whether it
may be made is the story's (`flow.share`), what is kept of it the cache guard's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.core.record import Record
from guardproxy.net.outlet import Outlet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.core.values import Call
    from guardproxy.flow.rules import Rules
    from guardproxy.net.perform import Performer


@final
class Nowhere:
    """A line with nobody at its end: everything is taken, nothing is sent."""

    transport: asyncio.Transport | None = None
    writing_paused = False

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def leaving(self) -> bool:
        """Never: what is made in the background is ended with it."""
        return False

    def last(self) -> bool:
        """There is no connection that another request could come over."""
        return True

    def relieved(self, then: Callable[[], None]) -> None:
        """Nothing is ever held back."""
        then()

    def answered(self) -> None:
        """Nobody waits for a next request."""

    def broke(self, mistake: Exception) -> None:
        """Let the loop's handler of mistakes hear of it."""
        self._loop.call_exception_handler({"message": "a call in the background met a mistake", "exception": mistake})

    def cut(self, *, reset: bool) -> None:
        """There is nothing to cut."""


@final
class Background:
    """Makes calls in the background, and tells of each as of any other."""

    def __init__(self, told: Callable[[Record], None], loop: asyncio.AbstractEventLoop) -> None:
        self._told = told
        self._loop = loop
        self._going: dict[int, Outlet] = {}

    def __len__(self) -> int:
        return len(self._going)

    def start(self, call: Call, rules: Rules, performer: Performer) -> None:
        """Make *call*; its answer is kept if any guard keeps it."""
        record = Record(self._loop.time(), call=call, cache="fwd=stale", background=True)
        outlet = self._going[id(record)] = Outlet(Nowhere(self._loop), head_only=False, old=False, closing=True)
        performer.begin(call, rules, record, outlet, self._over)

    def close(self) -> None:
        """End those under way: what they would bring can be asked for again."""
        for outlet in list(self._going.values()):
            outlet.gone = True
            if outlet.left is not None:
                outlet.left()

    def _over(self, record: Record) -> None:
        del self._going[id(record)]
        record.gone = False
        record.ended = self._loop.time()
        self._told(record)
