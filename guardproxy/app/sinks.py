"""Who is told what happened, and what is read when somebody asks.

Here belongs the wiring of records and news to metrics, log, feed and webhook, and of the machines to the gauges.

A call that is over is only put on a list.  Its record is read a moment later, many at a time: what counting and
writing need is then in the processor's caches once for all of them, and the calls in between have theirs to themselves.
Whoever looks at counts or at the latest calls has the list read first (`fold`), so that nothing is ever missing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.shadow import Shadow
from guardproxy.core.values import News, Record
from guardproxy.flow.read import error
from guardproxy.guards.health import UNASKED
from guardproxy.guards.hedge import Hedge
from guardproxy.telemetry.gauges import Gauges
from guardproxy.telemetry.trace import trace_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from guardproxy.app.desk import Desk
    from guardproxy.app.house import House
    from guardproxy.core.values import Headers
    from guardproxy.guards.health import Check
    from guardproxy.net.far import Far
    from guardproxy.net.server import Server
    from guardproxy.net.webhook import Webhook
    from guardproxy.telemetry.feed import Feed
    from guardproxy.telemetry.log import Log
    from guardproxy.telemetry.metrics import Metrics
    from guardproxy.telemetry.spans import Spans

_STATES = {"closed": 0, "open": 1, "half_open": 2}


_TOLD = frozenset(("internal_error", "shutting_down"))
"""What the front says where a call ends that has its record already."""
LATE = 0.05
"""Seconds that a finished call waits at the most until it is counted, shown and written."""
MANY = 128
"""Calls that are not let wait for more: reading their records takes about a millisecond."""
LAGS = 15
"""Ticks, about a second each, of which the worst is shown: a scraper comes by every 15 seconds or so."""
LARGE = 256 << 10
"""Bytes of a body that is not kept waiting, since a record holds the bodies."""


@final
class Sinks:
    """All who want to be told; *wall* says what time it is, in seconds since 1970."""

    def __init__(
        self,
        metrics: Metrics,
        log: Log,
        feed: Feed,
        webhook: Webhook | None,
        loop: asyncio.AbstractEventLoop,
        wall: Callable[[], float],
        spans: Spans | None = None,
    ) -> None:
        self.metrics = metrics
        self.log = log
        self.feed = feed
        self.webhook = webhook
        self.spans = spans
        self._loop = loop
        self._wall = wall
        self._over: list[Record] = []
        self._due = False
        self.started = wall()
        """When the process started."""
        self.neighbours: Callable[[list[News]], None] | None = None
        """Tells other proxies, where several share what they know of circuits."""
        self.watchers = 0
        """People who look at the live page."""
        self.reloads = [0, 0]
        """Reloads that were taken over, and those that were not."""
        self.reloaded = True
        """Whether the last reload was taken over."""
        self.configured = wall()
        """When the configuration in force was taken over."""
        self.lags: deque[float] = deque((0.0,), maxlen=LAGS)
        """Seconds by which the event loop was late, at its last ticks."""

    @property
    def age(self) -> float:
        """Seconds since the process started."""
        return self._wall() - self.started

    def record(self, record: Record) -> None:
        """A call is over."""
        over, reply = self._over, record.reply
        over.append(record)
        if record.news:
            self.fold()
            self.news(record.news)
        elif (
            len(over) >= MANY
            or (reply is not None and len(reply.body) > LARGE)
            or (record.call is not None and len(record.call.body) > LARGE)
        ):
            self.fold()
        elif not self._due:
            self._fold_soon()

    def refused(self, status: int, code: str, message: str, ident: str) -> tuple[Headers, bytes]:
        """What is said to a request that is none, and has not become a call: header fields and body; told as well."""
        reply, now = error(status, code, message), self._loop.time()
        reply.headers = [*reply.headers, (b"X-Request-Id", ident.encode())]
        if status == 503:
            reply.headers.append((b"Retry-After", b"1"))
        if code not in _TOLD:
            self.record(Record(now, reply=reply, ident=ident, ended=now))
        return reply.headers, reply.body

    def fold(self) -> None:
        """Tell of every call that is over and has not been told of."""
        over = self._over
        if not over:
            return
        self._over = []
        sort_of, metrics, feed, log = self.metrics.sorts.of, self.metrics.told, self.feed.told, self.log.told
        shift = self._wall() - self._loop.time()
        for record in over:
            call = record.call
            if call is not None:
                record.trace = trace_of(call.headers)
            at, sort = record.ended + shift, sort_of(record)
            metrics(record, at, sort)
            feed(record, at, sort)
            log(record, at, sort)
            if self.spans is not None:
                self.spans.told(record, shift)
        self.log.flush()

    def news(self, news: Iterable[News]) -> None:
        """Machines have changed their state."""
        news = list(news)
        if self.neighbours is not None and news:
            self.neighbours(news)
        for one in news:
            self.metrics.news(one)
            self.feed.news(one)
            self.log.news(one)
            if self.webhook is not None:
                self.webhook.tell(one)
            if not self._due:
                self._fold_soon()

    def _fold_soon(self) -> None:
        self._due = True
        self._loop.call_later(LATE, self._fold_now)

    def _fold_now(self) -> None:
        self._due = False
        self.fold()
        self.log.flush()

    def check(self, upstream: str, check: Check, news: list[News]) -> None:
        """A health check has been made; one that was not let through to the model is none that took time, or failed."""
        if check.reason != UNASKED:
            self.metrics.health(upstream, check.ok, check.seconds, check.tokens)
        self.news(news)

    def reload(self, before: str, now: str, problems: int) -> None:
        """The configuration was read again; *before* and *now* are digests, the same where there were *problems*."""
        ok = not problems
        reason = "" if ok else f"refused: {problems} problem{'s' * (problems > 1)}"
        self.feed.news(News(self._loop.time(), "configuration", "configuration", before, now, reason))
        self.reloads[0 if ok else 1] += 1
        self.reloaded = ok
        if ok:
            self.configured = self._wall()

    def gauges(self, house: House, desk: Desk, servers: Sequence[Server]) -> Gauges:
        """The machines' condition now."""
        now = self._loop.time()
        breaker, cache, ceiling = house.breaker, house.cache, house.modes.ceiling
        circuits = {} if breaker is None else {n: _STATES[c.state.value] for n, c in breaker.circuits.items()}
        return Gauges(
            upstreams=list(house.upstreams),
            circuits=circuits,
            healthy={name: pulse.healthy is True for name, pulse in house.health.pulses.items()},
            pools={name: (up.open, up.idle, up.waiting) for name, up in house.upstreams.items()},
            hedges={} if (hedge := house.guard(Hedge)) is None else hedge.made,
            loads={} if (load := house.load) is None else {name: one.told for name, one in load.limiters.items()},
            shadow={guard.name: asdict(guard.would) for guard in house.rules.guards if isinstance(guard, Shadow)},
            cache_size=0 if cache is None else len(cache.entries),
            cache_bytes=0 if cache is None else cache.entries.bytes,
            cache_evictions=0 if cache is None else cache.entries.evictions,
            cache_expirations=0 if cache is None else cache.entries.expirations,
            budgets={name: budget.left(now) for name, budget in house.rules.budgets.items()},
            ceiling_reason="" if ceiling is None else ceiling.reason,
            ceiling=0 if ceiling is None else ceiling.at,
            in_flight=desk.in_flight,
            connections=sum(server.connections for server in servers),
            refused=sum(server.turned_away for server in servers),
            lag=max(self.lags),
            digest=house.loaded.digest,
            reloaded=self.reloaded,
            reloads=self.reloads[0],
            reloads_refused=self.reloads[1],
            configured=self.configured,
            **_shared(house.far),
            webhook_failures=0 if self.webhook is None else self.webhook.failures,
            log_dropped=self.log.dropped,
        )


def _shared(far: Far | None) -> dict[str, Any]:
    """What is told of the shared store, by the names of the gauges."""
    if far is None:
        return {}
    return {"shared_up": far.trust.well, **{f"shared_{name}": count for name, count in far.counts.items()}}
