"""Waiting for something that may be late, and only for that.

Here belongs a limit on time that does not hold it against the other side when this process is late itself: a burst of
calls that keeps the loop busy for ten milliseconds is no sign of a slow store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType

LAG = 0.2
"""The part of the time by which the loop may look late at its clock without being late."""
AGAIN = 8
"""How often the time begins anew because the loop was late."""
_GRACE = 3
"""Turns of the loop in which what has come already is read."""


@final
class Wait:
    """``async with Wait(loop, seconds)``: raises `TimeoutError` where it takes longer, on a loop that is in time."""

    __slots__ = ("_again", "_grace", "_limit", "_loop", "_seconds", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._again = AGAIN
        self._grace = _GRACE
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.Handle | None = None

    async def __aenter__(self) -> None:
        await self._limit.__aenter__()
        self._arm()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._limit.__aexit__(kind, error, trace)

    def _arm(self) -> None:
        due = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(due, self._due, due)

    def _due(self, due: float) -> None:
        if self._again and self._loop.time() - due > self._seconds * LAG:
            self._again -= 1
            self._arm()
        else:
            self._over()

    def _over(self) -> None:
        if self._grace:
            self._grace -= 1
            self._timer = self._loop.call_soon(self._over)
        else:
            self._timer = None
            self._limit.reschedule(self._loop.time())
