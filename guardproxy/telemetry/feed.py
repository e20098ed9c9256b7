"""The latest: the last changes of state and a line on each of the last calls, in memory.

Here belongs what ``/guard/state`` and the live page show of the recent past.  What is written down for good is
the log's.  A record is never kept itself, only what is short of it: it holds the bodies.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, final

from guardproxy.telemetry.line import GONE
from guardproxy.telemetry.sorts import lean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from guardproxy.core.values import Attempt, News, Record
    from guardproxy.telemetry.sorts import Sort

_EVENT = ("serial", "at", "what", "subject", "from", "to", "reason")
_Entry = tuple[int, float, str, "Record", float, float, "list[Attempt]", "dict[str, Any] | None", str, str]


@final
class Feed:
    """The last *events* and *calls*; *wall* says what time it is, in seconds since 1970.

    Each entry has a serial number, so that a reader who was here before can ask for what is new.
    """

    def __init__(self, wall: Callable[[], float], *, events: int = 100, calls: int = 200) -> None:
        self._wall = wall
        self._serial = count(1)
        self._events: deque[tuple[Any, ...]] = deque(maxlen=events)
        self._calls: deque[_Entry] = deque(maxlen=calls)

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
                call.id if call is not None else "",
                lean(record) if sort is None else sort.example,
                record.started,
                record.ended,
                record.attempts,
                record.usage,
                record.cache,
                record.trace,
            )
        )

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The last changes of state, oldest first, with a serial number above *since*."""
        return _after(since, _EVENT, self._events)

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The last calls, oldest first, with a serial number above *since*."""
        return [_shown(entry) for entry in self._calls if entry[0] > since]


def _after(since: int, names: tuple[str, ...], entries: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(names, entry, strict=True)) for entry in entries if entry[0] > since]


def _shown(entry: _Entry) -> dict[str, Any]:
    serial, at, ident, example, started, ended, attempts, _, cache, trace = entry
    call, reply, target = example.call, example.reply, example.target
    return {
        "serial": serial,
        "at": at,
        "id": ident,
        "method": call.method if call else "",
        "path": call.path[:200] if call else "",
        "status": reply.status if reply else GONE,
        "code": reply.code if reply else "",
        "source": reply.source if reply else "",
        "upstream": target.upstream if target else "",
        "mode": target.mode if target else "",
        "from": target.moved_from if target else "",
        "reason": target.reason if target else "",
        "attempts": len(attempts),
        "cache": cache,
        "json": example.json,
        "gone": example.gone,
        "ms": round((ended - started) * 1000, 1),
        "trace": trace,
    }
