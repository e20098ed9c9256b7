"""Those whom a connection to an upstream has to do with.

Here belongs what it asks of them: where an answer goes, who uses it, whom it belongs to.  What it does is its own
(connection).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from guardproxy.core.values import Headers
    from guardproxy.net.connection import Connection


class Sink(Protocol):
    """What an exchange tells while its answer comes in: called from the loop, must not raise, never waits."""

    def head(self, status: int, headers: Headers) -> None:
        """The final status and its header fields, as received."""

    def data(self, chunk: bytes) -> None:
        """More of the body, without its framing; one call per read."""

    def end(self) -> None:
        """The answer is complete, and its framing was right."""


class Party(Protocol):
    """Whom a connection in use answers to."""

    @property
    def sink(self) -> Sink:
        """Where the answer goes."""

    def room(self) -> None:
        """More of the request may be written."""

    def enough(self) -> None:
        """The answer has come although the request was not out; the rest of it is not wanted."""

    def done(self, connection: Connection, keep: bool) -> None:
        """The answer is complete; *keep*: the connection may be used again."""

    def broken(self, connection: Connection, code: str, what: str) -> None:
        """There will be no (more of the) answer."""


class Owner(Protocol):
    """Whom a connection belongs to."""

    def remember(self, connection: Connection) -> None:
        """It exists."""

    def gone(self, connection: Connection) -> None:
        """It was closed while nobody used it."""

    def forget(self, connection: Connection) -> None:
        """It no longer exists."""
