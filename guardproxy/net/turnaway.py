"""What happens to a connection that is one too many.

Here belongs the shortest possible answer: the first bytes that come, whatever they are, are answered with one
ready block, and the connection ends.  Not here: the count (caller) and the words (the front's `error`).

Two seconds each, and so many at once: beyond that they are dropped without a word.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast, final

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 128
SECONDS = 2.0
"""From accepting to the end; time enough to send a request and read the refusal."""


@final
class TurnedAway(asyncio.Protocol):
    """A connection that is refused as soon as it asks for something."""

    def __init__(self, block: Callable[[], bytes], others: set[TurnedAway]) -> None:
        self._block = block
        self._others = others
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request: an answer before it could pass for one to nothing."""
        self._transport = cast("asyncio.Transport", transport)
        if len(self._others) >= AT_ONCE:
            self._transport.abort()
            return
        self._others.add(self)
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """Answer once and drop the rest: unread bytes would turn the end into a reset that takes the answer along."""
        del data
        if not self._answered and self._transport is not None:
            self._answered = True
            self._transport.write(self._block())
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        del exc
        if self._timer is not None:
            self._timer.cancel()
        self._others.discard(self)
