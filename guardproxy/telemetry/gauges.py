"""What the machines are like at the moment of a scrape.

Here belong the numbers that are read, not told: each machine keeps its own condition, and somebody who knows
them all fills in `Gauges` when Prometheus asks.  Not here: counts of calls (metrics).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from guardproxy import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric


@final
@dataclass(slots=True, frozen=True)
class Gauges:
    """The machines' condition; what is left out reads 0, for every upstream that is named."""

    upstreams: Sequence[str] = ()
    """Those of the configuration in force."""
    circuits: Mapping[str, int] = field(default_factory=dict)
    """By upstream: 0 closed, 1 open, 2 half-open."""
    healthy: Mapping[str, bool] = field(default_factory=dict)
    """By upstream: the standing verdict, ``rise`` and ``fall`` applied."""
    pools: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    """By upstream: connections open, those of them idle, and calls waiting for one."""
    hedges: Mapping[str, int] = field(default_factory=dict)
    """By upstream: how often it was asked second, since start; never falls."""
    loads: Mapping[str, tuple[float, int, int]] = field(default_factory=dict)
    """By upstream: calls that it is sent at once at the most, those under way, and those that wait here."""
    shadow: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By gate in shadow: what it would have done, how often; never falls."""
    cache_size: int = 0
    """Entries kept."""
    cache_bytes: int = 0
    cache_evictions: int = 0
    """Since start; never falls."""
    cache_expirations: int = 0
    """Since start; never falls."""
    budgets: Mapping[str, float] = field(default_factory=dict)
    """By upstream: retries that may be made at once."""
    ceiling_reason: str = ""
    """Why the ceiling is not at the top, or nothing."""
    ceiling: int = 0
    """Position of the ceiling among the modes, 0 being the highest."""
    in_flight: int = 0
    """Calls being answered."""
    connections: int = 0
    """Connections that callers hold open."""
    refused: int = 0
    """Connections turned away because there were too many; never falls."""
    lag: float = 0.0
    """Seconds by which the event loop was late at its worst, lately."""
    digest: str = ""
    """Of the configuration in force."""
    reloaded: bool = True
    """Whether the last reload was taken over; True where there was none."""
    reloads: int = 0
    """Reloads that were taken over, since start; never falls."""
    reloads_refused: int = 0
    """Reloads that were not; never falls."""
    configured: float = 0.0
    """When the configuration in force was taken over, in seconds since 1970."""
    shared_up: bool = False
    """Whether there is a shared store that is waited for."""
    shared_hits: int = 0
    """Since start; never falls."""
    shared_misses: int = 0
    """Since start; never falls."""
    shared_failures: int = 0
    """Since start; never falls."""
    shared_writes: int = 0
    """Since start; never falls."""
    shared_unwritten: int = 0
    """Since start; never falls."""
    webhook_failures: int = 0
    """Since start; never falls."""
    log_dropped: int = 0
    """Since start; never falls."""


GATES = ("breaker", "throttle", "load")
WOULD = ("permitted", "refused", "spared", "lost", "opened")
REASONS = ("circuit_open", "slow", "throttled", "overloaded", "manual", "other")
"""Why a ceiling falls; what is none of them is shown as other."""

# name, field of `Gauges`, help; one ending in _total is a counter that its machine keeps
_PLAIN = (
    ("cache_size", "cache_size", "Entries kept"),
    ("cache_evictions_total", "cache_evictions", "Entries that left because the cache was full"),
    ("cache_ttl_expirations_total", "cache_expirations", "Entries found expired"),
    ("guardproxy_cache_bytes", "cache_bytes", "Memory that the kept entries take"),
    ("guardproxy_mode_ceiling", "ceiling", "Position of the mode ceiling, 0 being the highest mode"),
    ("guardproxy_in_flight_requests", "in_flight", "Calls being answered"),
    ("guardproxy_client_connections", "connections", "Connections that callers hold open"),
    ("guardproxy_client_connections_refused_total", "refused", "Connections turned away because there were too many"),
    (
        "guardproxy_event_loop_lag_seconds",
        "lag",
        "By how much the event loop was late, at its worst of late",
    ),
    ("guardproxy_config_last_reload_successful", "reloaded", "Whether the last reload was taken over"),
    ("guardproxy_config_last_reload_success_timestamp_seconds", "configured", "When the configuration was taken over"),
    ("guardproxy_shared_store_up", "shared_up", "Whether the shared store is there and in time"),
    ("guardproxy_shared_hits_total", "shared_hits", "Answers found in the shared store"),
    ("guardproxy_shared_misses_total", "shared_misses", "Answers looked for in the shared store in vain"),
    ("guardproxy_shared_failures_total", "shared_failures", "Times that the shared store did not answer in time"),
    ("guardproxy_shared_writes_total", "shared_writes", "Answers given to the shared store"),
    ("guardproxy_shared_unwritten_total", "shared_unwritten", "Answers that the shared store did not take"),
    ("guardproxy_webhook_failures_total", "webhook_failures", "Alerts that could not be delivered"),
    ("guardproxy_log_lines_dropped_total", "log_dropped", "Log lines that nobody took"),
)


@final
class Readings(Collector):
    """All gauges; *read* is called once per scrape."""

    def __init__(self, read: Callable[[], Gauges]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """All families as the machines stand now."""
        now = self._read()
        for name, attribute, text in _PLAIN:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield kind(name, text, value=float(getattr(now, attribute)))
        yield _by_model(
            "circuit_breaker_state",
            "0 closed, 1 open, 2 half-open",
            {name: now.circuits.get(name, 0) for name in now.upstreams},
        )
        yield _by_model(
            "llm_health_status", "1 healthy, 0 not", {name: now.healthy.get(name, False) for name in now.upstreams}
        )
        yield _by_model(
            "guardproxy_retry_budget",
            "Retries that may be made at once",
            {name: now.budgets.get(name, 0.0) for name in now.upstreams},
        )
        hedges = CounterMetricFamily("guardproxy_hedges_total", "Asked second for a stream", labels=["model"])
        loads = GaugeMetricFamily(
            "guardproxy_load",
            "Calls at once: the limit, those under way, those that wait here",
            labels=["model", "what"],
        )
        for name in now.upstreams:
            hedges.add_metric([name], now.hedges.get(name, 0))
            for what, count in zip(("limit", "taken", "queued"), now.loads.get(name, (0.0, 0, 0)), strict=True):
                loads.add_metric([name, what], count)
        yield hedges
        yield loads
        shadow = CounterMetricFamily(
            "guardproxy_shadow_total", "What gates in shadow would have done", labels=["guard", "would"]
        )
        for gate in GATES:
            for would in WOULD:
                shadow.add_metric([gate, would], now.shadow.get(gate, {}).get(would, 0))
        yield shadow
        reloads = CounterMetricFamily("guardproxy_config_reloads_total", "Reloads by result", labels=["result"])
        reloads.add_metric(["ok"], now.reloads)
        reloads.add_metric(["refused"], now.reloads_refused)
        yield reloads
        why = now.ceiling_reason if now.ceiling_reason in REASONS else "other" if now.ceiling_reason else ""
        reason = GaugeMetricFamily(
            "guardproxy_mode_ceiling_reason", "Why the mode ceiling is not at the top", labels=["reason"]
        )
        for one in REASONS:
            reason.add_metric([one], one == why)
        yield reason
        pools = GaugeMetricFamily(
            "guardproxy_upstream_connections",
            "Connections open, those of them idle, and calls waiting for one",
            labels=["model", "state"],
        )
        for name in now.upstreams:
            for state, count in zip(("open", "idle", "waiting"), now.pools.get(name, (0, 0, 0)), strict=True):
                pools.add_metric([name, state], count)
        yield pools
        yield _info("guardproxy_build_info", "What is running", version=__version__, python=platform.python_version())
        yield _info("guardproxy_config_info", "The configuration in force", digest=now.digest)


def _by_model(name: str, text: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=["model"])
    for model, value in values.items():
        family.add_metric([model], float(value))
    return family


def _info(name: str, text: str, **labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), 1)
    return family
