"""The latest: the last changes of state and the last calls, in memory.

Here belongs what is kept of the recent past.  How a call is shown is trail's; what is written down for good is the
log's.  A record is never kept itself, only a lean copy: it holds the bodies.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, final

from guardproxy.telemetry.sorts import lean
from guardproxy.telemetry.trail import Entry, full, summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.values import News, Record
    from guardproxy.telemetry.sorts import Sort

_EVENT = ("serial", "at", "what", "subject", "from", "to", "reason")
BODY = 16 << 10
"""Bytes of each body that are kept, where bodies are."""


@final
class Feed:
    """The last *events* and *calls*; *wall* says what time it is, in seconds since 1970.

    Each entry has a serial number, so that a reader who was here before can ask for what is new.  With *bodies* the
    beginnings of what was asked and answered are kept too: for finding a fault, never in production.
    """

    def __init__(self, wall: Callable[[], float], *, events: int = 100, calls: int = 500, bodies: bool = False) -> None:
        self._wall = wall
        self._bodies = bodies
        self._serial = count(1)
        self._events: deque[tuple[Any, ...]] = deque(maxlen=events)
        self._calls: deque[tuple[Any, ...]] = deque(maxlen=calls)

    def __repr__(self) -> str:
        return f"<Feed {len(self._events)} events, {len(self._calls)} calls>"

    def news(self, news: News) -> None:
        """A machine has changed its state."""
        entry = (next(self._serial), self._wall(), news.what, news.subject, news.old, news.new, news.reason)
        self._events.append(entry)

    def told(self, record: Record, at: float, sort: Sort | None = None) -> None:
        """A call, which may be of a *sort*, has ended *at* this time of day."""
        call = record.call
        self._calls.append(
            (
                next(self._serial),
                at,
                call.id if call is not None else record.ident,
                lean(record) if sort is None else sort.example,
                record.started,
                record.ended,
                record.attempts,
                record.usage,
                record.cache,
                record.trace,
                _bodies(record) if self._bodies else None,
            )
        )

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The last changes of state, oldest first, with a serial number above *since*."""
        return _after(since, self._events)

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The last calls, oldest first, with a serial number above *since*."""
        return [summary(Entry._make(one)) for one in self._calls if one[0] > since]

    def call(self, ident: str) -> dict[str, Any] | None:
        """All that is known of the last call with this id; None where it is not among those that are kept."""
        found = next((one for one in reversed(self._calls) if one[2] == ident), None)
        return None if found is None else full(Entry._make(found))


def _after(since: int, entries: deque[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(_EVENT, entry, strict=True)) for entry in entries if entry[0] > since]


def _bodies(record: Record) -> tuple[bytes, bytes]:
    call, reply = record.call, record.reply
    return b"" if call is None else call.body[:BODY], b"" if reply is None else reply.body[:BODY]
