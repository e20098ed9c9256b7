"""The only place that waits.

Here belongs the loop that performs the steps of a story: it asks upstreams, lets time pass, and answers the
caller.  What is to be done, and in which order, the story says.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from guardproxy.core.steps import Ask, Pause, Weigh
from guardproxy.core.values import Fault
from guardproxy.flow.story import story
from guardproxy.net import dress
from guardproxy.net.clocks import Clocks, Timeouts
from guardproxy.net.ear import Ear
from guardproxy.net.gather import Gather
from guardproxy.net.hold import Hold
from guardproxy.net.relay import Bytes, Events
from guardproxy.net.scales import Scales

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from guardproxy.core.steps import Join, Landed
    from guardproxy.core.values import Call, Outcome, Record, Reply
    from guardproxy.flow.rules import Rules
    from guardproxy.flow.story import Story
    from guardproxy.net.outlet import Outlet
    from guardproxy.net.upstream import Upstream


IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE"))
"""Methods that may go once more over a fresh connection whatever they mean (RFC 9110 § 9.2.2)."""


@final
@dataclass(frozen=True, slots=True)
class Bounds:
    """What one answer may take."""

    response_bytes: int = 64 << 20
    """Bytes of an answer that is gathered or kept."""
    hold_comment: float = 10.0
    """Seconds that a caller who wants events is left without any while his answer is judged; then comments go out."""


@final
class Performer:
    """Performs stories against *upstreams*."""

    __slots__ = ("_bounds", "_loop", "_scales", "_timeouts", "_upstreams")

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        timeouts: Timeouts,
        bounds: Bounds,
        loop: asyncio.AbstractEventLoop,
        scales: Scales | None = None,
    ) -> None:
        self._upstreams = upstreams
        self._timeouts = timeouts
        self._bounds = bounds
        self._loop = loop
        self._scales = Scales(loop) if scales is None else scales

    async def perform(
        self, call: Call, rules: Rules, record: Record, outlet: Outlet, upload: AsyncIterator[bytes] | None = None
    ) -> None:
        """Tell the story of *call*, whose body is *upload* where it is not read here, and answer it at *outlet*.

        Where the caller leaves, or the proxy ends, this is cancelled: the upstream is hung up on, and closing the
        story gives back every permit that is still out.
        """
        telling = story(call, rules, record, self._loop.time())
        hold = None
        if call.stream and call.whole and call.dialect is not None and call.dialect.comment:
            hold = Hold(outlet, record, call.dialect, self._bounds.hold_comment, self._loop)
        try:
            reply = await self._tell(telling, record, outlet, upload)
        except asyncio.CancelledError:
            if call.stream and call.dialect is not None and outlet.begun and not (outlet.gone or outlet.over):
                message = "the proxy is shutting down"
                outlet.write(call.dialect.told(call.dialect.error(502, "upstream_stream_interrupted", message)))
                outlet.abort()
            raise
        finally:
            telling.close()
            if hold is not None:
                hold.stop()
        if outlet.gone:
            record.gone = True  # but others have listened to the end
        if not reply.sent:
            answer(reply, record, outlet)

    async def _tell(
        self, telling: Story[Reply], record: Record, outlet: Outlet, upload: AsyncIterator[bytes] | None
    ) -> Reply:
        try:
            step = telling.send(None)
            while True:
                if type(step) is Ask:
                    step = telling.send(await self.ask(step, record, outlet, upload))
                elif type(step) is Weigh:
                    step.answer = await self._scales.weigh(step.question, step.until)
                    step = telling.send(self._loop.time())
                elif type(step) is Pause:
                    await asyncio.sleep(step.seconds)
                    step = telling.send(self._loop.time())
                else:
                    step = telling.send(await self._join(step, record, outlet))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # how a generator returns

    async def ask(
        self, ask: Ask, record: Record, outlet: Outlet | None = None, upload: AsyncIterator[bytes] | None = None
    ) -> Outcome:
        """Put one call to one upstream; *outlet* is where events may be relayed to."""
        call, loop, name = ask.call, self._loop, ask.target.upstream
        dialect = call.dialect
        clocks = Clocks(ask, self._timeouts, loop, record.started)
        limit = self._bounds.response_bytes
        flight = record.flight
        sink: Gather | Events | Bytes
        if dialect is None and outlet is not None:
            sink = Bytes(outlet, record, clocks, loop)
        elif ask.relay and outlet is not None and dialect is not None:
            sink = Events(ask, dialect.scan(call), limit, outlet, record, clocks, loop)
        else:
            sink = Gather(name, clocks, limit, loop)
            if ask.streams and dialect is not None:
                sink.read_along(dialect.scan(call, ask.watch), dialect.is_stream)
        if flight is not None:
            flight.pilot, flight.source = outlet, sink
        path = f"{call.path}?{call.query}" if call.query else call.path
        body = ask.body if dialect is not None else upload
        repeat = dialect is not None or call.method in IDEMPOTENT
        exchange = await self._upstreams[name].send(
            call.method.encode(), path.encode("utf-8", "surrogateescape"), ask.headers, body, sink, repeat=repeat
        )
        if type(exchange) is Fault:
            return exchange
        sink.exchange = exchange
        clocks.start(sink.fail)
        over = False
        try:
            outcome = await (sink.done if type(sink) is Gather else sink.finish())
            over = True
            return outcome
        finally:
            clocks.stop()
            if not over and sink.exchange is not None:
                sink.exchange.cancel()
            sink.exchange = None  # they hold each other, and the answer: nobody should have to look for that circle

    async def _join(self, join: Join, record: Record, outlet: Outlet) -> Landed:
        """Listen to what another caller has asked for; the last one to leave ends it."""
        flight, ear = join.flight, Ear(join.flight, join.call, record, outlet, self._loop)
        flight.join(ear)
        flight.pilot.needed = True
        if type(flight.source) is Events:
            flight.source.greet(ear)
        try:
            return await ear.listen()
        finally:
            nobody = flight.leave(ear)
            if flight.pilot.gone:
                nobody = flight.leader_left() or nobody
            if nobody or not flight.listeners:
                flight.pilot.abandon()


def answer(reply: Reply, record: Record, outlet: Outlet) -> None:
    """Send *reply*: in one block, or as events where some have left already."""
    if not outlet.begun:
        outlet.prepared(dress.block(reply, record), reply.body)
    elif reply.events and reply.status == 200:
        outlet.write(reply.body)
        outlet.end()
    else:  # 200 has left: what went wrong can only be told in the stream, which then ends without its last event
        dialect = record.call.dialect if record.call is not None else None
        outlet.write(reply.body if dialect is None else dialect.told(reply.body))
        outlet.abort()
