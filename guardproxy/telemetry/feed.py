"""The latest: the last changes of state and a line on each of the last calls, in memory.

Here belongs what ``/guard/state`` and the live page show of the recent past.  What is written down for good is
the log's.  A record is never kept itself, only a few short words of it: it holds the bodies.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from guardproxy.core.values import News, Record

_EVENT = ("serial", "at", "what", "subject", "from", "to", "reason")
_CALL = (
    *("serial", "at", "id", "method", "path", "status", "code", "source", "upstream", "mode", "from", "reason"),
    *("attempts", "cache", "json", "gone", "ms"),
)


@final
class Feed:
    """The last *events* and *calls*; *wall* says what time it is, in seconds since 1970.

    Each entry has a serial number, so that a reader who was here before can ask for what is new.
    """

    def __init__(self, wall: Callable[[], float], *, events: int = 100, calls: int = 200) -> None:
        self._wall = wall
        self._serial = count(1)
        self._events: deque[tuple[Any, ...]] = deque(maxlen=events)
        self._calls: deque[tuple[Any, ...]] = deque(maxlen=calls)

    def __repr__(self) -> str:
        return f"<Feed {len(self._events)} events, {len(self._calls)} calls>"

    def news(self, news: News) -> None:
        """A machine has changed its state."""
        entry = (next(self._serial), self._wall(), news.what, news.subject, news.old, news.new, news.reason)
        self._events.append(entry)

    def told(self, record: Record) -> None:
        """A call is over."""
        call, reply, target = record.call, record.reply, record.target
        self._calls.append(
            (
                next(self._serial),
                self._wall(),
                call.id if call else "",
                call.method if call else "",
                call.path[:200] if call else "",
                reply.status if reply else 499,
                reply.code if reply else "",
                reply.source if reply else "",
                target.upstream if target else "",
                target.mode if target else "",
                target.moved_from if target else "",
                target.reason if target else "",
                len(record.attempts),
                record.cache,
                record.json,
                record.gone,
                round((record.ended - record.started) * 1000, 1),
            )
        )

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """The last changes of state, oldest first, with a serial number above *since*."""
        return _after(since, _EVENT, self._events)

    def calls(self, since: int = 0) -> list[dict[str, Any]]:
        """The last calls, oldest first, with a serial number above *since*."""
        return _after(since, _CALL, self._calls)


def _after(since: int, names: tuple[str, ...], entries: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    return [dict(zip(names, entry, strict=True)) for entry in entries if entry[0] > since]
