"""Keeping a caller on the line whose stream is held back until it has been judged.

Here belongs the keep-alive of a held stream.  For the first seconds nothing leaves, so that a real status and
header fields are still possible; the first comment commits the answer to 200.  What the fields could not say yet is
told in comments before the answer itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.net import dress

if TYPE_CHECKING:
    import asyncio

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.values import Record
    from guardproxy.net.outlet import Outlet


@final
class Hold:
    """Sends a comment every *seconds* seconds until it is stopped."""

    __slots__ = ("_dialect", "_loop", "_outlet", "_record", "_seconds", "_timer")

    def __init__(
        self, outlet: Outlet, record: Record, dialect: Dialect, seconds: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._dialect = dialect
        self._outlet = outlet
        self._record = record
        self._seconds = seconds
        self._loop = loop
        self._timer = loop.call_later(seconds, self._comment)

    def stop(self) -> None:
        """The answer is known."""
        self._timer.cancel()

    def _comment(self) -> None:
        if not self._outlet.begun:
            headers = [(b"Content-Type", self._dialect.media), (b"Cache-Control", b"no-cache")]
            self._outlet.begin(200, [*headers, *dress.early(self._record)])
            self._record.committed = True
        self._outlet.write(self._dialect.comment)
        self._timer = self._loop.call_later(self._seconds, self._comment)
