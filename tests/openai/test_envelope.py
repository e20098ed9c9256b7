"""Errors in the shape that SDKs read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.openai.envelope import envelope, error_in, inner_status, is_envelope, message_of

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "status", "type", "detail"]), inner, max_size=4)
    ),
)


def test_written():
    """All four fields, always."""
    assert json.loads(envelope(503, "circuit_open", "no", "model")) == {
        "error": {"message": "no", "type": "service_unavailable_error", "param": "model", "code": "circuit_open"}
    }
    assert json.loads(envelope(418, "c", "m"))["error"]["type"] == "invalid_request_error"
    assert json.loads(envelope(599, None, "m"))["error"] == {
        "message": "m",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    assert is_envelope(json.loads(envelope(404, "c", "m")))


@pytest.mark.parametrize(
    "error, status",
    [
        ({"code": 400}, 400),
        ({"code": "429"}, 429),
        ({"code": "²²²"}, 502),
        ({"code": True}, 502),
        ({"code": 200}, 502),
        ({"code": "9" * 5000}, 502),
        ({"code": None, "status": 503}, 503),
        ({"code": "rate_limit_exceeded"}, 429),
        ({"code": "context_length_exceeded"}, 400),
        ({"code": None, "type": "invalid_request_error"}, 400),
        ({"type": "BadRequestError"}, 400),
        ({"type": "insufficient_quota"}, 429),
        ({"type": "server_error"}, 500),
        ({"code": [], "type": {}}, 502),
        ({}, 502),
    ],
)
def test_an_error_under_200(error, status):
    """It stands for what its code or type says: a caller's mistake must not count as the model's failure."""
    assert inner_status(error) == status


@pytest.mark.parametrize(
    "doc, body, message",
    [
        ({"error": {"message": "a"}}, b"", "a"),
        ({"error": "b"}, b"", "b"),
        ({"detail": "c"}, b"", "c"),
        ({"detail": [{"loc": ["x"], "n": 10**30}]}, b"", '[{"loc":["x"],"n":1000000000000000000000000000000}]'),
        ({"message": "d"}, b"", "d"),
        ({"error": {"message": 5}}, b"raw", "raw"),
        (None, b" <html>\xff ", "<html>�"),
        (None, b"x" * 9000, "x" * 500),
    ],
)
def test_the_message_in_any_shape(doc, body, message):
    """What went wrong is found where engines put it, and is never long."""
    assert message_of(doc, body) == message


@given(ANY)
def test_garbage_is_no_crash(doc):
    """Whatever an upstream calls an error."""
    assert len(message_of(doc, b"")) <= 500
    if (error := error_in(doc)) is not None:
        assert 400 <= inner_status(error) <= 599
