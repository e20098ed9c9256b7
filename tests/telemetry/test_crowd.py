"""Of those who are turned away in crowds only the first of a second have a line; all are counted."""

from __future__ import annotations

import os
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import Attempt, Call, Kind, Record, Reply
from guardproxy.telemetry.crowd import EACH_SECOND, Crowd
from guardproxy.telemetry.log import Log


def turned(code: str = "overloaded", status: int = 503, **more: Any) -> Record:
    return Record(0.0, reply=Reply(status, b"", code=code, source="fault"), **more)


def test_the_first_of_each_second_are_written():
    crowd = Crowd()
    for at in (7.0, 8.0):
        assert [crowd.hides(turned(), at + n / 100) for n in range(12)] == [False] * EACH_SECOND + [True] * 2
    assert crowd.over(8.9) == {("overloaded", 503): 2}
    assert crowd.over(8.9) == {}
    assert crowd.over(9.0) == {("overloaded", 503): 2}
    assert crowd.over(10.0) == {}


def test_one_crowd_does_not_hide_another():
    """Who is probed for thousands of times sees the first call that was refused all the same."""
    crowd = Crowd()
    for _ in range(1000):
        crowd.hides(turned("invalid_request", 400), 7.0)
    assert not crowd.hides(turned("overloaded"), 7.9)


def test_what_has_not_become_a_call_is_a_crowd_too():
    """Bytes that are no request, models that there are not: whoever tries for thousands does not fill the disk."""
    crowd = Crowd()
    assert [crowd.hides(turned("invalid_request", 400), 7.0) for _ in range(12)][-3:] == [False, True, True]


ASKED = Attempt("qwen", "q", "503", Kind.THROTTLED, 0.0, 1.0)


@pytest.mark.parametrize(
    "one",
    [
        Record(0.0),
        Record(0.0, reply=Reply(200, b"", source="cache")),
        turned("invalid_model_output", 502, call=Call("1", "POST", "/", "", [], b"", {}, None)),
        turned(attempts=[ASKED]),
    ],
)
def test_everything_else_has_a_line(one):
    """Above all what somebody has been asked for, whatever came of it."""
    crowd = Crowd()
    assert not any(crowd.hides(one, 7.0) for _ in range(50))
    assert crowd.over(99.0) == {}


@given(
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["overloaded", "circuit_open"]), st.booleans()), max_size=200)
)
def test_all_are_told_once(came):
    """Written or counted: the sum is those who came, whenever it is asked for."""
    crowd, written, told = Crowd(), 0, dict[tuple[str, int], int]()
    for at, code, look in sorted(came):
        written += not crowd.hides(turned(code), at)
        for name, times in (crowd.over(at) if look else {}).items():
            told[name] = told.get(name, 0) + times
    for name, times in crowd.over(-1.0).items():
        told[name] = told.get(name, 0) + times
    assert written + sum(told.values()) == len(came)
    for (known, _), times in told.items():
        assert times <= sum(code == known for _, code, _ in came)


def test_the_log_says_how_many():
    """When the second is over, or the log ends: one line for each code."""
    reader, writer = os.pipe()
    now = [1_700_000_000.5]
    log = Log(writer, lambda: now[0])
    for n in range(100):
        log.told(turned("overloaded") if n % 2 else turned("invalid_request", 400), now[0])
    log.flush()
    now[0] += 1
    log.flush()
    for _ in range(15):
        log.told(turned(), now[0])
    log.close()
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        lines = [orjson.loads(line) for line in stream.read().splitlines()]
    counted = [(line["level"], line["code"], line["times"]) for line in lines if line["msg"] == "turned away"]
    assert counted == [("info", "invalid_request", 40), ("error", "overloaded", 40), ("error", "overloaded", 5)]
    assert sum(line["msg"] == "request" for line in lines) == 3 * EACH_SECOND
