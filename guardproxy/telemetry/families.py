"""What the counts are called.

Here belong the name, the help and the labels of every count that Prometheus scrapes.  What moves it is metrics';
docs/metrics.md says so for people, and a test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from guardproxy.telemetry.model import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from guardproxy.telemetry.counts import Counts

# name, attribute of `Model`, help
_BY_MODEL = (
    ("llm_requests_total", "requests", "Calls sent to this upstream, once per call"),
    ("llm_request_failures_total", "failures", "Calls of which no attempt on this upstream succeeded"),
    ("llm_json_parse_failures_total", "invalid", "Answers that were not JSON or against their schema"),
    ("llm_json_fallback_used_total", "fallbacks", "Declared fallbacks answered"),
    ("llm_health_check_failures_total", "checks_failed", "Health checks that failed"),
    ("guardproxy_tokens_saved_total", "tokens_saved", "Tokens that answers from the cache had taken"),
    ("guardproxy_health_tokens_total", "check_tokens", "Tokens that health checks took"),
    ("guardproxy_early_aborts_total", "aborted", "Answers ended early, since nothing could become of them"),
    ("guardproxy_json_wasted_tokens_total", "tokens_wasted", "Tokens of answers that were not accepted"),
    ("guardproxy_retries_total", "retries", "Attempts made again after a fault"),
    ("guardproxy_upstream_auth_failures_total", "keys_refused", "Attempts answered 401 or 403"),
)
_Values = TypeVar("_Values", bound=tuple[str, ...])


def families(counts: Counts) -> Iterator[Metric]:
    """All of them as they stand."""
    models = counts.models.items()
    for metric, attribute, text in _BY_MODEL:
        yield _counter(metric, text, ["model"], {(name,): getattr(model, attribute) for name, model in models})
    for metric, attribute, text in (
        ("llm_json_retry_count", "asks", "Re-asks of each guarded call"),
        ("guardproxy_first_token_seconds", "first", "From asking an upstream to the first word of its answer"),
        ("guardproxy_inter_event_seconds", "between", "Between two events of a stream, averaged over each stream"),
    ):
        by_model = HistogramMetricFamily(metric, text, labels=["model"])
        for name, model in models:
            getattr(model, attribute).show(by_model, [name])
        yield by_model
    took = GaugeMetricFamily("llm_health_check_duration_seconds", "What the last health check took", labels=["model"])
    for name in counts.upstreams:
        took.add_metric([name], counts.models[name].check_seconds)
    yield took
    kinds = {(name, kind.value): model.kinds[place] for name, model in models for kind, (place, _) in PLACE.items()}
    yield _counter("guardproxy_attempts_total", "Attempts by how they ended", ["model", "kind"], kinds)
    spent = {(name, "in"): model.tokens_in for name, model in models}
    spent |= {(name, "out"): model.tokens_out for name, model in models}
    yield _counter("guardproxy_tokens_total", "Tokens that answers say they took", ["model", "direction"], spent)
    found = {(name, result): count for name, model in models for result, count in model.lookups.items()}
    yield _counter("guardproxy_cache_lookups_total", "Calls by what the cache had", ["model", "result"], found)
    ways = ["from", "to"]
    yield _counter("llm_mode_downshift_total", "Falls of the mode ceiling", ways, counts.falls)
    yield _counter("guardproxy_downshifted_requests_total", "Calls moved to another mode", ways, counts.moved)
    yield _counter("cache_hits_total", "Calls answered from the cache", [], {(): counts.cache["hit"]})
    yield _counter("cache_misses_total", "Calls looked for in the cache in vain", [], {(): counts.cache["miss"]})
    yield _counter("guardproxy_requests_total", "Calls by how they ended", ["status", "source"], counts.requests)
    yield _counter("guardproxy_errors_total", "Errors that the proxy made", ["code"], _single(counts.errors))
    yield _counter("guardproxy_json_total", "Calls by what became of their JSON", ["result"], _single(counts.results))
    refreshed = {(): counts.refreshed}
    yield _counter("guardproxy_cache_refreshes_total", "Calls made to replace an expired answer", [], refreshed)
    yield _counter("guardproxy_callers_gone_total", "Calls whose caller left before the end", [], {(): counts.gone})
    lasted = HistogramMetricFamily(
        "guardproxy_request_duration_seconds", "From request to end of reply", labels=["source"]
    )
    for source, histogram in counts.seconds.items():
        histogram.show(lasted, [source])
    yield lasted


def _single(counts: Mapping[str, int]) -> dict[tuple[str], int]:
    return {(value,): count for value, count in counts.items()}


def _counter(name: str, text: str, labels: Sequence[str], counts: Mapping[_Values, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
