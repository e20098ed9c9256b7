"""Calls that no caller waits for.

Here belongs the making of a call whose answer is only to be kept: what was shown in its place has expired.  Whether it
may be made is the story's (`flow.share`), what is kept of it the cache guard's.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, final

from guardproxy.core.record import Record
from guardproxy.net.outlet import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.values import Call
    from guardproxy.flow.rules import Rules
    from guardproxy.net.perform import Performer


@final
class Nowhere:
    """A line with nobody at its end: everything is taken, nothing is sent."""

    transport: asyncio.Transport | None = None
    writing_paused = False

    def last(self) -> bool:
        """There is no connection that another request could come over."""
        return True

    async def relief(self) -> None:
        """Nothing is ever held back."""

    def abandon(self) -> None:
        """Nobody has to wait for it: it goes on for the sake of what is kept."""

    def cut(self, *, reset: bool) -> None:
        """There is nothing to cut."""


@final
class Background:
    """Makes calls in the background, and tells of each as of any other."""

    def __init__(self, told: Callable[[Record], None], loop: asyncio.AbstractEventLoop) -> None:
        self._told = told
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, call: Call, rules: Rules, performer: Performer) -> None:
        """Make *call*; its answer is kept if any guard keeps it."""
        task = self._loop.create_task(self._make(call, rules, performer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End those under way: what they would bring can be asked for again."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, call: Call, rules: Rules, performer: Performer) -> None:
        record = Record(self._loop.time(), call=call, cache="fwd=stale", background=True)
        outlet = Outlet(Nowhere(), head_only=False, old=False, closing=True)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await performer.perform(call, rules, record, outlet)
        finally:
            record.gone = False
            record.ended = self._loop.time()
            self._told(record)
