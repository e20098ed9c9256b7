"""Passing an answer on while it comes.

Here belong what sinks that write to the caller have in common, and `Events`, the one for a stream that is read along
with; what is not understood goes through `untouched`.  An event goes out in the loop turn in which its end came in: no
task, no queue, one write for each read, and the upstream is not read while the caller cannot keep up.

Nothing leaves before the first event that says something is in hand (a role alone does not): until then every fault
can still be tried again, unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.core.values import Answer, Fault, Kind, Relayed
from guardproxy.net import dress
from guardproxy.net.head import dated
from guardproxy.openai.cutting import Cutter
from guardproxy.openai.envelope import inner_status
from guardproxy.openai.fields import downward, value
from guardproxy.openai.outcome import kind_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Mapping

    from guardproxy.core.dialect import Scan
    from guardproxy.core.steps import Ask
    from guardproxy.core.values import Headers, Outcome, Record
    from guardproxy.net.clocks import Clocks
    from guardproxy.net.ear import Ear
    from guardproxy.net.exchange import Exchange
    from guardproxy.net.outlet import Outlet

    Over = Callable[[Outcome], None]

_SUCCESS = Kind.SUCCESS  # looked up once, not with every stream


class Relay:
    """What both have in common: where it goes, and waiting for a caller who reads slowly."""

    __slots__ = (
        "_clocks", "_first", "_headers", "_listeners", "_loop", "_outlet", "_record", "_status", "_told", "_waits",
        "exchange",
    )  # fmt: skip

    def __init__(self, outlet: Outlet, record: Record, clocks: Clocks, loop: AbstractEventLoop, over: Over) -> None:
        self._outlet = outlet
        self._record = record
        self._clocks = clocks
        self._loop = loop
        self._status = 0
        self._headers: Headers = []
        self._first = 0.0
        self._listeners: Mapping[Ear, None] = _NOBODY if record.flight is None else record.flight.listeners
        """Those who have joined, and hear what is written."""
        self.exchange: Exchange | None = None
        self._told: Over | None = over
        self._waits = False
        """Whether the upstream is not read until the caller has read."""

    def release(self) -> None:
        """Nobody waits for the outcome any more; those who have joined hold their flight, and that holds us."""
        self._told = None
        self._listeners = _NOBODY

    def _write(self, chunk: bytes) -> None:
        self._outlet.write(chunk)
        if self._outlet.choked() and not self._waits and not self._listeners:  # while others listen nobody brakes
            if self.exchange is not None:
                self.exchange.pause()
            self._waits = True
            self._clocks.suspend(waiting=True)
            self._outlet.relieved(self._resume)

    def _resume(self) -> None:
        self._waits = False
        self._clocks.suspend(waiting=False)
        if self.exchange is not None:
            self.exchange.resume()

    def _over(self, outcome: Outcome) -> None:
        told, self._told = self._told, None
        self._listeners = _NOBODY
        if told is not None:
            told(outcome)


_NOBODY: Mapping[Ear, None] = {}


@final
class Events(Relay):
    """Relays the events of an inference call; anything but a stream is gathered instead and becomes an `Answer`."""

    __slots__ = (
        "_ask", "_committed", "_cutter", "_ends", "_keep", "_kept", "_parts", "_scan", "_size", "_whole", "last_words",
    )  # fmt: skip

    def __init__(
        self,
        ask: Ask,
        scan: Scan,
        keep: int,
        outlet: Outlet,
        record: Record,
        clocks: Clocks,
        loop: AbstractEventLoop,
        over: Over,
    ) -> None:
        super().__init__(outlet, record, clocks, loop, over)
        self._ask = ask
        self._scan = scan
        self._keep = keep
        self._kept = ask.call.keep
        self._parts: list[bytes] = []
        self._size = 0
        self._whole = False
        self._committed = False
        self._ends = () if ask.call.dialect is None else ask.call.dialect.ends
        self._cutter: Cutter | None = None
        """Holds the beginning of an event back, once there is one, so that no stream is cut inside of an event."""
        self.last_words: bytes | None = None
        """What was said to a caller whose stream had to be cut."""

    def greet(self, ear: Ear) -> None:
        """Somebody has joined: a stream that has begun begins for him too, and the leader no longer brakes it."""
        if self._committed:
            ear.begin(self._status, self._headers, self._parts)
        if (
            self._waits and self.exchange is not None
        ):  # else the clock of a stalled stream would be wound by each of them
            self._clocks.suspend(waiting=False)
            self.exchange.resume()

    def head(self, status: int, headers: Headers) -> None:
        """Only a successful stream of events is relayed."""
        self._status, self._headers = status, dated(headers) if status >= 400 else headers
        dialect, coded = self._ask.call.dialect, value(headers, b"content-encoding")
        self._whole = status != 200 or coded is not None or dialect is None or not dialect.is_stream(headers)
        if self._whole:
            self._clocks.plain()

    def data(self, chunk: bytes) -> None:
        """A piece of the answer has come: pass it on."""
        if self._committed:
            if self._scan.feed(chunk):
                self._clocks.beat(self._loop.time())
            if self._cutter is not None or not chunk.endswith(self._ends):
                chunk = self._cut(chunk)
            if chunk:
                self._pass(chunk)
            return
        self._parts.append(chunk)
        self._size += len(chunk)
        if not self._whole:
            self._scan.feed(chunk)
        if self._scan.begun:
            self._first = self._loop.time()
            self._clocks.beat(self._first)
            if self._scan.error is not None:
                self._refused()
            else:
                self._commit()
        elif self._size > self._keep:
            what = f"sent more than {self._keep} bytes (limits.response_bytes)"
            self._fail(Fault(self._loop.time(), "upstream_protocol", self._said(what), again=False))

    def end(self) -> None:
        """The upstream's message is complete; whether the answer is remains to be seen."""
        now = self._loop.time()
        if not self._committed:
            if not self._whole:
                self._scan.close()
            if self._whole or self._scan.events:
                return self._gathered()
            return self._over(Fault(now, "upstream_reset", self._said("ended its stream before the first event")))
        self._scan.close()
        if self._scan.complete():
            self._flush()
            return self._done(now, Kind.FAILURE if self._scan.broken else _SUCCESS)
        if (error := self._scan.error) is not None:
            self._flush()  # the upstream has told the caller itself
            status = inner_status(error)
            return self._done(now, kind_of(status, error, asked_to_wait=False))
        message = self._said("ended its stream before the answer was complete")
        return self._interrupt(Fault(now, "upstream_stream_interrupted", message))

    def lost(self, fault: Fault) -> None:
        """The connection to the upstream has gone."""
        if not self._committed:
            fault.first = self._first
            return self._over(fault)
        self._scan.close()
        if self._scan.complete() and self._scan.done:
            self._flush()  # all was said; how the line was hung up does not matter
            return self._done(fault.at, _SUCCESS)
        if fault.code != "upstream_timeout":
            fault.code = "upstream_stream_interrupted"
        return self._interrupt(fault)

    def fail(self, fault: Fault) -> None:
        """A deadline has passed."""
        self._fail(fault)

    def _commit(self) -> None:
        """The first word is in hand: from now on the caller sees what the upstream does."""
        self._committed = True
        self._outlet.begin(self._status, [*downward(self._headers), *dress.own(self._record)])
        chunk = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        if not chunk.endswith(self._ends):
            chunk = self._cut(chunk)
            self._size = len(chunk)
        self._kept = self._kept and self._size <= self._keep
        self._parts = [chunk] if self._kept else []
        self._write(chunk)
        for ear in self._listeners:
            ear.begin(self._status, self._headers, self._parts)
        if not self._kept:
            self._too_long()

    def _pass(self, chunk: bytes) -> None:
        self._keep_piece(chunk)
        self._write(chunk)
        if self._listeners:
            if not self._kept and self._outlet.choked():  # he reads too slowly for what is held on to no more
                self._outlet.abort()
            for ear in self._listeners:
                ear.hear(chunk)

    def _cut(self, chunk: bytes) -> bytes:
        if self._cutter is None:
            self._cutter = Cutter(self._ends)
        return self._cutter.feed(chunk)

    def _flush(self) -> None:
        """The stream has ended as it must, or told its own error: what is left of it belongs to it."""
        if self._cutter is not None and self._cutter.tail:
            self._pass(self._cutter.tail)
        self._outlet.end()

    def _keep_piece(self, chunk: bytes) -> None:
        if self._kept:
            self._size += len(chunk)
            if self._size > self._keep:
                self._kept = False
                self._parts = []
                self._too_long()
            else:
                self._parts.append(chunk)

    def _too_long(self) -> None:
        """What has come is held on to no more: who comes now cannot join, and who is behind cannot catch up."""
        if self._record.flight is not None:
            self._record.flight.closed = True
        for ear in self._listeners:
            ear.forget()

    def _refused(self) -> None:
        """The first event is an error: nothing has left, so it becomes a real HTTP error."""
        if self.exchange is not None:
            self.exchange.cancel()
        self._gathered()

    def _gathered(self) -> None:
        now = self._loop.time()
        self._over(Answer(now, self._status, self._headers, b"".join(self._parts), first=self._first or now))

    def _fail(self, fault: Fault) -> None:
        if self.exchange is not None:
            self.exchange.cancel()
        self.lost(fault)

    def _interrupt(self, fault: Fault) -> None:
        """Tell the caller in the stream itself, and leave it visibly unfinished."""
        dialect = self._ask.call.dialect
        self.last_words = (
            b"" if dialect is None else dialect.told(dialect.error(fault.status, fault.code, fault.message))
        )
        if self._cutter is not None and self._cutter.open:
            self.last_words = self._ends[0] + self.last_words
        self._outlet.write(self.last_words)
        self._outlet.abort()
        self._done(fault.at, fault.kind, complete=False)

    def _done(self, now: float, kind: Kind, *, complete: bool = True) -> None:
        complete = complete and kind is _SUCCESS
        body = b"".join(self._parts) if self._kept and complete else None
        keepable = complete and self._scan.keepable()
        usage = self._scan.usage
        relayed = Relayed(now, self._status, self._headers, kind, self._first, complete, keepable, body, usage)
        relayed.events = self._scan.events
        self._over(relayed)

    def _said(self, what: str) -> str:
        return f"upstream {self._ask.target.upstream} {what}"
