"""The counts that Prometheus scrapes: told of each call, once.

Here belongs which count moves when, and its name.  What a call *was* is decided elsewhere and read from its
`Record`; what a machine is like now is not told but read (gauges).  docs/metrics.md lists every name for
people, and a test holds the two together.

Counting is done for every call, so what is told is a few plain numbers: how many calls there were of each sort, their
times and their tokens.  Which counts that moves is worked out at scrape, where names, labels and text come into being
too.  Everything runs on the loop's thread: no locks.
A label's value comes from the configuration or from a closed set below, never from a caller.
"""

from __future__ import annotations

from itertools import combinations, permutations, product
from typing import TYPE_CHECKING, TypeVar, final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from guardproxy.telemetry.histogram import Histogram
from guardproxy.telemetry.model import KEY_REFUSED, PLACE, Model
from guardproxy.telemetry.sorts import Sorts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from guardproxy.core.values import Attempt, News, Record, Reply
    from guardproxy.telemetry.sorts import Sort

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
# From a cache hit to the longest answer that a deadline of minutes allows.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)

# name, attribute of `Model`, help
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
class Metrics(Collector):
    """Every count of the proxy, told of calls, news and checks; those of *upstreams* and *modes* start at 0.

    *modes* stand highest first.  `exposition` writes it out once it is registered with a registry.
    """

    def __init__(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        self._models: dict[str, Model] = {}
        self._falls: dict[tuple[str, str], int] = {}
        self._moved: dict[tuple[str, str], int] = {}
        self._requests = dict.fromkeys((*product((*STATUSES.values(), "other"), SOURCES), NO_REPLY, ODD), 0)
        self._seconds = {source: Histogram(SECONDS) for source in SOURCES}
        self._errors = dict.fromkeys(CODES, 0)
        self._results = dict.fromkeys(RESULTS, 0)
        self._cache = {"hit": 0, "miss": 0}
        self._gone = 0
        self.sorts = Sorts(self._met, self._settle)
        self.know(upstreams, modes)

    def know(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        """After a reload: what is new begins at 0; what has gone keeps its counts, for calls may still be on it."""
        self.sorts.forget()
        self._upstreams, self._modes = tuple(upstreams), tuple(modes)
        self._models = {name: Model() for name in upstreams} | self._models
        self._falls = dict.fromkeys(combinations(modes, 2), 0) | self._falls
        self._moved = dict.fromkeys(permutations(modes, 2), 0) | self._moved

    def told(self, record: Record, sort: Sort | None = None) -> None:
        """A call, which may be of a *sort*, is over.  Its news are counted by `news`, told to all sinks apart."""
        if sort is None:
            self._count(record)
            self._measure(record)
            return
        sort.times += 1
        if sort.seconds is not None:
            sort.seconds.add(record.ended - record.started)
        if sort.first is not None:
            sort.first.add(record.attempts[0].first or 0.0)
        if sort.model is not None and record.usage:
            sort.model.spend(record.usage)

    def _met(self, sort: Sort) -> None:
        """A sort of calls that was not met before: find where its measures go."""
        example = sort.example
        if example.reply is not None and _way(example.reply) in self._requests:
            sort.seconds = self._seconds[example.reply.source]
        if example.attempts:
            sort.model, attempt = self._last(example), example.attempts[0]
            asked = self._models.get(attempt.upstream)
            if asked is not None and attempt.first is not None and not _relayed(example):
                sort.first = asked.first

    def _settle(self, sort: Sort) -> None:
        """Count the calls of a sort that have been told since it was last asked."""
        if sort.times:
            self._count(sort.example, sort.times)
            sort.times = 0

    def _measure(self, record: Record) -> None:
        """Times and tokens, which are every call's own."""
        if record.reply is not None and _way(record.reply) in self._requests:
            self._seconds[record.reply.source].add(record.ended - record.started)
        if not _relayed(record):
            for attempt in record.attempts:
                if attempt.first is not None and (model := self._models.get(attempt.upstream)) is not None:
                    model.first.add(attempt.first)
        last = self._last(record)
        if last is not None and record.attempts and record.usage:
            last.spend(record.usage)

    def _count(self, record: Record, times: int = 1) -> None:
        """Count a call that came so many *times*."""
        reply = record.reply
        if reply is None:
            self._requests[NO_REPLY] += times
            result = record.json
        else:
            way, code = _way(reply), reply.code
            self._requests[way if way in self._requests else ODD] += times
            if code:
                self._errors[code if code in self._errors else "other"] += times
            result = "failed" if code == "invalid_model_output" else record.json
        if result in self._results and record.cache_event != "hit":  # a hit was judged when it was kept
            self._results[result] += times
        if record.cache_event in self._cache:
            self._cache[record.cache_event] += times
        if record.gone:
            self._gone += times
        if record.attempts and not _relayed(record):
            self._count_attempts(record.attempts, times)
        for name in record.parse_failures:
            if (model := self._models.get(name)) is not None:
                model.invalid += times
        self._count_last(record, times)

    def _last(self, record: Record) -> Model | None:
        """The upstream last asked, or the one that would have been."""
        target, call = record.target, record.call
        return self._models.get(target.upstream if target else call.upstream if call else "")

    def _count_last(self, record: Record, times: int) -> None:
        """What belongs to the upstream last asked."""
        target, last = record.target, self._last(record)
        if target is not None and target.moved_from and (moved := (target.moved_from, target.mode)) in self._moved:
            self._moved[moved] += times
        if last is None:
            return
        last.retries += record.retries * times
        last.aborted += record.aborted * times
        if record.fallback:
            last.fallbacks += times
        if record.attempts and (record.json or record.parse_failures):
            last.asks.add(record.asks_again, times)

    def _count_attempts(self, attempts: Sequence[Attempt], times: int) -> None:
        best: dict[str, int] = {}
        for attempt in attempts:
            name = attempt.upstream
            if (model := self._models.get(name)) is None:
                continue
            place, worth = PLACE[attempt.kind]
            model.kinds[place] += times
            if attempt.label in KEY_REFUSED:
                model.keys_refused += times
            if worth >= best.get(name, 0):
                best[name] = worth
        for name, worth in best.items():
            model = self._models[name]
            model.requests += times
            if worth == 1:
                model.failures += times

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
        for sort in self.sorts:
            self._settle(sort)
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
        kinds = {(name, kind.value): model.kinds[place] for name, model in models for kind, (place, _) in PLACE.items()}
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


def _way(reply: Reply) -> tuple[str, str]:
    return STATUSES.get(reply.status // 100, "other"), reply.source


def _relayed(record: Record) -> bool:
    """Whether it was only relayed, and says nothing about how well a model answers."""
    return record.call is not None and record.call.dialect is None


def _single(counts: Mapping[str, int]) -> dict[tuple[str], int]:
    return {(value,): count for value, count in counts.items()}


def _counter(name: str, text: str, labels: Sequence[str], counts: Mapping[_Values, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
