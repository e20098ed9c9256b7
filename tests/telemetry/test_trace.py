"""Which traces are recognised."""

from __future__ import annotations

import pytest

from guardproxy.telemetry.trace import trace_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "value, trace",
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f" 00-{TRACE}-00f067aa0ba902b7-00 ", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-will-come", TRACE),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", ""),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", ""),
        ("00-x", ""),
        ("", ""),
    ],
)
def test_a_traceparent(value, trace):
    """As the W3C writes it; what is not one names no trace, and nothing that a caller makes up gets any further."""
    assert trace_of([(b"Accept", b"*/*"), (b"TraceParent", value.encode())]) == trace


def test_there_may_be_none():
    assert trace_of([(b"Accept", b"*/*")]) == ""
