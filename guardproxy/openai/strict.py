"""JSON, read strictly.

Here belongs the one way in which the proxy reads JSON that it must understand: duplicate keys, NaN,
Infinity, lone surrogates, bytes that are no UTF-8 and nesting deeper than 200 levels are refused, since
each of them means something else to the next reader (RFC 8259 §4 and §8, RFC 7493).
"""

from __future__ import annotations

from typing import Any

import jiter


def loads(data: bytes) -> Any:
    """Decode one JSON document; raises `ValueError` that says what is wrong and where.

    Whole numbers are exact up to 4,300 digits.
    """
    return jiter.from_json(data, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)
