"""The counts: which of them moves when."""

from __future__ import annotations

from typing import Any

import pytest

from guardproxy.core.values import Attempt, Call, Kind, News, Record, Reply, Target
from guardproxy.dialects.chat import Chat
from guardproxy.telemetry.counts import CODES
from guardproxy.telemetry.exposition import registry_of
from guardproxy.telemetry.metrics import Metrics

UPSTREAMS = ("qwen", "mistral", "llama")
MODES = ("creative", "balanced", "fast")


class Book:
    """Metrics whose movements can be asked for."""

    def __init__(self) -> None:
        self.metrics = Metrics(UPSTREAMS, MODES)
        self.before = self.read()

    def read(self) -> dict[str, float]:
        return {
            sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
            for family in self.metrics.collect()
            for sample in family.samples
        }

    def moved(self, record: Record | None = None) -> dict[str, float]:
        """What moved since this was last asked; buckets aside."""
        if record is not None:
            self.metrics.told(record)
        now = self.read()
        moved = {
            name: round(value - self.before.get(name, 0), 6)
            for name, value in now.items()
            if value != self.before.get(name, 0) and "_bucket" not in name
        }
        self.before = now
        return moved


@pytest.fixture
def book():
    return Book()


def call(**fields: Any) -> Call:
    some: dict[str, Any] = {
        "id": "r1", "method": "POST", "path": "/v1/chat/completions", "query": "", "headers": [], "body": b"{}",
        "doc": {}, "dialect": Chat(), "upstream": "llama", "mode": "creative",
    }  # fmt: skip
    return Call(**some | fields)


def attempt(upstream: str, kind: Kind, label: str = "", first: float | None = None) -> Attempt:
    label = label or ("200" if kind is Kind.SUCCESS else "upstream_reset")
    return Attempt(upstream, "id", label, kind, started=0.0, seconds=0.5, first=first)


def record(*attempts: Attempt, **fields: Any) -> Record:
    some: dict[str, Any] = {
        "started": 1.0,
        "ended": 3.0,
        "call": call(),
        "reply": Reply(200, b"", source="upstream"),
        "target": Target(attempts[-1].upstream) if attempts else None,
        "attempts": list(attempts),
    }
    return Record(**some | fields)


def test_an_ordinary_miss(book):
    """One call, one attempt: each count moves by exactly one."""
    told = record(
        attempt("llama", Kind.SUCCESS, first=0.2),
        cache_event="miss",
        usage={"prompt_tokens": 9, "completion_tokens": 4},
    )
    assert book.moved(told) == {
        "llm_requests_total llama": 1,
        "cache_misses_total": 1,
        "guardproxy_requests_total 2xx upstream": 1,
        "guardproxy_request_duration_seconds_count upstream": 1,
        "guardproxy_request_duration_seconds_sum upstream": 2,
        "guardproxy_attempts_total llama success": 1,
        "guardproxy_first_token_seconds_count llama": 1,
        "guardproxy_first_token_seconds_sum llama": 0.2,
        "guardproxy_tokens_total llama in": 9,
        "guardproxy_tokens_total llama out": 4,
    }


def test_tokens_of_answers_that_were_not_accepted(book):
    """They count under whoever gave each answer; an upstream that is no more counts nowhere."""
    told = record(
        *(attempt(name, Kind.SUCCESS) for name in ("llama", "mistral", "llama")),
        parse_failures=["llama", "mistral"],
        wasted=[("llama", 5), ("mistral", 7), ("llama", 2), ("gone", 9)],
    )
    moved = book.moved(told)
    assert moved["guardproxy_json_wasted_tokens_total llama"] == 7
    assert moved["guardproxy_json_wasted_tokens_total mistral"] == 7


def test_a_stream_is_timed_between_its_events(book):
    """Once for each gap, by their average: a long answer counts for more than a short one."""
    streamed = attempt("llama", Kind.SUCCESS, first=0.1)
    streamed.events = 5
    moved = book.moved(record(streamed))
    assert moved["guardproxy_inter_event_seconds_count llama"] == 4
    assert moved["guardproxy_inter_event_seconds_sum llama"] == 0.4
    assert "guardproxy_inter_event_seconds_count llama" not in book.moved(record(attempt("llama", Kind.SUCCESS)))


@pytest.mark.parametrize(
    "cache, event, source, result",
    [
        ("hit; ttl=4", "hit", "cache", "hit"),
        ("fwd=miss; collapsed", "hit", "cache", "collapsed"),
        ("hit; ttl=-4; detail=stale-if-error", "miss", "stale", "stale"),
        ("fwd=miss; stored", "miss", "upstream", "miss"),
        ("fwd=bypass", "", "upstream", "bypass"),
        ("fwd=request; stored", "", "upstream", "bypass"),
    ],
)
def test_what_the_cache_had(book, cache, event, source, result):
    told = record(cache=cache, cache_event=event, reply=Reply(200, b"", source=source))
    told.target = Target("qwen")
    moved = book.moved(told)
    assert {n: v for n, v in moved.items() if "lookups" in n} == {f"guardproxy_cache_lookups_total qwen {result}": 1}


def test_a_call_of_a_trace_stands_for_those_that_took_as_long(book):
    """The latest in each bucket; from a graph of durations one gets to a trace, and to a line of the log."""
    for trace, ended in (("aa" * 16, 3.0), ("bb" * 16, 3.1), ("cc" * 16, 1.2)):
        one = record(attempt("llama", Kind.SUCCESS, first=0.2), trace=trace, ended=ended)
        book.metrics.told(one, 1000.0 + ended)
    found = {
        (sample.name, sample.labels["le"]): (sample.exemplar.labels["trace_id"][:2], round(sample.exemplar.value, 6))
        for family in book.metrics.collect()
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert found == {
        ("guardproxy_request_duration_seconds_bucket", "2.5"): ("bb", 2.1),
        ("guardproxy_request_duration_seconds_bucket", "0.25"): ("cc", 0.2),
        ("guardproxy_first_token_seconds_bucket", "0.25"): ("cc", 0.2),
    }


def test_a_hit_asks_no_upstream_and_costs_no_tokens(book):
    """What was kept counts for the cache alone: it was judged, and its tokens spent, when it was kept."""
    told = record(
        target=Target("llama"),
        reply=Reply(200, b"", source="cache"),
        cache_event="hit",
        json="valid",
        usage={"prompt_tokens": 9, "completion_tokens": 4},
    )
    assert book.moved(told) == {
        "cache_hits_total": 1,
        "guardproxy_requests_total 2xx cache": 1,
        "guardproxy_request_duration_seconds_count cache": 1,
        "guardproxy_request_duration_seconds_sum cache": 2,
    }


@pytest.mark.parametrize(
    "kinds, failed",
    [
        ([Kind.SUCCESS], 0),
        ([Kind.SLOW], 0),
        ([Kind.FAILURE], 1),
        ([Kind.FAILURE, Kind.FAILURE], 1),
        ([Kind.FAILURE, Kind.SUCCESS], 0),
        ([Kind.SUCCESS, Kind.FAILURE], 0),
        ([Kind.FAILURE, Kind.SLOW], 0),
        ([Kind.THROTTLED], 0),
        ([Kind.IGNORED], 0),
        ([Kind.FAILURE, Kind.THROTTLED], 1),
        ([Kind.IGNORED, Kind.FAILURE], 1),
    ],
)
def test_a_call_is_counted_once_per_upstream(book, kinds, failed):
    """However many attempts: one request, and one failure only where none succeeded and at least one failed."""
    moved = book.moved(record(*(attempt("qwen", kind) for kind in kinds)))
    assert moved["llm_requests_total qwen"] == 1
    assert moved.get("llm_request_failures_total qwen", 0) == failed
    assert sum(count for name, count in moved.items() if name.startswith("guardproxy_attempts_total")) == len(kinds)


def test_a_call_that_went_to_two_upstreams_counts_for_both(book):
    """A failure on one is not hidden by the other's success."""
    moved = book.moved(
        record(
            attempt("llama", Kind.FAILURE), attempt("llama", Kind.FAILURE), attempt("mistral", Kind.SUCCESS), retries=2
        )
    )
    assert moved["llm_requests_total llama"] == moved["llm_requests_total mistral"] == 1
    assert moved["llm_request_failures_total llama"] == 1
    assert "llm_request_failures_total mistral" not in moved
    assert moved["guardproxy_retries_total mistral"] == 2


def test_answers_that_were_not_valid(book):
    """Each counts for the upstream that gave it; the re-asks are observed once, where the call ended."""
    moved = book.moved(
        record(
            attempt("llama", Kind.SUCCESS), attempt("llama", Kind.SUCCESS), attempt("qwen", Kind.SUCCESS),
            parse_failures=["llama", "llama"], asks_again=2, json="retried",
        )
    )  # fmt: skip
    assert moved["llm_json_parse_failures_total llama"] == 2
    assert moved["llm_json_retry_count_count qwen"] == 1
    assert moved["llm_json_retry_count_sum qwen"] == 2
    assert moved["guardproxy_json_total retried"] == 1


def test_a_guarded_call_without_reasks_is_observed_as_0(book):
    """The quantile is over guarded calls, not over those that went wrong; unguarded ones are left out."""
    assert book.moved(record(attempt("qwen", Kind.SUCCESS), json="valid"))["llm_json_retry_count_count qwen"] == 1
    assert "llm_json_retry_count_count qwen" not in book.moved(record(attempt("qwen", Kind.SUCCESS)))
    assert book.read()["llm_json_retry_count_bucket qwen 0.0"] == 1


@pytest.mark.parametrize(
    "asks, bucket", [(0, "0.0"), (1, "1.0"), (3, "3.0"), (4, "5.0"), (5, "5.0"), (10, "10.0"), (11, "+Inf")]
)
def test_a_bucket_includes_its_bound(book, asks, bucket):
    book.metrics.told(record(attempt("qwen", Kind.SUCCESS), json="valid", asks_again=asks))
    reached = {name.split()[-1]: value for name, value in book.read().items() if "retry_count_bucket qwen" in name}
    order = ["0.0", "1.0", "2.0", "3.0", "5.0", "10.0", "+Inf"]
    assert list(reached) == order
    assert [reached[bound] for bound in order] == [float(order.index(bound) >= order.index(bucket)) for bound in order]


def test_a_fallback_after_asking(book):
    """It counts for the upstream last asked."""
    told = record(
        attempt("llama", Kind.SUCCESS), attempt("mistral", Kind.FAILURE),
        fallback="llm_brief", json="fallback", reply=Reply(200, b"", source="fallback"),
    )  # fmt: skip
    assert book.moved(told)["llm_json_fallback_used_total mistral"] == 1


def test_a_fallback_where_nobody_could_be_asked(book):
    """It counts for the upstream that was asked for: a fallback is never lost from the rate of fallbacks."""
    told = record(fallback="llm_brief", json="fallback", reply=Reply(200, b"", source="fallback"))
    moved = book.moved(told)
    assert moved["llm_json_fallback_used_total llama"] == 1
    assert "llm_requests_total llama" not in moved


def test_a_guard_that_gave_up_is_a_result_of_its_own(book):
    reply = Reply(502, b"", source="fault", code="invalid_model_output")
    moved = book.moved(record(attempt("qwen", Kind.SUCCESS), reply=reply, parse_failures=["qwen"]))
    assert moved["guardproxy_json_total failed"] == 1
    assert moved["guardproxy_errors_total invalid_model_output"] == 1
    assert moved["guardproxy_requests_total 5xx fault"] == 1


def test_a_caller_who_left_before_any_reply(book):
    """He is counted, without a status that nobody saw and without a duration that is only his patience."""
    moved = book.moved(record(attempt("qwen", Kind.IGNORED), reply=None, gone=True))
    assert moved == {
        "guardproxy_requests_total none none": 1,
        "guardproxy_callers_gone_total": 1,
        "llm_requests_total qwen": 1,
        "guardproxy_attempts_total qwen ignored": 1,
    }


@pytest.mark.parametrize("label", ["401", "403"])
def test_a_refused_key_shows(book, label):
    """Nothing is wrong with the model, so no circuit opens: this count is the only alarm."""
    moved = book.moved(record(attempt("qwen", Kind.IGNORED, label)))
    assert moved["guardproxy_upstream_auth_failures_total qwen"] == 1


def test_a_moved_call(book):
    told = record(attempt("mistral", Kind.SUCCESS))
    told.target = Target("mistral", mode="balanced", moved_from="creative", reason="circuit_open")
    assert book.moved(told)["guardproxy_downshifted_requests_total creative balanced"] == 1
    told.target = Target("llama", mode="creative", moved_from="fast", reason="circuit_open")
    assert book.moved(told)["guardproxy_downshifted_requests_total fast creative"] == 1


@pytest.mark.parametrize(
    "old, new, fell",
    [
        ("creative", "balanced", "creative balanced"),
        ("balanced", "fast", "balanced fast"),
        ("creative", "fast", "creative fast"),
        ("", "balanced", "creative balanced"),
        ("balanced", "creative", None),
        ("balanced", "", None),
        ("creative", "somewhere", None),
        ("fast", "fast", None),
    ],
)
def test_only_a_fall_of_the_ceiling_is_a_downshift(book, old, new, fell):
    """No ceiling at all is the highest mode; a rise, or a mode that is none, is not counted."""
    book.metrics.news(News(0.0, "ceiling", "global", old, new))
    assert book.moved() == ({f"llm_mode_downshift_total {fell}": 1} if fell else {})


def test_other_news_are_not_a_downshift(book):
    book.metrics.news(News(0.0, "circuit", "llama", "closed", "open"))
    assert book.moved() == {}


def test_checks(book):
    """A failed one counts; the duration is that of the last one."""
    book.metrics.health("qwen", ok=True, seconds=0.85)
    assert book.moved() == {"llm_health_check_duration_seconds qwen": 0.85}
    book.metrics.health("qwen", ok=False, seconds=10.0)
    assert book.moved() == {"llm_health_check_duration_seconds qwen": 9.15, "llm_health_check_failures_total qwen": 1}


@pytest.mark.parametrize(
    "odd",
    [
        record(attempt("sk-secret-model", Kind.FAILURE), parse_failures=["nobody"], fallback="x", json="valid"),
        record(reply=Reply(999, b"", source="upstream", code="whatever the upstream said")),
        record(reply=Reply(200, b"", source="unheard of")),
        record(target=Target("gpt-99", mode="a", moved_from="b"), cache_event="what", json="huh"),
        record(call=None, reply=None),
    ],
)
def test_no_record_makes_a_new_label(book, odd):
    """Names that the configuration does not have make no series: their number is bounded, whoever calls."""
    names = set(book.before)
    book.metrics.told(odd)
    assert set(book.read()) == names


def test_what_is_odd_is_still_counted(book):
    assert book.moved(record(reply=Reply(200, b"", source="unheard of"))) == {
        "guardproxy_requests_total other other": 1
    }
    moved = book.moved(record(reply=Reply(999, b"", source="upstream", code="whatever")))
    assert moved["guardproxy_requests_total other upstream"] == moved["guardproxy_errors_total other"] == 1


def test_every_code_has_its_count(book):
    for code in CODES:
        assert (
            book.moved(record(reply=Reply(503, b"", source="fault", code=code)))[f"guardproxy_errors_total {code}"] == 1
        )


def test_after_a_reload_counts_go_on(book):
    """What was there keeps its count, what is new begins at 0, and a late call of what has gone harms nothing."""
    book.metrics.told(record(attempt("qwen", Kind.SUCCESS)))
    book.metrics.know(["qwen", "phi"], ["creative", "tiny"])
    now = book.read()
    assert now["llm_requests_total qwen"] == 1
    assert now["llm_requests_total phi"] == 0
    assert now["llm_mode_downshift_total creative tiny"] == 0
    assert now["llm_requests_total llama"] == 0
    assert "llm_health_check_duration_seconds llama" not in now
    book.metrics.told(record(attempt("llama", Kind.SUCCESS)))
    book.metrics.health("llama", ok=False, seconds=1.0)
    assert book.read()["llm_requests_total llama"] == 1


def test_a_registry_takes_it(book):
    assert any(family.name == "llm_requests" for family in registry_of(book.metrics).collect())


def test_what_is_only_relayed_is_no_inference(book):
    """A failing file upload says nothing about how many calls a model answers."""
    moved = book.moved(record(attempt("qwen", Kind.FAILURE), call=call(dialect=None)))
    assert not any(name.startswith(("llm_", "guardproxy_attempts")) for name in moved)
