"""Calls that are turned away in crowds, and are not worth a line each.

Here belongs which those are, and when their number is told instead.  How a line looks and leaves is the log's.

Turned away is a call that is answered 503 without anybody having been asked (overloaded, open circuit, shutting down),
and a request that has not become a call, since it is none (garbage, too slow, too large, for nobody).  Each second the
first few are written as all others are; the rest are counted, and when the second is over one line says how many there
were of each code.  Nothing is lost to metrics and live page, which are told of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from guardproxy.core.values import Record

EACH_SECOND = 10
"""Calls turned away that have a line of their own in each second."""


@final
class Crowd:
    """Who is being turned away."""

    __slots__ = ("_counts", "_past", "_second", "_written")

    def __init__(self) -> None:
        self._second = 0
        self._written = 0
        self._counts: dict[str, int] = {}
        """Those of this second that were only counted, by code."""
        self._past: dict[str, int] = {}
        """Those of the seconds before that nobody has been told of."""

    def hides(self, record: Record, at: float) -> bool:
        """Whether this call, ended *at* that time of day, is only counted."""
        reply = record.reply
        if reply is None or record.attempts or reply.status < 400 or (reply.status != 503 and record.call is not None):
            return False
        if int(at) != self._second:
            self._turn(int(at))
        if self._written < EACH_SECOND:
            self._written += 1
            return False
        self._counts[reply.code] = self._counts.get(reply.code, 0) + 1
        return True

    def over(self, at: float) -> dict[str, int]:
        """How many of each code were only counted in the seconds that are over *at* that time; told once."""
        if self._counts and int(at) != self._second:
            self._turn(int(at))
        past = self._past
        if past:
            self._past = {}
        return past

    def _turn(self, second: int) -> None:
        for code, times in self._counts.items():
            self._past[code] = self._past.get(code, 0) + times
        self._counts = {}
        self._second, self._written = second, 0
