"""Listening to an answer while it comes in for somebody else.

Here belongs what one who has joined a flight gets of it: a stream as far as it has come, then every event in the
loop turn in which it comes, at the end what became of it.  Who may join, and who is told, is `core.flights`'; the
stream itself and the memory of it are the leader's sink in `relay`.

    state     the first event   an event   his socket is full   he has read it all   the flight is over
    waiting   live              –          –                    –                    done
    live      –                 written    behind               –                    ended, done
    behind    –                 –          –                    live                 ended once he has read it all

Nobody waits for one who is behind: what he has missed is the memory of the sink, which is there anyway and within
bounds (``limits.response_bytes``).  Where it is given up because an answer is longer, he is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.core.steps import Landed
from guardproxy.core.values import Fault, Reply
from guardproxy.net import dress
from guardproxy.openai.fields import downward, kept

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.core.steps import Join
    from guardproxy.core.values import Headers, Record
    from guardproxy.net.outlet import Outlet

GULP = 64 * 1024
"""Bytes that one who is behind is given at a time, near enough."""


@final
class Ear:
    """One who has joined a flight."""

    __slots__ = (
        "_at", "_behind", "_call", "_flight", "_last", "_log", "_loop", "_outlet", "_over", "_record", "_reply",
        "_task", "_tell", "_timer",
    )  # fmt: skip

    def __init__(
        self,
        join: Join,
        record: Record,
        outlet: Outlet,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Landed], None],
    ) -> None:
        self._flight = join.flight
        self._call = join.call
        self._record = record
        self._outlet = outlet
        self._loop = loop
        self._tell: Callable[[Landed], None] | None = tell
        self._log: list[bytes] | None = None
        """The pieces of the stream, in the memory of the leader's sink; None before it has begun, and once given up."""
        self._at = 0
        """How many of them have been written."""
        self._behind = False
        self._last: bytes | None = None
        """What is said at the end of a stream that ends as none should."""
        self._over = False
        self._reply: Reply | Fault | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer = loop.call_at(join.call.deadline, self._expire)

    def __repr__(self) -> str:
        condition = "over" if self._over else "behind" if self._behind else "live" if self._live else "waiting"
        return f"<Ear {condition}>"

    @property
    def _live(self) -> bool:
        return self._reply is _STREAMED

    def join(self) -> None:
        """Begin to listen; *tell* is called when all has been heard, never before this returns."""
        flight = self._flight
        flight.join(self)
        flight.pilot.needed = True
        greet = getattr(flight.source, "greet", None)  # only a stream that is relayed has it
        if greet is not None:
            greet(self)

    def cancel(self) -> None:
        """The caller has left; the last one to leave ends the flight."""
        self._tell = None
        self._leave()

    # -- from the leader's sink, in the turn in which the bytes come

    def begin(self, status: int, headers: Headers, log: list[bytes]) -> None:
        """The stream has begun; *log* is what has come of it, and grows."""
        record, leader = self._record, self._flight.leader
        record.target, record.json = leader.target, leader.json
        record.cache, record.cache_event = "fwd=miss; collapsed", "hit"
        self._outlet.begin(status, [*kept(downward(headers)), *dress.own(record)])
        self._reply, self._log = _STREAMED, log
        self._catch_up()
        self._hurry()

    def hear(self, chunk: bytes) -> None:
        """A piece of it, the last of the log now."""
        if self._behind or self._over:
            return
        self._at += 1
        self._outlet.write(chunk)
        if not self._outlet.choked():
            return
        if self._log is None:
            self._cut("was read too slowly")
        else:
            self._behind = True
            self._hurry()

    def forget(self) -> None:
        """The log is given up: the answer is too long to be held on to."""
        if self._behind and not self._over:
            self._cut("was read too slowly, and is too long to be held on to")
        self._log = None

    # -- from the register of flights

    def land(self, reply: Reply | None) -> None:
        """It is over."""
        if self._over:
            return
        self._over = True
        if not self._live:
            self._reply = reply
        else:
            self._last = self._said("broke off") if reply is None else self._flight.source.last_words
            if self._behind:
                return
            self._end()
        self._done()

    # -- within

    def _hurry(self) -> None:
        """One who is behind reads on by himself, as fast as he can."""
        if self._behind and self._task is None:
            self._task = self._loop.create_task(self._read_on())

    async def _read_on(self) -> None:
        while self._behind:
            await self._outlet.drain()
            self._catch_up()
        self._task = None
        if self._over:
            self._done()

    def _done(self) -> None:
        """All has been heard: the story is told in the next turn, after that of the leader."""
        self._loop.call_soon(self._say)

    def _say(self) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            self._leave()
            tell(Landed(self._loop.time(), self._reply))

    def _leave(self) -> None:
        flight = self._flight
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        nobody = flight.leave(self)
        if flight.pilot.gone:
            nobody = flight.leader_left() or nobody
        if nobody or not flight.listeners:
            flight.pilot.abandon()

    def _catch_up(self) -> None:
        """Write what has been missed, as long as the caller reads."""
        log, outlet = self._log, self._outlet
        self._behind = False
        while log is not None and self._at < len(log):
            size, start = 0, self._at
            while self._at < len(log) and size < GULP:
                size += len(log[self._at])
                self._at += 1
            outlet.write(b"".join(log[start : self._at]))
            if outlet.choked():
                self._behind = True
                return
        if self._over:
            self._end()

    def _end(self) -> None:
        """All is written that there was: end as the leader's stream ended."""
        if self._last is None:
            self._outlet.end()
        else:
            self._outlet.write(self._last)
            self._outlet.abort()

    def _cut(self, why: str) -> None:
        """End it now, visibly unfinished."""
        self._over, self._behind, self._last = True, False, self._said(why)
        self._end()
        self._done()

    def _expire(self) -> None:
        """The time of this call is over, though not that of the call that it has joined."""
        if self._over:
            return
        why = "had not finished when this call's time was over (timeouts.total)"
        if self._live:
            self._cut(why)
        else:
            self._over = True
            message = f"the same call of another caller {why}"
            self._reply = Fault(self._loop.time(), "upstream_timeout", message, status=504)
            self._done()

    def _said(self, why: str) -> bytes:
        dialect, message = self._call.dialect, f"the answer {why}"
        return b"" if dialect is None else dialect.told(dialect.error(502, "upstream_stream_interrupted", message))


_STREAMED = Reply(200, b"", source="cache", sent=True, events=True)
"""What one has got whose stream has begun: whatever becomes of it, nothing else can be answered."""
