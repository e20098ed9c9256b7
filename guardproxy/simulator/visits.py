"""What a simulated server saw: one `Visit` per request, counters, and who is still being served.

Here belongs the memory of a server. Here does not belong what it answers. Nothing here grows without end: a server that
is benchmarked for an hour remembers its last visits only.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, final

from multidict import CIMultiDictProxy

# Distinct paths that are counted by name; the others together are "other".
_PATHS = 200


@final
@dataclass(slots=True)
class Visit:
    """One request, and what became of it.

    `fate` is `open`, then `answered` (whole, as ordered), `cancelled` (the client hung up before the end), `reset`,
    `cut` or `garbage` (done to it on order), or `down` (the server went down meanwhile).
    """

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    peer: tuple[str, int] | None
    raw: bytes = b""
    body: Any = None
    manners: tuple[str, ...] = ()
    status: int | None = None
    events: int = 0
    fate: str = "open"

    @property
    def path(self) -> str:
        """The path without its query."""
        return self.target.partition("?")[0]

    @property
    def cancelled(self) -> bool:
        """Whether the client hung up before it had the whole answer."""
        return self.fate == "cancelled"

    def became(self, fate: str) -> None:
        """Note what became of it; the first that is said holds, for a reset is followed by a cancellation."""
        if self.fate == "open":
            self.fate = fate

    def state(self) -> dict[str, Any]:
        """For `GET /simulate`."""
        return {
            "method": self.method,
            "target": self.target,
            "request_id": self.headers.get("X-Request-Id"),
            "manners": self.manners,
            "status": self.status,
            "events": self.events,
            "fate": self.fate,
        }


@final
@dataclass(slots=True)
class Memory:
    """All that one server saw: counters since the last reset, the last visits, and those not over."""

    remember: int
    calls: Counter[str] = field(default_factory=Counter)
    manners: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    requests: deque[Visit] = field(init=False)
    _open: list[Visit] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.requests = deque(maxlen=self.remember)
        self._over.set()

    @property
    def open(self) -> list[Visit]:
        """The visits being served."""
        return list(self._open)

    def begins(self, visit: Visit) -> None:
        """Count a request that has just arrived."""
        known = visit.path in self.calls or len(self.calls) < _PATHS
        self.calls[visit.path if known else "other"] += 1
        self.requests.append(visit)
        self._open.append(visit)
        self._over.clear()

    def ends(self, visit: Visit) -> None:
        """Count what became of it."""
        # By identity: two visits with the same values are still two.
        self._open = [other for other in self._open if other is not visit]
        self.fates[visit.fate] += 1
        self.manners.update(visit.manners)
        if not self._open:
            self._over.set()

    async def idle(self) -> None:
        """Return as soon as no request is open."""
        await self._over.wait()

    def forget(self) -> None:
        """Reset every counter; requests still open are counted when they end."""
        for counter in (self.calls, self.manners, self.fates):
            counter.clear()
        self.requests.clear()
