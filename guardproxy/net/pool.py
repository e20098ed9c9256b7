"""Which connection a request goes over, how many there may be, and who waits for one.

Here belong the connections that nobody uses, the requests that wait, and the count of both.  Not here: how
connections are opened, or anything about requests (upstream, exchange).

Every connection, open or being opened, holds one *place* of `Limits.pool_size`.  A place is handed on by
`release` and `free`, longest waiting first, and given back by whoever holds it, exactly once.  While anybody
waits nothing is idle, so nobody overtakes.  Idle connections are used last in, first out: those that are not
needed grow old and are closed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.net.connection import Connection


@final
@dataclass(slots=True, frozen=True)
class Limits:
    """How many connections an upstream gets, and how long anything about them may take."""

    connect: float = 5.0
    """Seconds for looking up, connecting and the TLS handshake together; default 5."""
    pool_size: int = 256
    """The most connections at once; default 256."""
    queue: int = 1024
    """The most requests that wait for a connection; default 1024."""
    queue_timeout: float = 2.0
    """Seconds a request waits for a connection; default 2."""
    idle: float = 30.0
    """Seconds an unused connection is kept; default 30."""
    max_age: float = 600.0
    """Seconds after which a connection is not used again; default 600."""
    head_bytes: int = 64 * 1024
    """The most bytes of an answer's head, interim answers included; default 64 KiB."""
    head_fields: int = 500
    """The most header fields of an answer; default 500."""
    dns_ttl: float = 30.0
    """Seconds until a name is looked up again; default 30."""


class Wait(Enum):
    """How waiting for a connection ended without one."""

    PLACE = "place"
    """With a place: a connection may be opened."""
    FULL = "full"
    """At once: enough wait already."""
    LATE = "late"
    """After the queue timeout."""
    CLOSED = "closed"
    """The pool is closed."""


@final
class Pool:
    """The connections to one upstream."""

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self.open = 0
        """How many places are taken."""
        self.idle: deque[Connection] = deque()
        """What nobody uses, the longest unused on the left."""
        self.waiters: deque[asyncio.Future[Connection | Wait]] = deque()
        """Who waits, the longest waiting on the left."""
        self.all: set[Connection] = set()
        """Every connection there is."""
        self.closed = False
        self._limits = limits
        self._clock = clock
        self._sweeper: asyncio.TimerHandle | None = None

    def pop(self, now: float) -> Connection | None:
        """The idle connection that was used last, if any is fit."""
        idle, limits = self.idle, self._limits
        while idle:
            connection = idle.pop()
            if connection.fit(now, limits.idle, limits.max_age):
                return connection
            connection.drop()
            self.open -= 1
        return None

    async def place(self) -> Connection | Wait:
        """A place for a new connection, or one that came free meanwhile; suspends only where all are taken."""
        limits = self._limits
        if self.closed:
            return Wait.CLOSED
        if self.open < limits.pool_size:
            self.open += 1
            return Wait.PLACE
        if len(self.waiters) >= limits.queue:
            return Wait.FULL
        handed = await self._queue()
        if isinstance(handed, Wait) or handed.fit(self._clock(), limits.idle, limits.max_age):
            return handed
        handed.drop()
        return Wait.PLACE

    async def _queue(self) -> Connection | Wait:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | Wait] = loop.create_future()
        self.waiters.append(waiter)
        timer = loop.call_later(self._limits.queue_timeout, self._give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                if waiter in self.waiters:
                    self.waiters.remove(waiter)
            else:  # both came in the same round of the loop
                handed = waiter.result()
                if handed is Wait.PLACE:
                    self.free()
                elif not isinstance(handed, Wait):
                    self.release(handed, keep=handed.alive)
            raise
        finally:
            timer.cancel()

    def release(self, connection: Connection, *, keep: bool) -> None:
        """Take a connection back, for who waits longest, or to be kept."""
        now = self._clock()
        limits = self._limits
        if not keep or connection.retired or now - connection.born >= limits.max_age or self.closed:
            connection.drop()
            self.free()
            return
        connection.since = now
        connection.used = True
        if not (self.waiters and self._hand_on(connection)):
            self.idle.append(connection)
            if self._sweeper is None:
                self._sweeper = asyncio.get_running_loop().call_later(limits.idle, self._sweep)

    def free(self) -> None:
        """Give a place back."""
        if not self._hand_on(Wait.PLACE):
            self.open -= 1

    def remember(self, connection: Connection) -> None:
        """A connection has been made, though whoever asked for it may have left."""
        self.all.add(connection)

    def gone(self, connection: Connection) -> None:
        """A connection was closed while nobody used it; one that was just handed on is its new user's matter."""
        if connection in self.idle:
            self.idle.remove(connection)
            self.free()

    def forget(self, connection: Connection) -> None:
        """A connection no longer exists."""
        self.all.discard(connection)

    def keep_only(self, hosts: frozenset[str]) -> None:
        """Use no connection again that leads to none of *hosts*."""
        for connection in self.all:
            connection.retired = connection.peer not in hosts
        for connection in [one for one in self.idle if one.retired]:
            connection.drop()
            self.gone(connection)

    def close(self) -> None:
        """Close what is idle, turn away who waits, and keep nothing from now on."""
        self.closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self.idle:
            self.idle.pop().drop()
            self.open -= 1
        while self._hand_on(Wait.CLOSED):
            pass

    def _hand_on(self, handed: Connection | Wait) -> bool:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(handed)
                return True
        return False

    def _give_up(self, waiter: asyncio.Future[Connection | Wait]) -> None:
        if not waiter.done():
            self.waiters.remove(waiter)
            waiter.set_result(Wait.LATE)

    def _sweep(self) -> None:
        """Close what has not been used for long."""
        now, limit, idle = self._clock(), self._limits.idle, self.idle
        while idle and now - idle[0].since >= limit:
            idle.popleft().drop()
            self.open -= 1
        self._sweeper = None
        if idle:
            wait = max(idle[0].since + limit - now, 0.001)
            self._sweeper = asyncio.get_running_loop().call_later(wait, self._sweep)
