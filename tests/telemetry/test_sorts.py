"""Looking at a sort of calls once comes to the same as looking at each of them."""

from __future__ import annotations

import os

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.core.values import Attempt, Call, Kind, News, Record, Reply, Target
from guardproxy.dialects.chat import Chat
from guardproxy.telemetry.line import particulars
from guardproxy.telemetry.log import Log
from guardproxy.telemetry.metrics import Metrics
from guardproxy.telemetry.sorts import LONG, MOST, lean

UPSTREAMS = ("qwen", "llama")
MODES = ("creative", "fast")
CHAT = Chat()
NOON = 1_700_000_000.25

few = st.sampled_from
names = few(["qwen", "llama", "", "nobody"])
calls = st.builds(
    Call,
    id=few(["0123abcd", 'an"id\\', "%s"]),
    method=few(["POST", "GET"]),
    path=few(["/v1/chat/completions", '/%d"@', "/\ud800\n", "/" + "x" * LONG]),
    query=st.just("key=secret"),
    headers=st.just([(b"Authorization", b"secret")]),
    body=st.just(b"secret"),
    doc=st.just({"secret": 1}),
    dialect=few([CHAT, None]),
    model=few(["gpt%s", "\0ms"]),
    upstream=names,
    stream=st.booleans(),
)
replies = st.builds(
    Reply,
    status=few([200, 404, 503, 999]),
    body=st.just(b"secret"),
    source=few(["upstream", "cache", "fallback", "stale", "fault", "own"]),
    code=few(["", "invalid_model_output", "circuit_open", "100%"]),
)
targets = st.builds(
    Target,
    upstream=names,
    model=few(["", "Qwen/%"]),
    mode=few(["", "fast"]),
    moved_from=few(["", "creative"]),
    reason=few(["", "circuit_open"]),
)
attempts = st.builds(
    Attempt,
    upstream=names,
    model=st.just("x"),
    label=few(["200", "401", "upstream_reset"]),
    kind=few(list(Kind)),
    started=few([1.0, 1.5]),
    seconds=few([0.25, 1.0]),
    first=few([None, 0.125, 0.5]),
    events=few([0, 1, 9]),
)
records = st.builds(
    Record,
    started=st.just(1.0),
    ended=few([1.5, 3.0]),
    call=calls | st.none(),
    reply=replies | st.none(),
    target=targets | st.none(),
    attempts=st.lists(attempts, max_size=2),
    parse_failures=few([[], [], ["qwen"]]),
    asks_again=few([0, 0, 2]),
    retries=few([0, 0, 1]),
    aborted=few([0, 0, 1]),
    fallback=few(["", "", "brief"]),
    cache=few(["", "hit; ttl=4", "fwd=miss; stored"]),
    cache_event=few(["", "hit", "miss"]),
    json=few(["", "valid", "retried"]),
    saved=few([0, 0, 7]),
    usage=few([None, {"prompt_tokens": 3, "completion_tokens": 4}]),
    gone=st.booleans(),
    trace=few(["", "ab" * 16]),
    kept=few([None, (b"secret", 0.0, 1.0)]),
    refresh=calls | st.none(),
)


def counts(metrics: Metrics) -> dict[tuple[str, str], float]:
    return {
        (sample.name, str(sample.labels)): round(sample.value, 9)
        for family in metrics.collect()
        for sample in family.samples
    }


@settings(max_examples=40)
@given(st.lists(records, max_size=4), st.data())
def test_counts_do_not_depend_on_sorts(told, data):
    """However often they are asked for meanwhile."""
    plain, sorted_ = Metrics(UPSTREAMS, MODES), Metrics(UPSTREAMS, MODES)
    for record in told * 2:
        plain.told(record)
        sorted_.told(record, 1.0, sorted_.sorts.of(record))
        if data.draw(st.booleans()):
            assert counts(sorted_) == counts(plain)
    assert counts(sorted_) == counts(plain)


@settings(max_examples=40)
@given(st.lists(records, max_size=4))
def test_lines_do_not_depend_on_sorts(told):
    """A form that is filled in says what would have been written field by field."""
    reader, writer = os.pipe()
    log, metrics = Log(writer, lambda: NOON, level="debug"), Metrics(UPSTREAMS, MODES)
    for record in told * 2:
        log.told(record, NOON, metrics.sorts.of(record))
    log.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        lines = [orjson.loads(line) for line in stream.read().splitlines()]
    stamp = "2023-11-14T22:13:20.250Z"
    assert lines == [orjson.loads(orjson.dumps(particulars(record, stamp))) for record in told * 2]


@settings(max_examples=40)
@given(records)
def test_an_example_holds_nothing_that_the_call_carried(record):
    assert "secret" not in repr(lean(record))


def call(**fields: object) -> Call:
    return Call("r1", "POST", str(fields.get("path", "/v1")), "", [], b"", {}, CHAT)


def record(**fields: object) -> Record:
    return Record(0.0, call=call(**fields), reply=Reply(200, b"", source="upstream"), target=Target("qwen"))


def test_paths_that_callers_make_up_do_not_pile_up():
    """The number of sorts is bounded, and none of the calls before is lost."""
    metrics = Metrics(UPSTREAMS, MODES)
    for number in range(MOST * 3):
        one = record(path=f"/{number}")
        metrics.told(one, 1.0, metrics.sorts.of(one))
    assert len(list(metrics.sorts)) <= MOST
    assert counts(metrics)["guardproxy_requests_total", "{'status': '2xx', 'source': 'upstream'}"] == MOST * 3


@pytest.mark.parametrize(
    "odd",
    [
        Record(0.0, call=call(), reply=None, target=Target("qwen")),
        Record(0.0, call=call(path="/" + "x" * LONG), reply=Reply(200, b""), target=Target("qwen")),
        Record(0.0, call=call(), reply=Reply(200, b""), target=Target("qwen"), retries=1),
        Record(0.0, call=call(), reply=Reply(200, b""), target=Target("qwen"), news=[News(0.0, "a", "b", "c", "d")]),
    ],
)
def test_what_has_a_history_is_of_no_sort(odd):
    assert Metrics(UPSTREAMS, MODES).sorts.of(odd) is None


def test_after_a_reload_sorts_are_met_anew():
    """An upstream that was not known may be known now."""
    metrics = Metrics(("llama",), MODES)
    one = record()
    one.attempts = [Attempt("qwen", "x", "200", Kind.SUCCESS, 0.0, 1.0, first=0.5)]
    metrics.told(one, 1.0, metrics.sorts.of(one))
    metrics.know(UPSTREAMS, MODES)
    metrics.told(one, 1.0, metrics.sorts.of(one))
    assert counts(metrics)["llm_requests_total", "{'model': 'qwen'}"] == 1
    assert counts(metrics)["guardproxy_first_token_seconds_count", "{'model': 'qwen'}"] == 1
