"""Waiting for something that may be late, and only for that.

Here belongs a limit on time that does not hold it against the other side when this process is late itself: a burst of
calls that keeps the loop busy for ten milliseconds is no sign of a slow store.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from types import TracebackType

STEPS = 5
"""Parts of the time; one at whose end the loop was late does not count."""
LAG = 0.5
"""The share of a part by which the loop may look late at its clock."""
AGAIN = 40
"""Parts that may not count: a loop that is late for ever waits for nobody for ever."""
_GRACE = 3
"""Turns of the loop in which what has come already is read."""


@final
class Wait:
    """``async with Wait(loop, seconds)``: raises `TimeoutError` where it takes longer, on a loop that is in time."""

    __slots__ = ("_again", "_grace", "_left", "_limit", "_loop", "_step", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._step = seconds / STEPS
        self._left = STEPS
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
        due = self._loop.time() + self._step
        self._timer = self._loop.call_at(due, self._due, due)

    def _due(self, due: float) -> None:
        if self._again and self._loop.time() - due > self._step * LAG:
            self._again -= 1
        else:
            self._left -= 1
        if self._left:
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
