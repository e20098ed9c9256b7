"""What a call ends with where no upstream gave an answer."""

from __future__ import annotations

import json

import pytest

from guardproxy.core.values import Call, Fault, Kind, Target, Verdict
from guardproxy.flow import refusals
from tests.flow.playbook import House, answered, code, header


def call() -> Call:
    got = House().read()
    assert isinstance(got, Call)
    got.targets = (Target("llama"), Target("qwen"), Target("llama"))
    return got


@pytest.mark.parametrize("until, wait", [(5.2, "6"), (0.0, "1"), (-9.0, "1"), (1e9, "30"), (float("inf"), "30")])
def test_nobody_left(until, wait):
    """When the next probe is due, in whole seconds from one to thirty; the names are those that were wanted."""
    reply = refusals.nobody_left(call(), until, 0.0)
    assert (reply.status, code(reply), header(reply, "Retry-After")) == (503, "circuit_open", wait)
    assert header(reply, "x-should-retry") == "false"
    assert "llama, qwen" in json.loads(reply.body)["error"]["message"]


def test_gave_up():
    """The app is told what was wrong with the last answer."""
    reply = refusals.gave_up(call(), Verdict("invalid", "it is no JSON"), 0.0)
    assert (reply.status, header(reply, "x-should-retry")) == (502, "false")
    assert "it is no JSON" in json.loads(reply.body)["error"]["message"]


@pytest.mark.parametrize(
    "kind, wait, retry_after, should",
    [
        (Kind.FAILURE, None, None, "false"),
        (Kind.IGNORED, None, None, None),
        (Kind.IGNORED, 0.2, "1", None),
        (Kind.THROTTLED, 99.0, "30", None),
    ],
)
def test_failed(kind, wait, retry_after, should):
    """Our retries are spent: do not multiply them; but what is only full may be tried again, soon."""
    fault = Fault(1.0, "overloaded", "full", 503, kind, retry_after=wait)
    reply = refusals.failed(call(), fault)
    assert (reply.status, code(reply), reply.source, reply.code) == (503, "overloaded", "fault", "overloaded")
    assert (header(reply, "Retry-After"), header(reply, "x-should-retry")) == (retry_after, should)


@pytest.mark.parametrize("kind, should", [(Kind.FAILURE, "false"), (Kind.IGNORED, "true"), (Kind.THROTTLED, "true")])
def test_passed_on(kind, should):
    """An upstream's own word on retrying stands, unless we have retried already; it is said once."""
    answer = answered(1.0, 500, b"{}")
    answer.kind = kind
    reply = refusals.passed_on(answer, [(b"X-Should-Retry", b"true"), (b"Y", b"1")])
    assert (header(reply, "x-should-retry"), header(reply, "y"), reply.source) == (should, "1", "upstream")
