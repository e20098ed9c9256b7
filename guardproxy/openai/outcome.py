"""What an HTTP answer says about the upstream that gave it.

Here belongs the table from status and error code to `Kind`, which is looked up once for each attempt.

| answer | kind |
|---|---|
| 2xx | success |
| 429, but for an exhausted quota | throttled |
| 503 while a model is being loaded (llama.cpp) | warming |
| 503 with Retry-After | throttled |
| 408, 5xx | failure |
| any other 4xx | ignored: the caller's mistake |
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from guardproxy.core.values import Kind
from guardproxy.openai.fields import value

if TYPE_CHECKING:
    from guardproxy.core.values import Headers

RETRY_AFTER_CAP = 3600.0
"""Seconds beyond which a Retry-After is taken for a mistake and cut."""


def kind_of(status: int, error: dict[str, Any] | None, *, asked_to_wait: bool) -> Kind:
    """Decide what *status* and the *error* in its body say about the upstream."""
    if status < 400:
        return Kind.SUCCESS
    if status == 429:
        quota = error is not None and "insufficient_quota" in (error.get("code"), error.get("type"))
        return Kind.IGNORED if quota else Kind.THROTTLED
    if status == 503:
        if error is not None and "oading model" in str(error.get("message")):
            return Kind.WARMING
        return Kind.THROTTLED if asked_to_wait else Kind.FAILURE
    if status >= 500 or status == 408:
        return Kind.FAILURE
    return Kind.IGNORED


def retry_after(headers: Headers) -> float | None:
    """Seconds that an answer asks to be left alone: ``retry-after-ms``, seconds or an HTTP date (RFC 9110 §10.2.3).

    None where nothing, nonsense or something negative is asked; never above `RETRY_AFTER_CAP`.  A date is read
    against the answer's own ``Date``: it was written by the same clock.
    """
    for name, raw in headers:
        lower = name.lower()
        if lower == b"retry-after-ms":
            scale = 0.001
        elif lower == b"retry-after":
            scale = 1.0
        else:
            continue
        text = raw.decode("latin-1").strip()
        try:
            seconds = float(text) * scale
        except ValueError:
            seconds = _until(text, headers)
        if 0 <= seconds < float("inf"):
            return min(seconds, RETRY_AFTER_CAP)
    return None


def _until(text: str, headers: Headers) -> float:
    until, now = _date(text), _date((value(headers, b"date") or b"").decode("latin-1"))
    return -1.0 if until is None or now is None else (until - now).total_seconds()


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
