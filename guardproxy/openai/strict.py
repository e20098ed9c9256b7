"""JSON, read strictly and written safely.

Here belongs the one way in which the proxy reads JSON that it must understand: duplicate keys, NaN,
Infinity, lone surrogates, bytes that are no UTF-8 and nesting deeper than 200 levels are refused, since
each of them means something else to the next reader (RFC 8259 §4 and §8, RFC 7493).  And the one way in which
it writes what it has read: whatever was readable can be written.
"""

from __future__ import annotations

import json
from math import copysign, isinf
from typing import Any

import jiter
import orjson

_HUGE = 10**400
"""Stands for a number beyond every double, such as 1e999: whoever reads it finds it beyond every double too."""


def loads(data: bytes) -> Any:
    """Decode one JSON document; raises `ValueError` that says what is wrong and where.

    Whole numbers are exact up to 4,300 digits; a fraction beyond every double (1e999) is an infinite one.
    """
    return jiter.from_json(data, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)


def dumps(value: Any) -> bytes:
    """Encode what `loads` may have made; whole numbers beyond 64 bits stay exact."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return exact(value)


def exact(value: Any) -> bytes:
    """Like `dumps`, and an infinite number, which JSON cannot say, becomes one that every reader takes for that."""
    try:
        written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        written = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    return written.encode()


def finite(data: bytes, value: Any) -> bool:
    """Like `is_finite`, of what was read from *data*: an infinite number is written as null, where there was none."""
    try:
        written = orjson.dumps(value)
    except TypeError:
        return is_finite(value)
    # null in a text may have been spelled with escapes: then there are more of them too, and a closer look tells
    return written.count(b"null") == data.count(b"null") or is_finite(value)


def is_finite(value: Any) -> bool:
    """Whether every number in *value* is one that JSON can say."""
    kind = type(value)
    if kind is float:
        return not isinf(value)
    if kind is dict:
        return all(map(is_finite, value.values()))
    return kind is not list or all(map(is_finite, value))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and isinf(value):
        return int(copysign(1, value)) * _HUGE
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list) else value
