"""The units that settings are written in.

Here belong the types that say what a number of the configuration means, and how a person may write it.
Not here: where such a number is read from (config) or what it bounds (the settings beside each guard).
"""

from __future__ import annotations

import re
from typing import NewType

Seconds = NewType("Seconds", float)
"""A span of time in seconds; in YAML a number, or text such as ``250ms``, ``30s``, ``5m``, ``1h``."""

Bytes = NewType("Bytes", int)
"""An amount of memory in bytes; in YAML a whole number, or text such as ``64KiB``, ``256MiB``, ``1GiB``."""

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def seconds(value: object) -> Seconds:
    """Read a span of time; raises `ValueError` where *value* is not one or is negative."""
    return Seconds(_quantity(value, _SECONDS, "a duration such as 30, 250ms, 30s or 5m"))


def size(value: object) -> Bytes:
    """Read an amount of memory; raises `ValueError` where *value* is not one or is negative."""
    return Bytes(int(_quantity(value, _BYTES, "a size such as 65536, 64KiB or 256MiB")))


def _quantity(value: object, units: dict[str, float] | dict[str, int], expected: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        number, unit = match.groups()
        if not unit:
            return float(number)
        if unit in units:
            return float(number) * units[unit]
    message = f"expected {expected}, got {value!r}"
    raise ValueError(message)
