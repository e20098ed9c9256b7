"""The counts that Prometheus scrapes: told of each call, once.

Here belongs which count moves when.  What it is called is families'; what a call *was* is decided elsewhere and read
from its `Record`; what a machine is like now is not told but read (gauges).

Counting is done for every call, so what is told is a few plain numbers: how many calls there were of each sort, their
times and their tokens.  Which counts that moves is worked out at scrape, where names, labels and text come into being
too.  Everything runs on the loop's thread: no locks.
A label's value comes from the configuration or from a closed set below, never from a caller.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, final

from prometheus_client.registry import Collector

from guardproxy.core.values import Kind
from guardproxy.telemetry.counts import NO_REPLY, ODD, SOURCES, STATUSES, Counts
from guardproxy.telemetry.families import families
from guardproxy.telemetry.model import KEY_REFUSED, PLACE, Model
from guardproxy.telemetry.sorts import Sorts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from guardproxy.core.values import Attempt, News, Record, Reply
    from guardproxy.telemetry.sorts import Sort


@final
class Metrics(Collector):
    """Every count of the proxy, told of calls, news and checks; those of *upstreams* and *modes* start at 0.

    *modes* stand highest first.  `exposition` writes it out once it is registered with a registry.
    """

    def __init__(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        self._counts = Counts(upstreams, modes)
        self.sorts = Sorts(self._met, self._settle)

    def know(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        """After a reload: what is new begins at 0; what has gone keeps its counts."""
        self.sorts.forget()
        self._counts.know(upstreams, modes)

    def told(self, record: Record, at: float = 0.0, sort: Sort | None = None) -> None:
        """A call, which may be of a *sort*, has ended *at* this time of day.

        Its news are counted by `news`, told to all sinks apart.
        """
        if sort is None:
            self._count(record)
            self._measure(record)
        else:
            sort.times += 1
            if sort.seconds is not None:
                sort.seconds.add(record.ended - record.started)
            if sort.asked is not None:
                sort.asked.time(record.attempts[0])
            if sort.model is not None:
                if record.usage and record.attempts:
                    sort.model.spend(record.usage)
                sort.model.tokens_saved += record.saved
        if record.trace:
            self._exemplify(record, at)

    def _met(self, sort: Sort) -> None:
        """A sort of calls that was not met before: find where its measures go."""
        example = sort.example
        if example.reply is not None and _way(example.reply) in self._counts.requests:
            sort.seconds = self._counts.seconds[example.reply.source]
        sort.model = self._last(example)
        if example.attempts and not _relayed(example):
            sort.asked = self._counts.models.get(example.attempts[0].upstream)

    def _settle(self, sort: Sort) -> None:
        """Count the calls of a sort that have been told since it was last asked."""
        if sort.times:
            self._count(sort.example, sort.times)
            sort.times = 0

    def _measure(self, record: Record) -> None:
        """Times and tokens, which are every call's own."""
        if record.reply is not None and _way(record.reply) in self._counts.requests and not record.background:
            self._counts.seconds[record.reply.source].add(record.ended - record.started)
        if not _relayed(record):
            for attempt in record.attempts:
                if (model := self._counts.models.get(attempt.upstream)) is not None:
                    model.time(attempt)
        for name, spent in record.wasted:
            if (model := self._counts.models.get(name)) is not None:
                model.tokens_wasted += spent
        last = self._last(record)
        if last is None:
            return
        last.tokens_saved += record.saved
        if record.attempts and record.usage:
            last.spend(record.usage)

    def _exemplify(self, record: Record, at: float) -> None:
        """Let a call whose trace is known stand for those that took as long."""
        if record.reply is not None and _way(record.reply) in self._counts.requests:
            self._counts.seconds[record.reply.source].like(record.ended - record.started, record.trace, at)
        if record.attempts and not _relayed(record):
            attempt = record.attempts[-1]
            if attempt.first is not None and (model := self._counts.models.get(attempt.upstream)) is not None:
                model.first.like(attempt.first, record.trace, at)

    def _count(self, record: Record, times: int = 1) -> None:
        """Count a call that came so many *times*."""
        reply = record.reply
        if record.background:
            self._counts.refreshed += times
            result = record.json
        elif reply is None:
            self._counts.requests[NO_REPLY] += times
            result = record.json
        else:
            way, code = _way(reply), reply.code
            self._counts.requests[way if way in self._counts.requests else ODD] += times
            if code:
                self._counts.errors[code if code in self._counts.errors else "other"] += times
            result = "failed" if code == "invalid_model_output" else record.json
        if result in self._counts.results and record.cache_event != "hit":  # a hit was judged when it was kept
            self._counts.results[result] += times
        if record.cache_event in self._counts.cache:
            self._counts.cache[record.cache_event] += times
        if record.gone:
            self._counts.gone += times
        if record.attempts and not _relayed(record):
            self._count_attempts(record.attempts, times)
        for name in record.parse_failures:
            if (model := self._counts.models.get(name)) is not None:
                model.invalid += times
        self._count_last(record, times)

    def _last(self, record: Record) -> Model | None:
        """The upstream last asked, or the one that would have been."""
        target, call = record.target, record.call
        return self._counts.models.get(target.upstream if target else call.upstream if call else "")

    def _count_last(self, record: Record, times: int) -> None:
        """What belongs to the upstream last asked."""
        target, last = record.target, self._last(record)
        if (
            target is not None
            and target.moved_from
            and (moved := (target.moved_from, target.mode)) in self._counts.moved
        ):
            self._counts.moved[moved] += times
        if last is None:
            return
        if record.cache:
            last.lookups[_lookup(record)] += times
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
            if (model := self._counts.models.get(name)) is None:
                continue
            place, worth = PLACE[attempt.kind]
            model.kinds[place] += times
            if attempt.label in KEY_REFUSED:
                model.keys_refused += times
            if worth >= best.get(name, 0):
                best[name] = worth
        for name, worth in best.items():
            model = self._counts.models[name]
            model.requests += times
            if worth == 1:
                model.failures += times

    def news(self, news: News) -> None:
        """A machine has changed its state: count a fall of the mode ceiling; no ceiling is the highest mode."""
        fall = (
            (news.old or self._counts.modes[0], news.new or self._counts.modes[0]) if self._counts.modes else ("", "")
        )
        if news.what == "ceiling" and fall in combinations(self._counts.modes, 2):
            self._counts.falls[fall] += 1

    def answered(self, upstream: str) -> int:
        """Attempts of calls that *upstream* has answered."""
        for sort in self.sorts:
            self._settle(sort)
        return self._counts.models[upstream].kinds[PLACE[Kind.SUCCESS][0]]

    def health(self, model: str, ok: bool, seconds: float, tokens: int = 0) -> None:
        """A check of *model* is over and took so many *seconds* and *tokens*."""
        counts = self._counts.models[model]
        counts.check_tokens += tokens
        counts.check_seconds = seconds
        counts.checks_failed += not ok

    def glance(self) -> dict[str, Any]:
        """The few numbers that the live page shows."""
        for sort in self.sorts:
            self._settle(sort)
        counts = self._counts
        requests: dict[str, int] = dict.fromkeys(SOURCES, 0)
        for (_, source), count in counts.requests.items():
            requests[source] = requests.get(source, 0) + count
        return {
            "requests": requests,
            "errors": sum(counts.errors.values()),
            "json": dict(counts.results),
            "lookups": dict(counts.cache),
            "invalid": sum(model.invalid for model in counts.models.values()),
            "first": {name: model.first.counts() for name, model in counts.models.items()},
        }

    def collect(self) -> Iterator[Metric]:
        """All families as they stand now; the registry asks for them at scrape."""
        for sort in self.sorts:
            self._settle(sort)
        yield from families(self._counts)


def _way(reply: Reply) -> tuple[str, str]:
    return STATUSES.get(reply.status // 100, "other"), reply.source


def _lookup(record: Record) -> str:
    """What the cache had for a call, in the end."""
    if record.reply is not None and record.reply.source == "stale":
        return "stale"
    if "collapsed" in record.cache:
        return "collapsed"
    return record.cache_event or "bypass"


def _relayed(record: Record) -> bool:
    """Whether it was only relayed, and says nothing about how well a model answers."""
    return record.call is not None and record.call.dialect is None
