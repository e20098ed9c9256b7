"""The counts that Prometheus scrapes: told of each call, once.

Here belongs which count moves when, and its name.  What a call *was* is decided elsewhere and read from its
`Record`; what a machine is like now is not told but read (gauges).  docs/metrics.md lists every name for
people, and a test holds the two together.

Counting is on the path of every call, so it adds to plain integers that were made when the upstreams were
known; names, labels and text come into being at scrape.  Everything runs on the loop's thread: no locks.
A label's value comes from the configuration or from a closed set below, never from a caller.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import combinations, permutations, product
from typing import TYPE_CHECKING, TypeVar, final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from guardproxy.core.values import Kind
from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from guardproxy.core.values import Attempt, News, Record, Reply

SOURCES = ("upstream", "cache", "stale", "fallback", "fault", "own")
STATUSES = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
NO_REPLY = ("none", "none")
ODD = ("other", "other")
RESULTS = ("valid", "repaired", "retried", "fallback", "unchecked", "failed")
CODES = (
    *("circuit_open", "forbidden", "invalid_json", "invalid_model_output", "invalid_request", "invalid_schema"),
    *("model_not_found", "not_cached", "overloaded", "request_timeout", "request_too_large", "schema_too_deep"),
    *("shutting_down", "unauthorized", "upstream_protocol", "upstream_reset", "upstream_stream_interrupted"),
    *("upstream_timeout", "upstream_unreachable", "other"),
)
ASKS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0)
# From a cache hit to the longest answer that a deadline of minutes allows.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# Of each kind its place among the counts, and what it is worth: of a call's attempts on one upstream the best one
# says how it went. 2 it answered, 1 it failed, 0 nothing can be said.
_PLACE = {
    Kind.SUCCESS: (0, 2),
    Kind.FAILURE: (1, 1),
    Kind.SLOW: (2, 2),
    Kind.THROTTLED: (3, 0),
    Kind.IGNORED: (4, 0),
    Kind.WARMING: (5, 0),
}
_KEY_REFUSED = frozenset(("401", "403"))

# name, attribute of `_Model`, help
_BY_MODEL = (
    ("llm_requests_total", "requests", "Calls sent to this upstream, once per call"),
    ("llm_request_failures_total", "failures", "Calls of which no attempt on this upstream succeeded"),
    ("llm_json_parse_failures_total", "invalid", "Answers that were not JSON or against their schema"),
    ("llm_json_fallback_used_total", "fallbacks", "Declared fallbacks answered"),
    ("llm_health_check_failures_total", "checks_failed", "Health checks that failed"),
    ("guardproxy_early_aborts_total", "aborted", "Answers ended early, since nothing could become of them"),
    ("guardproxy_retries_total", "retries", "Attempts made again after a fault"),
    ("guardproxy_upstream_auth_failures_total", "keys_refused", "Attempts answered 401 or 403"),
)


_Values = TypeVar("_Values", bound=tuple[str, ...])


@final
class _Histogram:
    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        buckets, below = [], 0
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            buckets.append((floatToGoString(bound), float(below)))
        family.add_metric(labels, buckets, self._sum)


@final
class _Model:
    """The counts of one upstream."""

    def __init__(self) -> None:
        self.requests = self.failures = self.invalid = self.fallbacks = 0
        self.retries = self.aborted = self.keys_refused = self.checks_failed = 0
        self.check_seconds = 0.0
        self.tokens_in = self.tokens_out = 0
        self.kinds = [0] * len(_PLACE)
        self.asks = _Histogram(ASKS)
        self.first = _Histogram(FIRST)


@final
class Metrics(Collector):
    """Every count of the proxy, told of calls, news and checks; those of *upstreams* and *modes* start at 0.

    *modes* stand highest first.  `exposition` writes it out once it is registered with a registry.
    """

    def __init__(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        self._models: dict[str, _Model] = {}
        self._falls: dict[tuple[str, str], int] = {}
        self._moved: dict[tuple[str, str], int] = {}
        self._requests = dict.fromkeys((*product((*STATUSES.values(), "other"), SOURCES), NO_REPLY, ODD), 0)
        self._seconds = {source: _Histogram(SECONDS) for source in SOURCES}
        self._errors = dict.fromkeys(CODES, 0)
        self._results = dict.fromkeys(RESULTS, 0)
        self._cache = {"hit": 0, "miss": 0}
        self._gone = 0
        self.know(upstreams, modes)

    def know(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        """After a reload: what is new begins at 0; what has gone keeps its counts, for calls may still be on it."""
        self._upstreams, self._modes = tuple(upstreams), tuple(modes)
        self._models = {name: _Model() for name in upstreams} | self._models
        self._falls = dict.fromkeys(combinations(modes, 2), 0) | self._falls
        self._moved = dict.fromkeys(permutations(modes, 2), 0) | self._moved

    def told(self, record: Record) -> None:
        """A call is over: count it.  Its news are counted by `news`, told to all sinks apart from calls."""
        reply = record.reply
        if reply is None:
            self._requests[NO_REPLY] += 1
            result = record.json
        else:
            self._count_reply(reply, record.ended - record.started)
            result = "failed" if reply.code == "invalid_model_output" else record.json
        if result in self._results and record.cache_event != "hit":  # a hit was judged when it was kept
            self._results[result] += 1
        if record.cache_event in self._cache:
            self._cache[record.cache_event] += 1
        if record.gone:
            self._gone += 1
        if record.attempts and (record.call is None or record.call.dialect):  # else it was only relayed
            self._count_attempts(record.attempts)
        for name in record.parse_failures:
            if (model := self._models.get(name)) is not None:
                model.invalid += 1
        self._count_last(record)

    def _count_reply(self, reply: Reply, seconds: float) -> None:
        key = (STATUSES.get(reply.status // 100, "other"), reply.source)
        if key in self._requests:
            self._requests[key] += 1
            self._seconds[reply.source].add(seconds)
        else:
            self._requests[ODD] += 1
        if code := reply.code:
            self._errors[code if code in self._errors else "other"] += 1

    def _count_last(self, record: Record) -> None:
        """What belongs to the upstream last asked, or to the one that would have been."""
        target, call = record.target, record.call
        last = self._models.get(target.upstream if target else call.upstream if call else "")
        if target is not None and target.moved_from and (moved := (target.moved_from, target.mode)) in self._moved:
            self._moved[moved] += 1
        if last is None:
            return
        if record.retries:
            last.retries += record.retries
        if record.aborted:
            last.aborted += record.aborted
        if record.fallback:
            last.fallbacks += 1
        if record.attempts:
            if record.usage:
                asked, answered = tokens(record.usage)
                last.tokens_in += asked
                last.tokens_out += answered
            if record.json or record.parse_failures:
                last.asks.add(record.asks_again)

    def _count_attempts(self, attempts: Sequence[Attempt]) -> None:
        best: dict[str, int] = {}
        for attempt in attempts:
            name = attempt.upstream
            if (model := self._models.get(name)) is None:
                continue
            place, worth = _PLACE[attempt.kind]
            model.kinds[place] += 1
            if attempt.first is not None:
                model.first.add(attempt.first)
            if attempt.label in _KEY_REFUSED:
                model.keys_refused += 1
            if worth >= best.get(name, 0):
                best[name] = worth
        for name, worth in best.items():
            model = self._models[name]
            model.requests += 1
            if worth == 1:
                model.failures += 1

    def news(self, news: News) -> None:
        """A machine has changed its state: count a fall of the mode ceiling; no ceiling is the highest mode."""
        fall = (news.old or self._modes[0], news.new or self._modes[0]) if self._modes else ("", "")
        if news.what == "ceiling" and fall in combinations(self._modes, 2):
            self._falls[fall] += 1

    def health(self, model: str, ok: bool, seconds: float) -> None:
        """A check of *model* is over and took so many *seconds*."""
        counts = self._models[model]
        counts.check_seconds = seconds
        counts.checks_failed += not ok

    def collect(self) -> Iterator[Metric]:
        """All families as they stand now; the registry asks for them at scrape."""
        models = self._models.items()
        for metric, attribute, text in _BY_MODEL:
            yield _counter(metric, text, ["model"], {(name,): getattr(model, attribute) for name, model in models})
        for metric, attribute, text in (
            ("llm_json_retry_count", "asks", "Re-asks of each guarded call"),
            ("guardproxy_first_token_seconds", "first", "From asking an upstream to the first event of its answer"),
        ):
            by_model = HistogramMetricFamily(metric, text, labels=["model"])
            for name, model in models:
                getattr(model, attribute).show(by_model, [name])
            yield by_model
        took = GaugeMetricFamily(
            "llm_health_check_duration_seconds", "What the last health check took", labels=["model"]
        )
        for name in self._upstreams:
            took.add_metric([name], self._models[name].check_seconds)
        yield took
        kinds = {
            (name, kind.value): model.kinds[place] for name, model in models for kind, (place, _) in _PLACE.items()
        }
        yield _counter("guardproxy_attempts_total", "Attempts by how they ended", ["model", "kind"], kinds)
        spent = {(name, "in"): model.tokens_in for name, model in models}
        spent |= {(name, "out"): model.tokens_out for name, model in models}
        yield _counter("guardproxy_tokens_total", "Tokens that answers say they took", ["model", "direction"], spent)
        ways = ["from", "to"]
        yield _counter("llm_mode_downshift_total", "Falls of the mode ceiling", ways, self._falls)
        yield _counter("guardproxy_downshifted_requests_total", "Calls moved to another mode", ways, self._moved)
        yield _counter("cache_hits_total", "Calls answered from the cache", [], {(): self._cache["hit"]})
        yield _counter("cache_misses_total", "Calls looked for in the cache in vain", [], {(): self._cache["miss"]})
        yield _counter("guardproxy_requests_total", "Calls by how they ended", ["status", "source"], self._requests)
        yield _counter("guardproxy_errors_total", "Errors that the proxy made", ["code"], _single(self._errors))
        yield _counter(
            "guardproxy_json_total", "Calls by what became of their JSON", ["result"], _single(self._results)
        )
        yield _counter("guardproxy_callers_gone_total", "Calls whose caller left before the end", [], {(): self._gone})
        lasted = HistogramMetricFamily(
            "guardproxy_request_duration_seconds", "From request to end of reply", labels=["source"]
        )
        for source, histogram in self._seconds.items():
            histogram.show(lasted, [source])
        yield lasted


def _single(counts: Mapping[str, int]) -> dict[tuple[str], int]:
    return {(value,): count for value, count in counts.items()}


def _counter(name: str, text: str, labels: Sequence[str], counts: Mapping[_Values, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
