"""Reading how long a caller waits, how often he has tried, and how urgent it is.

Here belongs the meaning of these header fields:

| field | says | sent by |
|---|---|---|
| ``X-Request-Timeout`` | seconds (or ``500ms``, ``30s``, ``2m``) for the whole answer | gateways, meshes, apps |
| ``x-stainless-read-timeout``, ``x-stainless-timeout`` | seconds until anything must have come | the OpenAI SDKs |
| ``x-stainless-retry-count`` | how often this call has been made before | the OpenAI SDKs |
| ``X-Guardproxy-Priority`` | ``interactive`` or ``batch`` | apps |

An SDK that is answered in one piece hears nothing before all of it is there, so that its time is one for the whole.
All of them are kept a little earlier than they are said: whoever has left does not hear why.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf
from typing import TYPE_CHECKING

from guardproxy.core.terms import OURS, Terms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.values import Headers

FIELDS = {
    b"x-request-timeout": "timeout",
    b"x-stainless-read-timeout": "read-timeout",
    b"x-stainless-timeout": "read-timeout",
    b"x-stainless-retry-count": "tried",
    b"x-guardproxy-priority": "priority",
}
_EARLY = 0.05
"""Share of a caller's time that is kept back, to answer him while he is still there."""
_EARLY_MOST = 0.25
_UNITS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("", 1.0))
_WHOLE = frozenset((b"x-request-timeout", b"x-stainless-read-timeout", b"x-stainless-timeout"))


def terms(own: Mapping[str, str], *, stream: bool) -> Terms:
    """The terms in the fields that are meant for us; *stream*: whether the answer comes bit by bit."""
    timeout, patience = own.get("timeout", ""), own.get("read-timeout", "")
    tried, priority = own.get("tried", ""), own.get("priority", "")
    if not (timeout or patience or tried or priority):
        return OURS
    return _terms(timeout, patience, tried, priority, stream)


def remaining(headers: Headers, seconds: float, *, stream: bool) -> Headers:
    """The same fields, telling the upstream how much is left of the time that the caller gave for the whole answer."""
    left = b"%.3f" % max(seconds, 0.001)
    told = _WHOLE if not stream else (b"x-request-timeout",)
    return [(name, left if name.lower() in told else value) for name, value in headers]


@lru_cache(maxsize=1024)
def _terms(timeout: str, patience: str, tried: str, priority: str, stream: bool) -> Terms:
    total, first = _seconds(timeout), _seconds(patience)
    if not stream:
        total, told = min(total, first), total < inf
        first = inf
    else:
        told = total < inf
    times = int(tried) if tried.isascii() and tried.isdecimal() and len(tried) < 4 else 0
    return Terms(total, first, times, priority.lower() == "batch", told)


def _seconds(text: str) -> float:
    """How long *text* says, a little less; infinity where it says nothing that can be heeded."""
    lower = text.lower()
    for unit, scale in _UNITS:
        if lower.endswith(unit):
            try:
                seconds = float(lower.removesuffix(unit)) * scale
            except ValueError:
                return inf
            return seconds - min(seconds * _EARLY, _EARLY_MOST) if 0 < seconds < inf else inf
    return inf
