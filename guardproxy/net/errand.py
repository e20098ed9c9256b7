"""One attempt on its way: from the wish to ask to what came of it.

Here belongs what one `Ask` is made of: the sink that its answer goes to, its clocks, and the exchange with the
upstream.  Where an idle connection can be used nothing waits and no task is made.  Not here: which attempt follows
which (perform).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from guardproxy.core.values import Fault
from guardproxy.net.clocks import Clocks, Rota, Timeouts
from guardproxy.net.gather import Gather
from guardproxy.net.relay import Events
from guardproxy.net.untouched import Bytes

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping

    from guardproxy.core.steps import Ask
    from guardproxy.core.values import Headers, Outcome, Record
    from guardproxy.net.exchange import Body, Exchange, Sink
    from guardproxy.net.far import Far
    from guardproxy.net.outlet import Outlet
    from guardproxy.net.scales import Scales
    from guardproxy.net.upstream import Upstream

    _Request = tuple[bytes, bytes, Headers, Body, Sink, bool]

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
@dataclass(slots=True)
class Roads:
    """What every errand needs: where to go and how long it may take."""

    upstreams: Mapping[str, Upstream]
    timeouts: Timeouts
    bounds: Bounds
    loop: asyncio.AbstractEventLoop
    scales: Scales
    far: Far | None = None
    """The store that several proxies share, where they share answers."""
    rota: Rota = field(init=False)
    """Looks after deadlines that are far away."""

    def __post_init__(self) -> None:
        """One for all errands."""
        self.rota = Rota(self.loop)


@final
class Errand:
    """Puts one call to one upstream; *over* is called once with what came of it, never before this returns."""

    __slots__ = ("_clocks", "_handle", "_over", "_sink", "_task")

    def __init__(
        self,
        ask: Ask,
        roads: Roads,
        record: Record,
        over: Callable[[Outcome], None],
        outlet: Outlet | None = None,
        upload: AsyncIterator[bytes] | None = None,
        begun: Callable[[], None] | None = None,
    ) -> None:
        call, dialect, loop = ask.call, ask.call.dialect, roads.loop
        name = ask.target.upstream
        self._over: Callable[[Outcome], None] | None = over
        self._task: asyncio.Task[None] | None = None
        self._handle: asyncio.Handle | None = None
        self._clocks = Clocks(ask, roads.timeouts, loop, roads.rota, record.started)
        self._clocks.begun = begun
        self._sink = self._make_sink(ask, roads, record, outlet)
        if record.flight is not None:
            record.flight.source = self._sink
        path = f"{call.path}?{call.query}" if call.query else call.path
        body = ask.body if dialect is not None else upload
        upstream = roads.upstreams[name]
        request: _Request = (
            call.method.encode(),
            path.encode("utf-8", "surrogateescape"),
            ask.headers,
            body,
            self._sink,
            dialect is not None or call.method in IDEMPOTENT,
        )
        came = upstream.at_once(*request)
        if came is None:
            self._task = loop.create_task(self._connect(upstream, request))
        elif type(came) is Fault:
            self._handle = loop.call_soon(self._done, came)
        else:
            self._sent(came)

    def _make_sink(self, ask: Ask, roads: Roads, record: Record, outlet: Outlet | None) -> Gather | Events | Bytes:
        call, dialect, limit = ask.call, ask.call.dialect, roads.bounds.response_bytes
        if outlet is not None and dialect is None:
            return Bytes(outlet, record, self._clocks, roads.loop, self._done)
        if outlet is not None and dialect is not None and ask.relay:
            return Events(ask, dialect.scan(call), limit, outlet, record, self._clocks, roads.loop, self._done)
        sink = Gather(ask.target.upstream, self._clocks, limit, roads.loop, self._done)
        if ask.streams and dialect is not None:
            sink.read_along(dialect.gather(call, ask.watch), dialect.is_stream)
        return sink

    @property
    def sink(self) -> Gather | Events | Bytes:
        """Where its answer goes."""
        return self._sink

    def cancel(self) -> None:
        """Hang up; nothing is told any more."""
        exchange = self._sink.exchange
        self._end()
        if exchange is not None:
            exchange.cancel()

    async def _connect(self, upstream: Upstream, request: _Request) -> None:
        came = await upstream.send(*request)
        self._task = None
        if type(came) is Fault:
            self._done(came)
        else:
            self._sent(came)

    def _sent(self, exchange: Exchange) -> None:
        self._sink.exchange = exchange
        self._clocks.start(self._sink.fail)

    def _done(self, outcome: Outcome) -> None:
        over = self._over
        if over is not None:
            self._end()
            over(outcome)

    def _end(self) -> None:
        """Let go of all that holds each other: nobody should have to look for such circles."""
        self._over = None
        self._clocks.stop()
        self._sink.exchange = None
        self._sink.release()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
