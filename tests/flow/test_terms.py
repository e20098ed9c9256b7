"""What callers say of their own patience, in the words of SDKs and meshes."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.core.steps import Ask
from guardproxy.core.terms import OURS, Terms
from guardproxy.core.values import Call, Kind
from guardproxy.flow.terms import remaining, terms
from guardproxy.guards import breaker
from tests.flow.playbook import GUARDED, House, ask, broke, labels, play, refused, said

PYTHON = (("x-stainless-read-timeout", "600"), ("x-stainless-retry-count", "0"))
"""What openai-python sends with each call."""


@pytest.mark.parametrize(
    "own, stream, found",
    [
        ({}, True, OURS),
        ({"timeout": "20"}, True, Terms(total=19.75, told=True)),
        ({"timeout": "500ms"}, True, Terms(total=0.475, told=True)),
        ({"timeout": "2m"}, True, Terms(total=119.75, told=True)),
        ({"timeout": "1h"}, True, Terms(total=3599.75, told=True)),
        ({"timeout": "1S"}, False, Terms(total=0.95, told=True)),
        ({"read-timeout": "600", "tried": "0"}, True, Terms(first=599.75)),
        ({"read-timeout": "600.0", "tried": "2"}, False, Terms(total=599.75, tried=2)),
        ({"read-timeout": "5", "timeout": "1"}, False, Terms(total=0.95, told=True)),
        ({"priority": "Batch"}, True, Terms(batch=True)),
        ({"priority": "interactive"}, True, Terms()),
    ],
)
def test_what_is_said(own, stream, found):
    assert terms(own, stream=stream) == found


@given(st.text(max_size=12), st.text(max_size=5))
def test_nonsense_is_not_heeded(timeout, tried):
    """Whatever is written there: a call is never refused for it, and never has no time at all."""
    found = terms({"timeout": timeout, "tried": tried, "read-timeout": timeout}, stream=True)
    assert found.total > 0
    assert found.first > 0
    assert 0 <= found.tried < 1000


@pytest.mark.parametrize("text", ["-1", "0", "nan", "inf", "1e999", "soon", "", " ", "5 minutes"])
def test_no_time(text):
    assert terms({"timeout": text}, stream=True).total == inf


def read(*headers, body=b'{"model":"creative"}', **how) -> Call:
    call = House(**how).read(body, headers=headers)
    assert isinstance(call, Call)
    return call


def test_the_deadline_is_the_nearer_one():
    """Ours holds for who waits longer; his, a little less, for who does not."""
    assert read(*PYTHON).deadline == 599.75
    assert read(*PYTHON, total=60.0).deadline == 60.0
    assert read(("X-Request-Timeout", "10"), total=60.0).deadline == 9.75
    assert read(("X-Request-Timeout", "10"), body=b'{"model":"creative","stream":true}', total=60.0).deadline == 9.75
    assert read(("x-stainless-read-timeout", "10"), body=b'{"model":"creative","stream":true}').deadline == 600.0


def test_who_has_tried_before_is_tried_for_less():
    """The SDK's retries and ours do not multiply: its second try has one of ours, its third none."""
    for tried, attempts in ((0, 3), (1, 2), (2, 1), (9, 1)):
        telling, record = House(share=1.0).begin(headers=(("x-stainless-retry-count", str(tried)),))
        script = [(ask(name), broke(1.0)) for name in ("llama", "mistral", "qwen")]
        play(telling, *script[:attempts])
        assert len(labels(record)) == attempts


def test_the_upstream_is_told_what_is_left():
    """Who has waited for one attempt has less time for the next; nobody is told who did not say it."""
    telling, _ = House().begin(headers=(("X-Request-Timeout", "10"),))
    first = telling.send(None)
    assert isinstance(first, Ask)
    assert dict(first.headers)[b"X-Request-Timeout"] == b"9.750"
    second = telling.send(broke(4.0))
    assert isinstance(second, Ask)
    assert dict(second.headers)[b"X-Request-Timeout"] == b"5.750"
    telling.close()
    telling, _ = House().begin(headers=PYTHON)
    first = telling.send(None)
    assert isinstance(first, Ask)
    assert b"X-Request-Timeout" not in dict(first.headers)
    telling.close()
    assert remaining([(b"x-request-TIMEOUT", b"9"), (b"a", b"b")], -1.0, stream=True) == [
        (b"x-request-TIMEOUT", b"0.001"),
        (b"a", b"b"),
    ]


@pytest.mark.parametrize("stream, told", [(False, b"593.000"), (True, b"600")])
def test_a_second_attempt_is_not_told_of_time_that_has_passed(stream, told):
    """An SDK's read timeout is one for the whole of an answer in one piece; for a stream it is not ours to count."""
    sdk = (("x-stainless-read-timeout", "600"),)
    body = b'{"model":"creative","stream":true}' if stream else b'{"model":"creative"}'
    telling, _ = House(total=597.0).begin(body, headers=sdk)
    first = telling.send(None)
    assert isinstance(first, Ask)
    assert dict(first.headers)[b"x-stainless-read-timeout"] == b"600"
    second = telling.send(broke(4.0))
    assert isinstance(second, Ask)
    assert dict(second.headers)[b"x-stainless-read-timeout"] == told
    telling.close()


@pytest.mark.parametrize("slow", [broke(30.0, "upstream_timeout", status=504), refused(30.0, 500)])
def test_what_ate_the_deadline_is_not_tried_again(slow):
    """An upstream that took thirty seconds to fail, however, is not asked once more when there are ten left."""
    never = (("X-Guardproxy-Downshift", "never"),)
    calm = breaker.Settings(minimum_requests=9)
    telling, record = House(total=40.0, share=1.0, circuit=calm).begin(headers=never)
    reply = play(telling, (ask("llama"), replace(slow)))
    assert reply.status == slow.status
    assert len(record.attempts) == 1
    telling, _ = House(total=40.0, share=1.0).begin()
    play(telling, (ask("llama"), replace(slow)), (ask("mistral"), said(31.0)))
    telling, _ = House(total=80.0, share=1.0, circuit=calm).begin(headers=never)
    play(telling, (ask("llama"), replace(slow)), (ask("llama"), said(31.0)))


def test_who_is_in_a_hurry_gets_what_there_is():
    """Where a caller's own time is up, something stale or declared is better for him than an error."""
    telling, record = House(fallback={"x": 9}).begin(headers=(*GUARDED, ("X-Request-Timeout", "5")))
    late = broke(4.75, "upstream_timeout", status=504, kind=Kind.IGNORED)
    reply = play(telling, (ask("llama"), late))
    assert (reply.status, reply.source) == (200, "fallback")
    assert len(record.attempts) == 1
    telling, _ = House(fallback={"x": 9}).begin(headers=GUARDED)
    assert play(telling, (ask("llama"), refused(1.0, 400))).status == 400
