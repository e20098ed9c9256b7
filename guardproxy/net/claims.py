"""One question for all proxies that share a store.

Here belongs the claim to be the one that asks: it ends by itself, is renewed while the call is on its way, and freed
when that is over.  What is found meanwhile, and how long anybody waits for the store, is `net.far`'s.

    nobody has claimed it        claim it, look once more, ask
    another has                  look for its answer every 20 to 100 ms, until
      its answer is there          it is this call's too
      it has freed it              claim it, as above
      it has died                  the same, `LEASE` seconds after it last renewed it
      that has taken too long      ask all the same
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, final

from guardproxy.core.store import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from guardproxy.core.store import Store
    from guardproxy.core.values import Call

LEASE = 10.0
"""Seconds that a claim holds: how long others wait for a proxy that has died."""
POLL = (0.02, 0.1)
"""Seconds between two looks for what another proxy asks, at first and at the most."""

Claim = tuple[str, bytes]
"""Its name in the store, and what lies there: who has it."""


@final
class Claims:
    """The claims of this proxy, called *own*; a caller of a stream waits for another's at most *streams* seconds."""

    def __init__(self, store: Store, loop: asyncio.AbstractEventLoop, own: bytes, streams: float) -> None:
        self._store = store
        self._loop = loop
        self._own = own
        self._streams = streams
        self._claims: dict[bytes, Claim] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def __repr__(self) -> str:
        return f"<Claims {len(self)}>"

    async def turn(
        self,
        call: Call,
        name: str,
        look: Callable[[], Awaitable[bytes | None]],
        timed: Callable[[Awaitable[bool | None]], Awaitable[bool | None]],
    ) -> bytes | None:
        """Wait until it is this call's turn to ask (None), or for what another has been told.

        *look* looks whether that is there, *timed* waits for the store no longer than a call may; None from it says
        that the store has gone, or takes no claims.
        """
        wait, most = POLL
        until = min(call.deadline, self._loop.time() + self._streams) if call.stream else call.deadline
        claim = (f"{name}:c", self._own + secrets.token_bytes(8))
        while (claimed := await timed(self._claim(claim))) is not None:
            if claimed:
                self._claims[call.flight] = claim
                return None if wait == POLL[0] else await look()  # it may have come just before
            if self._loop.time() + wait >= until:
                return None
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, most)
            if (found := await look()) is not None:
                return found
        return None

    async def _claim(self, claim: Claim) -> bool | None:
        """Whether it is ours now; None: the store takes no claims, though it may be read."""
        try:
            return await self._store.claim(*claim, LEASE)
        except Refused:
            return None

    def take(self, flight: bytes) -> Claim | None:
        """The claim of a call that is over, which is no longer renewed."""
        return self._claims.pop(flight, None) if self._claims else None

    async def renew(self, quietly: Callable[[Awaitable[object]], Awaitable[bool]]) -> None:
        """Hold on to all of them; one that cannot be renewed ends by itself."""
        for claim in list(self._claims.values()):
            await quietly(self._store.renew(*claim, LEASE))
