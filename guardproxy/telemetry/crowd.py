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
"""Calls turned away with one code that have a line of their own in each second."""


@final
class Crowd:
    """Who is being turned away."""

    __slots__ = ("_came", "_past", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._came: dict[tuple[str, int], int] = {}
        """Those of this second, by code and status."""
        self._past: dict[tuple[str, int], int] = {}
        """Those of the seconds before that were only counted, and of whom nobody has been told."""

    def hides(self, record: Record, at: float) -> bool:
        """Whether this call, ended *at* that time of day, is only counted."""
        reply = record.reply
        if reply is None or record.attempts or reply.status < 400 or (reply.status != 503 and record.call is not None):
            return False
        if int(at) != self._second:
            self._turn(int(at))
        kind = reply.code, reply.status
        came = self._came[kind] = self._came.get(kind, 0) + 1
        return came > EACH_SECOND

    def over(self, at: float) -> dict[tuple[str, int], int]:
        """How many of each kind were only counted in the seconds that are over *at* that time; told once."""
        if self._came and int(at) != self._second:
            self._turn(int(at))
        past = self._past
        if past:
            self._past = {}
        return past

    def _turn(self, second: int) -> None:
        for kind, times in self._came.items():
            if times > EACH_SECOND:
                self._past[kind] = self._past.get(kind, 0) + times - EACH_SECOND
        self._came = {}
        self._second = second
