"""What an HTTP answer says about the upstream that gave it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import Kind
from guardproxy.openai.outcome import RETRY_AFTER_CAP, kind_of, retry_after

DATE = ("Date", "Fri, 01 Aug 2025 12:00:00 GMT")


def asked(*fields: tuple[str, str]) -> float | None:
    return retry_after([(name.encode(), value.encode("latin-1")) for name, value in fields])


@pytest.mark.parametrize(
    "fields, seconds",
    [
        ([], None),
        ([("Retry-After", "5")], 5.0),
        ([("RETRY-AFTER", " 0.5 ")], 0.5),
        ([("Retry-After", "0")], 0.0),
        ([("retry-after-ms", "250")], 0.25),
        ([("retry-after-ms", "soon"), ("retry-after", "7")], 7.0),
        ([("Retry-After", "Fri, 01 Aug 2025 12:00:30 GMT"), DATE], 30.0),
        ([DATE, ("Retry-After", "Friday, 01-Aug-25 12:01:00 GMT")], 60.0),
        ([("Retry-After", "Fri, 01 Aug 2025 14:00:20 +0200"), DATE], 20.0),
        ([("Retry-After", "Fri, 01 Aug 2025 11:59:00 GMT"), DATE], None),
        ([("Retry-After", "Fri, 01 Aug 2025 12:00:30 GMT")], None),
        ([("Retry-After", "Fri, 99 Aug 2025 12:00:30 GMT"), DATE], None),
        ([("Retry-After", "Fri, 31 Dec 9999 23:59:59 -2300"), DATE], None),
        ([("Retry-After", "-5")], None),
        ([("Retry-After", "nan")], None),
        ([("Retry-After", "inf")], None),
        ([("Retry-After", "1e300")], RETRY_AFTER_CAP),
        ([("Retry-After", "99999999")], RETRY_AFTER_CAP),
        ([("Retry-After", "soon")], None),
        ([("Retry-After", "²")], None),
        ([("Retry-After", "")], None),
    ],
)
def test_retry_after(fields, seconds):
    """Seconds, milliseconds or a date against the answer's own; nonsense asks for nothing, the absurd for an hour."""
    assert asked(*fields) == seconds


@given(st.text(st.characters(codec="latin-1"), max_size=40), st.text(st.characters(codec="latin-1"), max_size=40))
def test_any_text(wait, date):
    """No header field of an upstream is a 500 of ours."""
    seconds = asked(("Retry-After", wait), ("Date", date), ("Retry-After-Ms", date))
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP


@pytest.mark.parametrize(
    "status, error, waits, kind",
    [
        (200, None, False, Kind.SUCCESS),
        (201, None, True, Kind.SUCCESS),
        (400, None, False, Kind.IGNORED),
        (401, None, False, Kind.IGNORED),
        (404, None, True, Kind.IGNORED),
        (408, None, False, Kind.FAILURE),
        (422, None, False, Kind.IGNORED),
        (429, None, False, Kind.THROTTLED),
        (429, {"code": "rate_limit_exceeded"}, True, Kind.THROTTLED),
        (429, {"code": "insufficient_quota"}, False, Kind.IGNORED),
        (429, {"type": "insufficient_quota"}, True, Kind.IGNORED),
        (500, None, False, Kind.FAILURE),
        (502, None, True, Kind.FAILURE),
        (503, None, False, Kind.FAILURE),
        (503, None, True, Kind.THROTTLED),
        (503, {"message": "Loading model"}, False, Kind.WARMING),
        (503, {"message": "Loading model"}, True, Kind.WARMING),
        (503, {"message": None}, False, Kind.FAILURE),
        (529, None, False, Kind.FAILURE),
    ],
)
def test_the_table(status, error, waits, kind):
    """Only what the upstream did wrong counts against it: a throttle is none, and 4xx is the caller's."""
    assert kind_of(status, error, asked_to_wait=waits) is kind
