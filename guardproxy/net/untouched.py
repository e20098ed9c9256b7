"""Passing on what is not understood.

Here belongs the sink for every path but the inference paths: status, header fields and body go on as they come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.core.values import Kind, Relayed
from guardproxy.net import dress
from guardproxy.net.relay import Relay
from guardproxy.openai.fields import downward, value

if TYPE_CHECKING:
    from guardproxy.core.values import Fault, Headers


@final
class Bytes(Relay):
    """Relays whatever comes, as it comes."""

    __slots__ = ()

    def head(self, status: int, headers: Headers) -> None:
        """Status and header fields go on at once."""
        self._status, self._headers = status, headers
        self._first = self._loop.time()
        declared = value(headers, b"content-length")
        length = int(declared) if declared is not None and declared.isdigit() else None
        self._outlet.begin(status, [*downward(headers), *dress.own(self._record)], length)
        self._outlet.flush()

    def data(self, chunk: bytes) -> None:
        """A piece of the body."""
        self._write(chunk)

    def end(self) -> None:
        """It is whole."""
        self._outlet.end()
        self._finished(complete=True)

    def lost(self, fault: Fault) -> None:
        """It will not become whole."""
        if not self._outlet.begun:
            return self._over(fault)
        self._outlet.abort()
        return self._finished(complete=False)

    def fail(self, fault: Fault) -> None:
        """A deadline has passed."""
        if self.exchange is not None:
            self.exchange.cancel()
        self.lost(fault)

    def _finished(self, *, complete: bool) -> None:
        kind = Kind.IGNORED if complete else Kind.FAILURE
        self._over(Relayed(self._loop.time(), self._status, self._headers, kind, self._first, complete))
