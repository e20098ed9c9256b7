"""What the proxy asks of a store that several proxies share.

Here belongs the little that any such store must be able to do, and the one error that it may raise.  The stores
themselves are in `guardproxy.stores`, one file each; what is done with one, and what happens while it is away, is
`net.far`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, final


class Unreachable(Exception):  # noqa: N818 -- a condition of the store, which nobody's call may fail for
    """The store could not be asked, or would not answer; the message says why."""


class Refused(Unreachable):
    """The store is there, and would not do it: it is full, or may only be read."""


@final
@dataclass(slots=True, frozen=True)
class Access:
    """How a store is reached."""

    url: str
    timeout: float
    """Seconds for connecting."""
    ca_file: str | None = None
    """The authorities that its certificate may be signed by; None: the system's."""


class Store(Protocol):
    """A store: every method may raise `Unreachable`, and is cancelled where it takes too long."""

    async def get(self, name: str, table: str, fields: Sequence[str]) -> tuple[bytes | None, Sequence[bytes | None]]:
        """What is kept under *name*, and the *fields* of *table*."""

    async def put(self, name: str, value: bytes, seconds: float) -> None:
        """Keep *value* for so long."""

    async def read(self, names: Sequence[str]) -> Sequence[bytes | None]:
        """What is kept under each of *names*."""

    async def outdo(self, name: str, stamp: bytes, value: bytes, seconds: float) -> bytes | None:
        """Keep *value*, which begins with *stamp*, unless what is there begins with a greater one.

        Return what is there in that case.
        """

    async def clock(self, name: str) -> float:
        """The time of day by the clock of the server that keeps *name*: the same one for everybody who asks."""

    async def claim(self, name: str, token: bytes, seconds: float) -> bool:
        """Put *token* under *name* for so long, unless there is something: whether that was done."""

    async def renew(self, name: str, token: bytes, seconds: float) -> bool:
        """Let it stand for so long from now, if *token* is still there."""

    async def free(self, name: str, token: bytes) -> None:
        """Take it away, if *token* is still there."""

    async def mark(self, table: str, field: str, value: bytes, *, first: bool = False) -> None:
        """Set a *field* of *table*; where it is to be the *first* there, only if there is none."""

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell all who listen on *channel*."""

    async def listen(self, channel: str, ready: Callable[[], None], heard: Callable[[bytes], None]) -> None:
        """Listen until cancelled: *ready* is called once nothing can be missed any more, *heard* with each message."""

    async def greet(self) -> None:
        """Open what connections there may be, and see whether it is there."""

    async def ping(self) -> None:
        """See whether it is there, over a connection that is open."""

    async def close(self) -> None:
        """Let go of all connections."""


@final
@dataclass(slots=True, frozen=True)
class StoreSpec:
    """What the file of a store exports as ``SPEC``."""

    schemes: tuple[str, ...]
    """How the urls begin that are its."""
    build: Callable[[Access], Store]
    """Makes the store; opens nothing yet, raises `ValueError` where the url or a file cannot be used."""
