"""Who is told what happened, and what is read when somebody asks.

Here belongs the wiring of records and news to metrics, log, feed and webhook, and of the machines to the gauges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.telemetry.gauges import Gauges

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.app.desk import Desk
    from guardproxy.app.house import House
    from guardproxy.core.values import News, Record
    from guardproxy.guards.health import Check
    from guardproxy.net.server import Server
    from guardproxy.net.webhook import Webhook
    from guardproxy.telemetry.feed import Feed
    from guardproxy.telemetry.log import Log
    from guardproxy.telemetry.metrics import Metrics

_STATES = {"closed": 0, "open": 1, "half_open": 2}


@final
class Sinks:
    """All who want to be told."""

    def __init__(self, metrics: Metrics, log: Log, feed: Feed, webhook: Webhook | None) -> None:
        self.metrics = metrics
        self.log = log
        self.feed = feed
        self.webhook = webhook
        self.reloaded = True
        """Whether the last reload was taken over."""
        self.lag = 0.0
        """Seconds by which the event loop was last late."""

    def record(self, record: Record) -> None:
        """A call is over."""
        self.metrics.told(record)
        self.feed.told(record)
        self.log.told(record)
        if record.news:
            self.news(record.news)

    def news(self, news: Iterable[News]) -> None:
        """Machines have changed their state."""
        for one in news:
            self.metrics.news(one)
            self.feed.news(one)
            self.log.news(one)
            if self.webhook is not None:
                self.webhook.tell(one)

    def check(self, upstream: str, check: Check, news: list[News]) -> None:
        """A health check has been made; one that was not let through to the model took no time."""
        self.metrics.health(upstream, check.ok, check.seconds)
        self.news(news)

    def gauges(self, house: House, desk: Desk, servers: Iterable[Server]) -> Gauges:
        """The machines' condition now."""
        breaker, cache, ceiling = house.breaker, house.cache, house.modes.ceiling
        circuits = {} if breaker is None else {n: _STATES[c.state.value] for n, c in breaker.circuits.items()}
        return Gauges(
            upstreams=list(house.upstreams),
            circuits=circuits,
            healthy={name: pulse.healthy is True for name, pulse in house.health.pulses.items()},
            pools={name: (up.open, up.idle, up.waiting) for name, up in house.upstreams.items()},
            cache_size=0 if cache is None else len(cache.entries),
            cache_bytes=0 if cache is None else cache.entries.bytes,
            cache_evictions=0 if cache is None else cache.entries.evictions,
            cache_expirations=0 if cache is None else cache.entries.expirations,
            ceiling=0 if ceiling is None else ceiling.at,
            in_flight=desk.in_flight,
            connections=sum(server.connections for server in servers),
            lag=self.lag,
            digest=house.loaded.digest,
            reloaded=self.reloaded,
            webhook_failures=0 if self.webhook is None else self.webhook.failures,
            log_dropped=self.log.dropped,
        )
