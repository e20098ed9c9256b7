"""The gauges: read at scrape, there for every upstream."""

from __future__ import annotations

import platform

from guardproxy import __version__
from guardproxy.telemetry.gauges import GATES, REASONS, WOULD, Gauges, Readings


def read(gauges: Gauges) -> dict[str, float]:
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in Readings(lambda: gauges).collect()
        for sample in family.samples
    }


def test_before_anything_has_happened():
    """Every upstream has its gauges at 0: closed, but not yet known to be healthy."""
    shown = read(Gauges(upstreams=["qwen", "llama"]))
    assert shown["circuit_breaker_state qwen"] == shown["circuit_breaker_state llama"] == 0
    assert shown["llm_health_status qwen"] == 0
    assert shown["guardproxy_upstream_connections llama idle"] == 0
    assert shown["cache_size"] == shown["cache_evictions_total"] == shown["guardproxy_mode_ceiling"] == 0
    assert shown["guardproxy_config_last_reload_successful"] == 1
    assert shown[f"guardproxy_build_info {__version__} {platform.python_version()}"] == 1


def test_what_the_machines_say():
    shown = read(
        Gauges(
            upstreams=["qwen"],
            circuits={"qwen": 2, "gone": 1},
            healthy={"qwen": True},
            pools={"qwen": (5, 3, 1)},
            budgets={"qwen": 7.5},
            hedges={"qwen": 2},
            loads={"qwen": (12.5, 9, 3)},
            shadow={"breaker": {"refused": 3}},
            ceiling_reason="because",
            refused=4,
            reloads=2,
            reloads_refused=1,
            configured=1000.5,
            cache_size=7,
            cache_bytes=9000,
            cache_evictions=3,
            cache_expirations=4,
            ceiling=1,
            in_flight=2,
            connections=6,
            lag=0.25,
            digest="abc",
            reloaded=False,
            shared_up=True,
            shared_hits=10,
            shared_misses=11,
            shared_failures=12,
            shared_writes=13,
            shared_unwritten=14,
            webhook_failures=8,
            log_dropped=10,
        )
    )
    shown.pop(f"guardproxy_build_info {__version__} {platform.python_version()}")
    assert shown == {
        "circuit_breaker_state qwen": 2,
        "llm_health_status qwen": 1,
        "guardproxy_upstream_connections qwen open": 5,
        "guardproxy_upstream_connections qwen idle": 3,
        "guardproxy_upstream_connections qwen waiting": 1,
        "cache_size": 7,
        "guardproxy_cache_bytes": 9000,
        "cache_evictions_total": 3,
        "cache_ttl_expirations_total": 4,
        "guardproxy_mode_ceiling": 1,
        **{f"guardproxy_mode_ceiling_reason {reason}": reason == "other" for reason in REASONS},
        "guardproxy_retry_budget qwen": 7.5,
        "guardproxy_hedges_total qwen": 2,
        "guardproxy_load qwen limit": 12.5,
        "guardproxy_load qwen taken": 9,
        "guardproxy_load qwen queued": 3,
        **{f"guardproxy_shadow_total {gate} {would}": 0 for gate in GATES for would in WOULD},
        "guardproxy_shadow_total breaker refused": 3,
        "guardproxy_client_connections_refused_total": 4,
        "guardproxy_config_reloads_total ok": 2,
        "guardproxy_config_reloads_total refused": 1,
        "guardproxy_config_last_reload_success_timestamp_seconds": 1000.5,
        "guardproxy_in_flight_requests": 2,
        "guardproxy_client_connections": 6,
        "guardproxy_event_loop_lag_seconds": 0.25,
        "guardproxy_config_info abc": 1,
        "guardproxy_config_last_reload_successful": 0,
        "guardproxy_shared_store_up": 1,
        "guardproxy_shared_hits_total": 10,
        "guardproxy_shared_misses_total": 11,
        "guardproxy_shared_failures_total": 12,
        "guardproxy_shared_writes_total": 13,
        "guardproxy_shared_unwritten_total": 14,
        "guardproxy_webhook_failures_total": 8,
        "guardproxy_log_lines_dropped_total": 10,
    }


def test_the_machines_are_read_once_per_scrape():
    """All gauges of one scrape show the same moment."""
    moments = iter([Gauges(ceiling=1)])
    assert list(Readings(lambda: next(moments)).collect())
