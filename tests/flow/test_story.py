"""The story of a call, told to its end in every way in which it can end."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest

from guardproxy.core.guard import Guard
from guardproxy.core.heft import LIGHT
from guardproxy.core.steps import Ask, Pause, Weigh
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Kind, News, Record, Refusal, Relayed, Reply, Target
from guardproxy.flow.rules import Retry
from guardproxy.flow.unread import FORGET
from guardproxy.guards import breaker, cache, health, schema
from guardproxy.guards.health import Check
from guardproxy.openai.events import raw_event
from guardproxy.openai.weighing import Weighing
from tests.flow.playbook import (
    GUARDED,
    NEVER,
    TOUCHY,
    House,
    answered,
    ask,
    broke,
    code,
    header,
    labels,
    play,
    refused,
    said,
)

CALM = replace(TOUCHY, minimum_requests=100)
"""Circuits that stay closed, for tests that are not about them."""


def test_an_answer_is_passed_on():
    """What the model said is what the app gets, byte for byte."""
    house = House()
    telling, record = house.begin()
    answer = said(1.5, "hello")
    reply = play(telling, (ask("llama", "creative"), answer))
    assert (reply.status, reply.body, reply.source, reply.keepable) == (200, answer.body, "upstream", True)
    assert labels(record) == [("llama", "200", Kind.SUCCESS)]
    attempt = record.attempts[0]
    assert (attempt.model, attempt.started, attempt.seconds, attempt.first) == ("llama-id", 0.0, 1.5, 1.5)
    assert (record.reply, record.retries, record.asks_again, record.json) == (reply, 0, 0, "")
    assert record.usage == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_a_broken_upstream_is_replaced_unseen():
    """A model server that resets the connection costs the app nothing: the next mode answers, at once."""
    house = House(circuit=CALM)
    telling, record = house.begin()
    reply = play(
        telling,
        (ask("llama"), broke(1.0)),
        (ask("mistral", "balanced", "upstream_reset", {"temperature": 0.7, "model": "mistral-id"}), said(2.0)),
    )
    assert reply.status == 200
    assert record.retries == 1
    assert record.target is not None
    assert (record.target.mode, record.target.moved_from, record.target.reason) == (
        "balanced",
        "creative",
        "upstream_reset",
    )
    assert labels(record) == [
        ("llama", "upstream_reset", Kind.FAILURE),
        ("mistral", "200", Kind.SUCCESS),
    ]


@pytest.mark.parametrize("status", [500, 502, 504, 529, 408])
def test_an_upstream_error_is_retried_elsewhere(status):
    """5xx and 408 are the upstream's failure: another one is asked, and the circuit counts it."""
    house = House()
    telling, record = house.begin()
    play(telling, (ask("llama"), refused(1.0, status)), (ask("mistral"), said(2.0)))
    assert house.circuits() == "occ"
    assert record.attempts[0].kind is Kind.FAILURE


def test_the_only_place_is_asked_again_after_a_pause():
    """Where there is one upstream only it gets a moment to breathe: random(0, base * 2^n)."""
    house = House(circuit=CALM, dice=0.5)
    telling, record = house.begin(headers=NEVER)
    reply = play(
        telling,
        (ask("llama"), broke(1.0)),
        (Pause(0.1), 1.1),
        (ask("llama"), broke(2.0)),
        (Pause(0.2), 2.2),
        (ask("llama"), broke(3.0, status=504)),
    )
    assert (reply.status, code(reply)) == (504, "upstream_reset")
    assert header(reply, "x-should-retry") == "false"
    assert record.retries == 2


def test_others_that_cannot_be_asked_are_no_reason_to_hurry():
    """Where every other circuit is open, the one that failed is asked again only after a pause."""
    house = House(circuit=replace(TOUCHY, models={"llama": breaker.Override(minimum_requests=100)}), dice=0.5)
    house.fail("mistral", "qwen")
    telling, _ = house.begin()
    play(telling, (ask("llama"), broke(1.0)), (Pause(0.1), 1.1), (ask("llama"), said(2.0)))


def test_retries_are_bounded():
    """`retry.attempts` counts attempts after the first, over all upstreams together."""
    house = House(circuit=CALM, retry=Retry(attempts=1))
    telling, record = house.begin()
    reply = play(telling, (ask("llama"), broke(1.0)), (ask("mistral"), broke(2.0, "upstream_timeout", status=504)))
    assert (reply.status, code(reply), record.retries) == (504, "upstream_timeout", 1)
    telling, _ = House(circuit=CALM, retry=Retry(attempts=0)).begin()
    assert play(telling, (ask("llama"), broke(1.0))).status == 502


def test_an_outage_is_not_multiplied():
    """Once the budget of an upstream is spent it gets no more retries, whatever `retry.attempts` says."""
    house = House(circuit=CALM, share=0.0, floor=0.1)
    telling, record = house.begin()
    reply = play(telling, (ask("llama"), broke(1.0)), (ask("mistral"), broke(1.0)), (ask("qwen"), broke(1.0)))
    assert record.retries == 2
    telling, record = house.begin(now=1.0)
    reply = play(telling, (ask("llama"), broke(1.0)))
    assert (reply.status, record.retries) == (502, 0)


def test_no_retry_after_the_deadline():
    """A call that has used up its time is over; nobody waits for it any more."""
    house = House(circuit=CALM, total=5.0)
    telling, record = house.begin()
    assert play(telling, (ask("llama"), broke(5.0, "upstream_timeout", status=504))).status == 504
    assert record.retries == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422])
def test_the_callers_mistake_is_his(status):
    """4xx goes back as it is, at once; the circuit does not count it and no other model is bothered."""
    house = House()
    telling, record = house.begin()
    answer = refused(1.0, status)
    reply = play(telling, (ask("llama"), answer))
    assert (reply.status, reply.body, header(reply, "x-should-retry")) == (status, answer.body, None)
    assert house.circuits() == "ccc"
    assert house.breaker.circuits["llama"].rates(1.0) == (0.0, 0.0, 0)
    assert record.attempts[0].kind is Kind.IGNORED


@pytest.mark.parametrize(
    "answer",
    [
        refused(1.0, 429, retry_after="5"),
        refused(1.0, 429),
        refused(1.0, 503, retry_after="5"),
        answered(1.0, 503, b'{"error":{"message":"Loading model"}}'),
    ],
)
def test_a_throttled_upstream_is_well(answer):
    """429 and 503 with Retry-After ask for less: another mode answers, and the circuit does not count it."""
    house = House()
    telling, record = house.begin()
    play(telling, (ask("llama"), answer), (ask("mistral"), said(2.0)))
    assert house.circuits() == "ccc"
    assert house.breaker.circuits["llama"].rates(2.0) == (0.0, 0.0, 0)
    assert record.attempts[0].kind in (Kind.THROTTLED, Kind.WARMING)


def test_a_throttled_upstream_is_not_asked_before_its_time():
    """Where nobody else is there the call waits as long as it was told to, if that is not long."""
    house = House()
    telling, _ = house.begin(headers=NEVER)
    play(telling, (ask("llama"), refused(1.0, 429, retry_after="5")), (Pause(5.0), 6.0), (ask("llama"), said(7.0)))


def test_a_long_wait_is_the_callers():
    """Nobody is kept waiting half a minute for a rate limit: the 429 goes back with its Retry-After."""
    telling, record = House().begin(headers=NEVER)
    reply = play(telling, (ask("llama"), refused(1.0, 429, retry_after="30")))
    assert (reply.status, header(reply, "Retry-After"), record.retries) == (429, "30", 0)


@pytest.mark.parametrize(
    "given, sent", [("60", "60"), ("1000000000", "3600"), ("-5", None), ("soon", None), ("nan", None)]
)
def test_retry_after_makes_sense(given, sent):
    """SDKs sleep as long as they are told, so nonsense of an upstream does not reach them."""
    telling, _ = House(circuit=CALM, retry=Retry(attempts=0)).begin()
    reply = play(telling, (ask("llama"), refused(1.0, 429, retry_after=given)))
    assert (reply.status, header(reply, "Retry-After")) == (429, sent)


def test_quota_is_no_throttle():
    """An exhausted quota stays exhausted: the 429 goes back at once."""
    telling, record = House().begin()
    reply = play(telling, (ask("llama"), refused(1.0, 429, "insufficient_quota")))
    assert (reply.status, record.attempts[0].kind) == (429, Kind.IGNORED)


# -- answers that break their schema


def test_a_bad_answer_is_asked_again_with_the_reason():
    """The model is told what it said and what is wrong with it; the wait doubles, with chance on top."""
    house = House(dice=0.5)
    telling, record = house.begin(headers=GUARDED)
    first = telling.send(None)
    assert first == ask("llama")
    pause = telling.send(said(1.0, "Here you are: {x}"))
    assert pause == Pause(1.0 + 0.25)
    second = telling.send(2.25)
    assert isinstance(second, Ask)
    turns = json.loads(second.body)["messages"]
    assert turns[0] == {"role": "assistant", "content": "Here you are: {x}"}
    assert turns[1]["role"] == "user"
    assert "not valid JSON" in turns[1]["content"]
    reply = play_on(telling, (said(3.0, '{"y": 1}'), Pause(2.25)), (5.25, ask("llama")), (said(6.0), None))
    assert reply.status == 200
    assert (record.asks_again, record.retries, record.json) == (2, 0, "retried")
    assert record.parse_failures == ["llama", "llama"]


def play_on(telling, *script):
    """Play on from the middle: what came of the last step, then the next one, or None at the end."""
    for outcome, expected in script:
        if expected is None:
            with pytest.raises(StopIteration) as end:
                telling.send(outcome)
            return end.value.value
        assert telling.send(outcome) == expected
    raise AssertionError


def bad(rounds: int, start: float = 1.0):
    """A script of *rounds* bad answers and the waits of one second, two, four … between them."""
    script: list[tuple[object, object]] = []
    now = start
    for number in range(rounds):
        script.append((ask("llama"), said(now, "no")))
        if number < rounds - 1:
            now += 2.0**number
            script.append((Pause(2.0**number), now))
    return script


def test_asks_are_counted_then_the_fallback_answers():
    """Exactly max_retries + 1 asks, then the declared fallback, as an answer of the kind the app waits for."""
    house = House(fallback={"x": 7})
    telling, record = house.begin(headers=GUARDED)
    reply = play(telling, *bad(4))
    assert (reply.status, reply.source, record.json, record.fallback) == (200, "fallback", "fallback", "brief")
    assert json.loads(json.loads(reply.body)["choices"][0]["message"]["content"]) == {"x": 7}
    assert (record.asks_again, record.retries, record.parse_failures) == (3, 0, ["llama"] * 4)
    assert not reply.keepable
    assert len(house.cache.entries) == 0
    assert house.circuits() == "ccc"  # the quality of an answer is not the health of its server


def test_a_fallback_streams_where_a_stream_is_awaited():
    """An app that wants events gets the fallback as events, closed by [DONE]."""
    house = House(fallback={"x": 7})
    body = b'{"model":"creative","stream":true,"messages":[]}'
    telling, _ = house.begin(body, headers=GUARDED)
    reply = play(telling, *bad(4))
    assert reply.events
    assert (header(reply, "Content-Type"), reply.body[-16:]) == ("text/event-stream", b"\n\ndata: [DONE]\n\n")


def test_no_fallback_is_a_502_that_sdks_do_not_retry():
    """Without a fallback the app hears what was wrong, and its SDK is told to leave it."""
    telling, record = House().begin(headers=GUARDED)
    reply = play(telling, *bad(4))
    assert (reply.status, code(reply), header(reply, "x-should-retry")) == (502, "invalid_model_output", "false")
    assert record.json == ""


def test_stale_is_better_than_the_fallback():
    """What a model has once said is better than what nobody has: stale-if-error comes before the fallback."""
    keeps = cache.Settings(ttl_seconds=Seconds(60), stale_if_error_seconds=Seconds(600))
    house = House(fallback={"x": 7}, keeps=keeps)
    telling, _ = house.begin(headers=GUARDED)
    kept = play(telling, (ask("llama"), said(1.0)))
    telling, record = house.begin(headers=GUARDED, now=91.0)
    reply = play(telling, *bad(4, 91.0))
    assert (reply.source, reply.body) == ("stale", kept.body)
    assert record.cache == "hit; ttl=-37; detail=stale-if-error"
    assert (record.fallback, record.json) == ("", "valid")


def test_asking_again_ends_with_the_deadline():
    """A re-ask that could not be answered in time is not waited for."""
    house = House(fallback={"x": 7}, total=2.5)
    telling, record = house.begin(headers=GUARDED)
    reply = play(
        telling,
        (ask("llama"), said(1.0, "no")),
        (Pause(1.0), 2.0),
        (ask("llama"), said(2.2, "no")),
    )
    assert (reply.source, record.asks_again) == ("fallback", 1)


def test_no_retries_of_answers_at_all():
    """`max_retries: 0` judges and asks nobody twice."""
    telling, record = House(retry=Retry(asks_again=0)).begin(headers=GUARDED)
    assert play(telling, (ask("llama"), said(1.0, "no"))).status == 502
    assert record.asks_again == 0


def test_a_valid_answer_is_labelled():
    """`valid` says that it was so at the first time of asking."""
    telling, record = House().begin(headers=GUARDED)
    play(telling, (ask("llama"), said(1.0)))
    assert (record.json, record.parse_failures) == ("valid", [])


def test_a_lenient_schema_counts_and_lets_pass():
    """`strict_schema: false` lets JSON of the wrong shape pass, counted; text that is no JSON never."""
    house = House(json_guard=schema.Settings(strict_schema=False))
    telling, record = house.begin(headers=GUARDED)
    assert play(telling, (ask("llama"), said(1.0, "{}"))).status == 200
    assert (record.json, record.parse_failures) == ("unchecked", ["llama"])
    telling, record = house.begin(headers=GUARDED, body=b'{"model":"creative","n":1}')
    assert telling.send(None) == ask("llama")
    assert telling.send(said(1.0, "no")) == Pause(1.0)


def test_one_bad_choice_spoils_the_answer():
    """With n > 1 the answer is taken whole or not at all: choices of two answers are never mixed."""
    doc = json.loads(said(1.0).body)
    doc["choices"].append({**doc["choices"][0], "index": 1, "message": {"role": "assistant", "content": "no"}})
    telling, record = House().begin(b'{"model":"creative","n":2}', headers=GUARDED)
    assert telling.send(None) == ask("llama")
    assert telling.send(answered(1.0, 200, json.dumps(doc).encode())) == Pause(1.0)
    assert record.parse_failures == ["llama"]


def test_a_cut_answer_is_asked_again():
    """JSON cut off at a length is no JSON."""
    telling, _ = House().begin(headers=GUARDED)
    assert telling.send(None) == ask("llama")
    assert telling.send(said(1.0, '{"x": ', "length")) == Pause(1.0)


def test_an_upstream_that_breaks_between_re_asks():
    """A failure among re-asks goes to another model, with the conversation as far as it has come."""
    house = House(circuit=CALM)
    telling, record = house.begin(headers=GUARDED)
    reply = play(
        telling,
        (ask("llama"), said(1.0, "no")),
        (Pause(1.0), 2.0),
        (ask("llama"), broke(3.0)),
        (ask("mistral"), said(4.0)),
    )
    assert reply.status == 200
    assert (record.asks_again, record.retries, record.json) == (1, 1, "retried")


# -- circuits


def test_nobody_left_to_ask():
    """Every circuit open: 503 within the proxy, no upstream touched, and when to come back."""
    house = House()
    house.fail("llama", "mistral", "qwen")
    telling, record = house.begin(now=4.0)
    reply = play(telling)
    assert (reply.status, code(reply)) == (503, "circuit_open")
    assert (header(reply, "Retry-After"), header(reply, "x-should-retry")) == ("6", "false")
    assert (record.attempts, record.target, record.retries) == ([], None, 0)


def test_retry_after_of_ours_is_small():
    """SDKs sleep as long as they are told: never more than half a minute, though the circuit is due in an hour."""
    house = House(circuit=replace(TOUCHY, timeout=Seconds(3600)))
    house.fail("llama", "mistral", "qwen")
    telling, _ = house.begin(now=4.0)
    reply = play(telling)
    assert header(reply, "Retry-After") == "30"
    assert b"due in 3596 s" in reply.body


def test_nobody_left_and_a_fallback():
    """An outage of all models is not an outage of an app that has declared what to say then."""
    house = House(fallback={"x": 7})
    house.fail("llama", "mistral", "qwen")
    telling, record = house.begin(headers=GUARDED, now=1.0)
    assert play(telling).source == "fallback"
    assert record.attempts == []


def test_the_last_real_error():
    """Where none is left the caller hears the last one's error; no retry is counted that was none."""
    house = House()
    house.fail("mistral", "qwen")
    telling, record = house.begin()
    reply = play(telling, (ask("llama"), broke(1.0, "upstream_timeout", status=504)))
    assert (reply.status, code(reply)) == (504, "upstream_timeout")
    assert record.retries == 0
    assert house.circuits() == "ooo"


def test_a_caller_who_leaves_gives_his_probe_back():
    """A hang-up in the middle of a half-open probe neither closes the circuit nor blocks it."""
    house = House()
    house.fail("llama")
    telling, record = house.begin(headers=NEVER, now=11.0)
    assert telling.send(None) == ask("llama")
    assert house.circuits() == "hcc"
    assert not house.breaker.available("llama", 11.0)
    telling.close()
    assert house.circuits() == "hcc"
    assert house.breaker.available("llama", 11.0)
    assert labels(record) == [("llama", "gone", Kind.IGNORED)]
    assert record.asking is False


def test_a_caller_who_leaves_while_waiting():
    """Leaving during a pause holds nothing back, and a re-ask that never was is not counted."""
    house = House()
    telling, record = house.begin(headers=GUARDED)
    assert telling.send(None) == ask("llama")
    assert telling.send(said(1.0, "no")) == Pause(1.0)
    telling.close()
    assert (record.asks_again, len(record.attempts)) == (0, 1)


def test_a_failed_probe_is_retried_lower_unseen():
    """The probe of a due circuit is a caller's call; when it fails he gets his answer from the mode below."""
    house = House()
    house.fail("llama")
    telling, record = house.begin(now=11.0)
    reply = play(telling, (ask("llama", "creative"), broke(12.0)), (ask("mistral", "balanced"), said(13.0)))
    assert reply.status == 200
    assert house.circuits() == "occ"
    assert house.breaker.circuits["llama"].until == 27.0
    assert [(one.old, one.new) for one in record.news] == [("open", "half_open"), ("half_open", "open")]


def test_a_throttle_that_lasted_ends_with_its_time():
    """The ceiling has fallen for it, and stays down for a while: calls for the mode itself find out that it is over."""
    house = House()
    telling, _ = house.begin()
    play(
        telling,
        (ask("llama", "creative"), refused(1.0, 429, **{"Retry-After": "20"})),
        (ask("mistral", "balanced"), said(2.0)),
    )
    house.rules.tick(2.0)
    assert house.modes.state(2.0)["ceiling"] == "balanced"
    later = b'{"model":"creative","messages":[%d]}'
    telling, _ = house.begin(later % 1, now=15.0)
    play(telling, (ask("mistral", "balanced"), said(16.0)))
    telling, _ = house.begin(later % 2, now=25.0)
    play(telling, (ask("llama", "creative"), said(26.0)))


def test_a_failed_probe_costs_its_caller_nothing():
    """Whoever has no retries left, or an upstream no budget, is asked elsewhere all the same: it was our experiment."""
    for house in (House(retry=Retry(attempts=0)), House(share=0.0, floor=0.0)):
        house.fail("llama")
        telling, record = house.begin(now=11.0)
        reply = play(telling, (ask("llama", "creative"), broke(12.0)), (ask("mistral", "balanced"), said(13.0)))
        assert (reply.status, len(record.attempts)) == (200, 2)
        telling, record = house.begin(b'{"model":"creative","messages":[1]}', now=14.0)
        assert play(telling, (ask("mistral", "balanced"), broke(15.0))).status == 502  # that one was none


def test_a_probe_that_says_nothing_is_given_up():
    """Half a minute is enough, or half of what there is: the call goes on elsewhere, the circuit waits for a check."""
    short = House(total=20.0)
    short.fail("llama")
    step = short.begin(now=11.0)[0].send(None)
    assert isinstance(step, Ask)
    assert step.within == 21.0
    house = House()
    house.fail("llama")
    telling, record = house.begin(now=11.0)
    first = telling.send(None)
    assert isinstance(first, Ask)
    assert (first.target.upstream, first.within) == ("llama", 41.0)
    second = telling.send(broke(41.0, "upstream_timeout", status=504, kind=Kind.IGNORED, again=False))
    assert isinstance(second, Ask)
    assert (second.target.upstream, second.within) == ("mistral", inf)
    with pytest.raises(StopIteration) as end:
        telling.send(said(42.0))
    assert end.value.value.status == 200
    assert house.circuits() == "hcc"
    assert (house.breaker.available("llama", 42.0), house.breaker.waits("llama", 42.0)) == (False, True)
    assert labels(record)[0] == ("llama", "upstream_timeout", Kind.IGNORED)


def test_a_probe_that_may_go_nowhere_else_takes_its_time():
    """A strict call is worth more than a verdict; a call of a circuit that is closed is no experiment."""
    house = House()
    house.fail("llama")
    for telling, _ in (house.begin(headers=NEVER, now=11.0), house.begin(b'{"model":"fast","messages":[]}', now=11.0)):
        step = telling.send(None)
        assert isinstance(step, Ask)
        assert step.within == inf
        telling.close()


def test_a_good_probe_closes_the_circuit():
    """The call that proves the model well is answered by it."""
    house = House()
    house.fail("llama")
    telling, record = house.begin(now=11.0)
    play(telling, (ask("llama", "creative"), said(12.0)))
    assert house.circuits() == "ccc"
    assert [(one.what, one.new) for one in record.news] == [("circuit", "half_open"), ("circuit", "closed")]


def test_health_is_advice():
    """A model that failed its checks is asked last, but it is asked: better an ill model than none."""
    house = House()
    for name in ("llama", "mistral"):
        house.health.take(name, Check(0.0, ok=False, seconds=1.0))
    telling, _ = house.begin(now=1.0)
    play(telling, (ask("qwen", "fast"), said(2.0)))
    house.health.take("qwen", Check(1.0, ok=False, seconds=1.0))
    telling, _ = house.begin(now=2.0, body=b'{"model":"creative","seed":1}')
    play(telling, (ask("llama", "creative"), said(3.0)))


def test_advice_costs_no_probe():
    """A model that health advises against is not half-opened by asking for permission and not using it."""
    house = House()
    house.fail("llama")
    house.health.take("llama", Check(0.0, ok=False, seconds=1.0))
    telling, _ = house.begin(now=11.0)
    play(telling, (ask("mistral"), said(12.0)))
    assert house.circuits() == "occ"


def test_never_downshift():
    """A caller who wants this model or none gets just that, without a detour."""
    house = House()
    house.fail("llama")
    telling, _ = house.begin(headers=NEVER, now=1.0)
    reply = play(telling)
    assert (reply.status, code(reply), header(reply, "Retry-After")) == (503, "circuit_open", "9")


def test_news_spread():
    """A circuit opens, the ceiling falls past the mode that is open too; each is told once."""
    house = House()
    house.fail("mistral")
    assert house.modes.ceiling is not None
    assert house.modes.ceiling.at == 0
    telling, record = house.begin(now=1.0)
    play(telling, (ask("llama"), broke(2.0)), (ask("qwen", "fast"), said(3.0)))
    assert house.modes.ceiling.at == 2
    assert [(one.what, one.subject, one.old, one.new) for one in record.news] == [
        ("circuit", "llama", "closed", "open"),
        ("ceiling", "ceiling", "creative", "balanced"),
        ("ceiling", "ceiling", "balanced", "fast"),
    ]


# -- calls that are only relayed, and answers that have left already


def test_other_paths_are_relayed_once():
    """A path whose meaning is not known here is asked for once, whatever comes of it; no circuit counts it."""
    house = House()
    telling, record = house.begin(b"", target="/llama/v1/files", method="POST")
    reply = play(telling, (ask("llama"), broke(1.0)))
    assert (reply.status, code(reply)) == (502, "upstream_reset")
    assert house.circuits() == "ccc"
    assert (record.retries, len(record.attempts)) == (0, 1)
    house.fail("llama")
    telling, _ = house.begin(b"", target="/llama/v1/files", method="GET", now=1.0)
    relayed = Relayed(2.0, 404, [(b"X", b"y")], Kind.IGNORED, complete=True)
    reply = play(telling, (ask("llama"), relayed))
    assert (reply.sent, reply.status) == (True, 404)


def test_a_stream_that_broke_is_counted_and_not_retried():
    """Once bytes have left nothing can be taken back: the circuit counts the failure, and that is all."""
    house = House()
    telling, record = house.begin(b'{"model":"creative","stream":true}')
    step = telling.send(None)
    assert isinstance(step, Ask)
    assert step.relay
    with pytest.raises(StopIteration) as end:
        telling.send(Relayed(2.0, 200, [], Kind.FAILURE, first=1.0))
    assert end.value.value.sent
    assert house.circuits() == "occ"
    assert (record.retries, record.attempts[0].first) == (0, 1.0)
    assert len(house.cache.entries) == 0


def test_a_committed_fault_is_final():
    """A fault after the caller has seen bytes is not tried again."""
    telling, _ = House().begin()
    assert play(telling, (ask("llama"), broke(1.0, committed=True))).status == 502


def test_a_stream_with_a_schema_is_held():
    """Nothing of a guarded stream may leave before all of it has been judged."""
    telling, _ = House().begin(b'{"model":"creative","stream":true}', headers=GUARDED)
    step = telling.send(None)
    assert isinstance(step, Ask)
    assert not step.relay


def events(*texts, finish="stop"):
    """The same as a stream."""
    pieces = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    pieces.append({"index": 0, "delta": {}, "finish_reason": finish})
    body = b"".join(raw_event(json.dumps({"id": "c", "choices": [piece]}).encode()) for piece in pieces)
    return [(b"Content-Type", b"text/event-stream")], body + raw_event(b"[DONE]")


def test_a_guarded_answer_is_streamed_to_us():
    """Somebody reads along although the app does not stream; what it gets is one JSON document."""
    telling, record = House().begin(headers=GUARDED)
    step = telling.send(None)
    assert isinstance(step, Ask)
    assert (step.streams, step.relay, step.watch is None) == (True, False, False)
    headers, body = events('{"x"', ": 1}")
    reply = play_on(telling, (Answer(1.0, 200, headers, body, first=0.5), None))
    assert (header(reply, "Content-Type"), reply.events, record.json) == ("application/json", False, "valid")
    doc = json.loads(reply.body)
    assert doc["choices"][0]["message"] == {"role": "assistant", "content": '{"x": 1}'}


def test_an_upstream_that_refuses_to_stream_is_asked_plainly():
    """The app did not ask for a stream, so an error about streaming is not its: it is asked again, as the app wrote."""
    telling, record = House().begin(headers=GUARDED)
    complains = refused(1.0, 400, "stream_options: extra fields not permitted")
    assert telling.send(None) == ask("llama", has={"stream": True})
    plain = telling.send(complains)
    assert isinstance(plain, Ask)
    assert (plain.target.upstream, plain.streams, plain.watch) == ("llama", False, None)
    assert "stream" not in json.loads(plain.body)
    reply = play_on(telling, (said(2.0), None))
    assert (reply.status, record.json, record.retries, len(record.attempts)) == (200, "valid", 0, 2)


def test_a_refusal_to_stream_is_remembered():
    """The next calls are asked whole at once, until that is forgotten; 501 is one too, and held against nobody."""
    house = House()
    guarded = (*GUARDED, ("Cache-Control", "no-store"))
    for now, status in ((0.0, 400), (FORGET + 10.0, 501)):
        telling, record = house.begin(headers=guarded, now=now)
        assert telling.send(None) == ask("llama", has={"stream": True})
        complains = refused(now + 1.0, status, "Streaming is not supported")
        complains.kind = Kind.FAILURE if status > 500 else complains.kind
        plain = telling.send(complains)
        assert isinstance(plain, Ask)
        assert not plain.streams
        play_on(telling, (said(now + 2.0), None))
        assert [attempt.kind for attempt in record.attempts] == [Kind.IGNORED, Kind.SUCCESS]
        telling, _ = house.begin(headers=guarded, now=now + 3.0)
        plain = telling.send(None)
        assert isinstance(plain, Ask)
        assert not plain.streams
        telling.close()
    assert repr(house.rules.unread) == "<Unread llama>"


def test_a_refusal_of_something_else_is_not():
    """Who does not answer in one piece either has refused something else."""
    house = House()
    telling, _ = house.begin(headers=GUARDED)
    play(telling, (ask("llama"), refused(1.0, 400, "upstream says no")), (ask("llama"), refused(2.0, 400, "no")))
    telling, _ = house.begin(headers=GUARDED, now=3.0)
    assert telling.send(None) == ask("llama", has={"stream": True})


def test_an_error_of_the_apps_own_is_passed_on_at_once():
    """One that says nothing of streams is the caller's, and one about a stream that he asked for is his too."""
    telling, _ = House().begin(headers=GUARDED)
    assert play(telling, (ask("llama"), refused(1.0, 400, "bad"))).status == 400
    telling, _ = House().begin(b'{"model":"creative","stream":true}', headers=GUARDED)
    assert play(telling, (ask("llama"), refused(1.0, 400, "stream"))).status == 400


def test_a_hopeless_answer_is_asked_again():
    """What was ended early counts as an answer that was not valid, and its reason is what the model is told."""
    telling, record = House().begin(headers=GUARDED)
    first = telling.send(None)
    assert isinstance(first, Ask)
    headers, body = events('{"x": "')
    assert telling.send(Answer(1.0, 200, headers, body[:-20], hopeless="x: expected a number")) == Pause(1.0)
    again = telling.send(2.0)
    assert isinstance(again, Ask)
    turns = json.loads(again.body)["messages"]
    assert turns[0]["content"] == '{"x": "'
    assert "x: expected a number" in turns[1]["content"]
    assert (record.aborted, record.parse_failures) == (1, ["llama"])
    assert [attempt.kind for attempt in record.attempts] == [Kind.SUCCESS]


LONG = json.dumps({"x": 1, "y": "y" * LIGHT})


def test_a_long_answer_is_weighed():
    """What is too much work for the loop is put as a question; the story goes on when its answer is there."""
    telling, record = House().begin(headers=GUARDED)
    assert telling.send(None) == ask("llama")
    weigh = telling.send(said(1.0, LONG))
    assert isinstance(weigh, Weigh)
    weigh.answer = Weighing()(weigh.question)
    reply = play_on(telling, (1.5, None))
    assert (reply.status, record.json) == (200, "valid")


def test_an_answer_that_cannot_be_weighed_is_asked_for_again():
    """Nobody may have it unchecked: the next rung, with the time that has passed meanwhile."""
    house = House(fallback={"x": 7}, total=4.0)
    telling, record = house.begin(headers=GUARDED)
    telling.send(None)
    assert isinstance(telling.send(said(1.0, LONG)), Weigh)
    assert telling.send(2.5) == Pause(1.0)
    assert telling.send(3.5) == ask("llama")
    assert isinstance(telling.send(said(3.8, LONG)), Weigh)
    reply = play_on(telling, (3.9, None))
    assert (reply.source, record.json, record.parse_failures) == ("fallback", "fallback", ["llama", "llama"])


@pytest.mark.parametrize("text, label, kept", [('{"x": 1}', "valid", True), ('{"x": ""}', "unchecked", False)])
def test_a_stream_that_is_only_reported(text, label, kept):
    """It has left before it was judged; what is wrong is counted and not kept."""
    house = House(json_guard=schema.Settings(stream_validation="report"))
    telling, record = house.begin(b'{"model":"creative","stream":true,"messages":[]}', headers=GUARDED)
    step = telling.send(None)
    assert isinstance(step, Ask)
    assert (step.relay, step.call.keep) == (True, True)
    headers, body = events(text)
    relayed = Relayed(1.0, 200, headers, Kind.SUCCESS, 0.5, complete=True, keepable=True, body=body)
    play_on(telling, (relayed, None))
    assert (record.json, record.parse_failures) == (label, [] if kept else ["llama"])
    assert len(house.cache.entries) == int(kept)


def test_a_slow_answer_is_an_answer():
    """It came late, but it came: the app gets it; the circuit has known since it was late, the next tick tells it."""
    house = House(patience={"llama": 30.0})
    telling, record = house.begin(b'{"model":"creative","messages":[],"stream":true}')
    step = telling.send(None)
    assert isinstance(step, Ask)
    assert step.patience == 30.0
    assert step.late is not None
    step.late(30.0)
    assert house.circuits() == "occ"
    told = [(news.what, news.new, news.reason) for news in house.rules.tick(31.0)]
    assert told == [("circuit", "open", "slow"), ("ceiling", "balanced", "slow")]
    with pytest.raises(StopIteration) as end:
        telling.send(Relayed(40.0, 200, [], Kind.SUCCESS, complete=True))
    assert end.value.value.status == 200
    assert labels(record) == [("llama", "200", Kind.SLOW)]
    assert house.rules.tick(41.0) == []


def test_who_cannot_be_late():
    """An answer in one piece has no first token; who has no patience set is never told."""
    for body, patience in ((b'{"model":"creative","messages":[]}', 30.0), (b'{"model":"creative","stream":true}', 0.0)):
        telling, _ = House(patience={"llama": patience}).begin(body)
        step = telling.send(None)
        assert isinstance(step, Ask)
        assert step.patience == 0.0


# -- what is kept, and what a caller does without


def test_an_answer_is_kept_under_the_mode_that_gave_it():
    """A downshifted answer is never shown as the stronger mode's."""
    house = House()
    house.fail("llama")
    telling, record = house.begin(now=1.0)
    play(telling, (ask("mistral", "balanced", "circuit_open"), said(2.0, "from below")))
    assert record.cache == "fwd=miss; stored"
    again = house.admit(Record(3.0), b'{"model":"creative","messages":[]}', now=3.0)
    assert isinstance(again, Reply)  # while the ceiling is down, it is what such a call gets
    for step in range(2):  # the model is well, and the ceiling rises
        telling, _ = house.begin(b'{"model":"creative","seed":%d}' % step, now=11.0 + step, headers=NEVER)
        play(telling, (ask("llama"), said(12.0 + step)))
    list(house.rules.tick(90.0))
    assert house.modes.ceiling is not None
    assert house.modes.ceiling.at == 0
    telling, _ = house.begin(now=91.0)
    play(telling, (ask("llama", "creative"), said(92.0)))


def test_an_unseen_retry_is_kept_where_it_was_given():
    """The answer of a retry goes under the place that gave it, not under the one that was asked first."""
    house = House(circuit=CALM)
    telling, record = house.begin()
    play(telling, (ask("llama"), broke(1.0)), (ask("mistral"), said(2.0, "from below")))
    assert record.cache == "fwd=miss; stored"
    telling, _ = house.begin(now=3.0)
    play(telling, (ask("llama"), said(4.0, "from above")))


def test_skip_turns_guards_off():
    """A caller may do without guards by name: no schema, no cache, no circuit."""
    house = House()
    skip = (*GUARDED, ("X-Guardproxy-Skip", "cache, json"))
    telling, record = house.begin(headers=skip)
    assert play(telling, (ask("llama"), said(1.0, "no"))).status == 200
    assert (record.cache, record.json, len(house.cache.entries)) == ("", "", 0)
    house.fail("llama")
    headers = (*NEVER, ("X-Guardproxy-Skip", "breaker"))
    telling, _ = house.begin(headers=headers, now=1.0)
    play(telling, (ask("llama"), said(2.0)))
    assert house.circuits() == "occ"  # what was not permitted by it says nothing to it


@pytest.mark.parametrize("skip", ["modes", "modes, cache, json, health, breaker", ",", "nobody"])
def test_nobody_can_do_without_a_place(skip):
    """To skip the modes is to forbid a downshift, not to go nowhere."""
    house = House()
    telling, record = house.begin(headers=[("X-Guardproxy-Skip", skip)])
    play(telling, (ask("llama", "creative"), said(1.0)))
    assert record.target is not None
    if "modes" in skip:
        telling, _ = house.begin(b'{"model":"creative","seed":1}', headers=[("X-Guardproxy-Skip", skip)], now=2.0)
        assert telling.send(None) == ask("llama")


# -- guards of others


class Gate(Guard):
    """Counts its tokens."""

    name = "gate"

    def __init__(self, refuse: str = "") -> None:
        self.refuse = refuse
        self.out: list[object] = []
        self.heard: list[News] = []

    def permit(self, target, now):
        if target.upstream == self.refuse:
            return Refusal("gate", now + 3.0)
        token = object()
        self.out.append(token)
        return token

    def observe(self, target, token, outcome, now):
        self.out.remove(token)

    def hear(self, news, now):
        self.heard.append(news)


def test_tokens_taken_before_a_refusal_are_given_back():
    """A gate that let an attempt pass which another one refused is told that nothing came of it."""
    first, second = Gate(), Gate(refuse="llama")
    telling, _ = House(more=[first, second]).begin()
    assert telling.send(None) == ask("mistral")
    assert (len(first.out), len(second.out)) == (1, 1)
    play_on(telling, (said(1.0), None))
    assert first.out == second.out == []


def test_every_permit_is_observed_once():
    """Retries, re-asks, a caller who leaves: no token is ever left over."""
    gate = Gate()
    house = House(more=[gate], circuit=CALM)
    telling, _ = house.begin(headers=GUARDED)
    play(
        telling,
        (ask("llama"), broke(1.0)),
        (ask("mistral"), said(2.0, "no")),
        (Pause(1.0), 3.0),
        (ask("mistral"), said(4.0)),
    )
    assert gate.out == []
    telling, _ = house.begin(b'{"model":"creative","seed":1}')
    assert telling.send(None) == ask("llama")
    assert len(gate.out) == 1
    telling.close()
    assert gate.out == []


def test_a_bug_in_a_guard_is_no_success():
    """An answer that could not be read because of a bug of ours gives the permit back, and counts for nobody."""
    gate = Gate()
    house = House(more=[gate])
    telling, record = house.begin()
    assert telling.send(None) == ask("llama")
    with pytest.raises(TypeError):
        telling.send(Answer(1.0, 200, None, b""))  # type: ignore[arg-type] # what a bug might be
    assert gate.out == []
    assert labels(record) == [("llama", "gone", Kind.IGNORED)]
    assert house.breaker.circuits["llama"].rates(1.0) == (0.0, 0.0, 0)


def test_who_was_wrong_is_named():
    """What is wrong with an answer is said of the upstream that gave it, also after a move."""
    telling, _ = House(circuit=CALM, retry=Retry(attempts=1)).begin()
    reply = play(telling, (ask("llama"), broke(1.0)), (ask("mistral"), answered(2.0, 200, b"<html>")))
    assert code(reply) == "upstream_protocol"
    assert "mistral" in json.loads(reply.body)["error"]["message"]
    assert "llama" not in json.loads(reply.body)["error"]["message"]


def test_unknown_health_is_health():
    """Before the first check a model is asked all the same."""
    assert health.Health(health.Settings(), ["llama"]).available("llama", 0.0)


# -- those who ask for less


def test_the_next_call_leaves_a_throttled_upstream_alone():
    """A 429 moves one call; the next ones do not ask again, and say why they were moved."""
    house = House()
    telling, _ = house.begin()
    play(telling, (ask("llama"), refused(1.0, 429, retry_after="5")), (ask("mistral"), said(2.0)))
    telling, record = house.begin(now=3.0, body=b'{"model":"creative","seed":1}')
    play(telling, (ask("mistral", "balanced", "throttled"), said(4.0)))
    assert len(record.attempts) == 1
    telling, _ = house.begin(now=6.0, body=b'{"model":"creative","seed":2}')
    play(telling, (ask("llama", "creative"), said(7.0)))


def test_a_short_wait_is_better_than_an_error():
    """Who may not go elsewhere waits for a moment, and is then let through."""
    house = House()
    telling, _ = house.begin(headers=NEVER)
    step = telling.send(None)
    assert step == ask("llama")
    assert telling.send(refused(1.0, 429, retry_after="2")) == Pause(2.0)
    assert telling.send(3.0) == ask("llama")
    telling.close()
    other, record = house.begin(headers=NEVER, now=1.5, body=b'{"model":"creative","seed":1}')
    assert other.send(None) == Pause(1.5)
    assert other.send(3.0) == ask("llama")
    assert record.attempts == []
    with pytest.raises(StopIteration) as end:
        other.send(said(4.0))
    assert end.value.value.status == 200


def test_a_long_wait_is_not():
    """Where the wait would be too long it is 503 at once, with Retry-After, and trying again may help."""
    house = House()
    house.throttle.observe(Target("llama"), None, Answer(0.0, 429, [], b"", Kind.THROTTLED, retry_after=30.0), 0.0)
    telling, record = house.begin(headers=NEVER, now=1.0)
    reply = play(telling)
    assert (reply.status, code(reply), header(reply, "Retry-After")) == (503, "overloaded", "29")
    assert header(reply, "x-should-retry") is None
    assert record.attempts == []


def test_nobody_waits_past_his_deadline():
    """A wait that ends after the call must be over is none."""
    house = House(total=5.0)
    house.throttle.observe(Target("llama"), None, Answer(0.0, 429, [], b"", Kind.THROTTLED, retry_after=6.0), 0.0)
    telling, _ = house.begin(headers=NEVER, now=0.5)
    assert play(telling).status == 503


def test_waits_end():
    """A ramp that never has room makes nobody wait for ever."""
    house = House()
    house.throttle.observe(Target("llama"), None, Answer(0.0, 429, [], b"", Kind.THROTTLED, retry_after=1.0), 0.0)
    house.throttle.permit(Target("llama"), 1.0)
    telling, _ = house.begin(headers=NEVER, now=1.0)
    waits = [(Pause(1.0), 2.0 + second) for second in range(10)]
    assert play(telling, *waits).status == 503
