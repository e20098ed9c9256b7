"""How long a connection may be what it is, and how it ends.

Here belong the phases of a connection, its one timer, and the ways to part.  Not here: what its bytes mean
(intake) and who answers (caller).

    phase     bytes   head complete   answered        time is up           caller ends
    FRESH     HEAD    BUSY            –               closed               closed
    HEAD      same    BUSY            –               408, LEAVING         closed
    BUSY      noted   queued          see below       reset, no progress   handler cancelled, closed
    STUCK     noted   queued          IDLE or HEAD    closed, no progress  closed
    IDLE      HEAD    BUSY            –               closed               closed
    LEAVING   dropped dropped         –               closed, no progress  closed

After an answer: LEAVING where it was the last one (the caller or the handler wants it so, the server drains, part
of the body was not read, bytes behind it cannot be trusted); STUCK while the caller does not read what he was
sent; HEAD where part of the next head is here; else IDLE.  "No progress": as long as a caller reads, he may.  In BUSY
there is no time but for one who has been sent more than he reads.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any

from guardproxy.net.seam import Refused, Seam

if TYPE_CHECKING:
    import asyncio

    from guardproxy.net.front import Front

LINGER = 5.0
"""Seconds a caller has to finish sending what nobody reads, and to read what he was sent last.

Closing at once would reset him before he has read why."""
_SLACK = 0.002
"""Seconds; uvloop counts milliseconds."""
_ACKED = slice(120, 128)
"""Where ``tcpi_bytes_acked`` stands in Linux's ``struct tcp_info`` (RFC 4898, since 4.1)."""
_RESET = struct.pack("ii", 1, 0)


class Phase(Enum):
    """What a connection is doing."""

    FRESH = "fresh"
    HEAD = "head"
    BUSY = "busy"
    STUCK = "stuck"
    IDLE = "idle"
    LEAVING = "leaving"


FRESH, HEAD, BUSY, STUCK, IDLE, LEAVING = Phase
"""Python 3.11 takes 0.3 µs to look a member of an enumeration up: here once, not several times a request."""


class Patient(Seam):
    """A connection that knows how long to wait, and how to part."""

    __slots__ = ("_pending", "_reading", "_timer", "_turns", "_until", "deaf", "front", "phase")

    def __init__(self, manager: Any, front: Front, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, loop, **settings)
        self.front = front
        self.phase = FRESH
        self.deaf = False
        """Whether what comes is dropped: it is not wanted, or not to be trusted."""
        self._timer: asyncio.TimerHandle | None = None
        self._until = inf
        self._pending = 0
        """Bytes the caller had not read when the timer was set."""
        self._reading: asyncio.TimerHandle | None = None
        """Looks whether a caller reads who has been sent more than he has read."""
        self._turns = 0
        """How often such a one has read on."""

    def refuse_next(self, refused: Refused) -> None:
        """Answer no more than this behind what is queued, and read nothing any more."""
        self.deaf = True
        self.put(refused)

    # -- time

    def work(self) -> None:
        """Be busy, for as long as the handler likes."""
        self.phase, self._until = BUSY, inf

    def rest(self, phase: Phase, seconds: float) -> None:
        """Be in *phase* for at most so long; one timer per connection, let go late rather than set anew."""
        self.phase = phase
        self._until = until = self.now() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= until + _SLACK:
                return
            timer.cancel()
        self._timer = self.call_at(until, self._tick)

    def watch(self, phase: Phase, seconds: float) -> None:
        """Be in *phase* for as long as the caller goes on reading, and *seconds* after he stops."""
        if self.transport is not None:
            self._pending = self.transport.get_write_buffer_size()
            self.rest(phase, seconds)

    def stop_timer(self) -> None:
        """Nothing is waited for any more."""
        for timer in (self._timer, self._reading):
            if timer is not None:
                timer.cancel()
        self._timer = self._reading = None

    def pause_writing(self) -> None:
        """Look from now on whether the caller reads: if not, he holds a connection to a model, and a place there."""
        super().pause_writing()
        if self._reading is None and self.transport is not None:
            self._look((-1, -1))

    def resume_writing(self) -> None:
        """He has read enough to be sent more."""
        self._turns += 1
        super().resume_writing()

    def _look(self, before: tuple[int, int]) -> None:
        """End it this instant where he has taken nothing since the last look, when it was this much."""
        self._reading, transport = None, self.transport
        if not self.writing_paused or transport is None or transport.is_closing():
            return
        taken = _taken(transport), self._turns
        if taken == before:
            transport.abort()
        else:
            self._reading = self.call_at(self.now() + self.front.settings.body_timeout, self._look, taken)

    def _tick(self) -> None:
        self._timer = None
        if self._until == inf:
            return  # busy; the next rest sets it again
        if self._until - self.now() > _SLACK:
            self._timer = self.call_at(self._until, self._tick)
        elif self.phase is HEAD:
            seconds = self.front.settings.header_timeout
            self.refuse_next(Refused(408, "request_timeout", f"no complete head within {seconds:g} seconds"))
        elif self.phase in (STUCK, LEAVING):
            self._drop_unless_reading()
        elif not self.queue:
            self.hang_up()

    # -- the end

    def release(self) -> None:
        """Close it where it is only kept for a next request."""
        if self.phase is IDLE and not self.queue:
            self.hang_up()

    def hang_up(self) -> None:
        """Close it once the caller has read everything."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.deaf = True
        transport.close()
        self.watch(LEAVING, LINGER)

    def linger(self) -> None:
        """Close our side, and his when he has stopped sending: unread bytes would reset the answer away."""
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.deaf = True
        if not transport.can_write_eof():  # TLS ends both ways at once
            self.hang_up()
            return
        transport.write_eof()
        transport.resume_reading()
        self.watch(LEAVING, LINGER)

    def drop(self) -> None:
        """End it this instant."""
        if self.transport is not None:
            self.transport.abort()

    def cut(self, *, reset: bool) -> None:
        """End it in the middle of an answer; with *reset* visibly so even where only the end frames the body."""
        transport = self.transport
        if not reset or transport is None or transport.is_closing():
            self.hang_up()
            return
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()

    def _drop_unless_reading(self) -> None:
        transport = self.transport
        if transport is None:
            return
        try:
            pending = transport.get_write_buffer_size()
        except RuntimeError:  # uvloop: closed, and about to say so
            return
        if 0 < pending < self._pending:
            self.watch(self.phase, LINGER)
        else:
            transport.abort()


def _taken(transport: asyncio.Transport) -> int:
    """A number that changes while the caller takes what he is sent: what his side has acknowledged, where known.

    What waits here is less telling: a socket holds megabytes, and tells of room when a third of it is free.
    """
    sock = transport.get_extra_info("socket")
    try:
        told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.stop)
    except (OSError, AttributeError):  # a unix socket, or another system
        return -transport.get_write_buffer_size()
    return int.from_bytes(told[_ACKED], sys.byteorder)
