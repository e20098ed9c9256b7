"""What a caller says about answers that are kept: ``Cache-Control`` in a request (RFC 9111 § 5.2.1).

Here belongs the reading of the field, and which answer a caller takes by it.  Which answers there are is the cache
guard's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import final

_ANY = float("inf")
_PART = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.|\\$)*(?:"|$))+')
"""What stands between two commas: one inside of quotes is part of a value."""


@final
@dataclass(slots=True, frozen=True)
class Asks:
    """What one caller asks for; the defaults ask for nothing."""

    no_store: bool = False
    """Neither look it up nor keep what comes."""
    no_cache: bool = False
    """Do not look it up."""
    only_if_cached: bool = False
    """Ask nobody."""
    max_age: float = _ANY
    """Seconds that the answer may have been kept."""
    min_fresh: float = 0.0
    """Seconds that it must stay fresh for."""
    max_stale: float = 0.0
    """Seconds that it may have been expired."""

    def takes(self, age: float, left: float) -> bool:
        """Whether an answer of this *age* will do that is fresh for the seconds *left*, expired where below 0."""
        if self.no_cache or self.no_store or age > self.max_age:
            return False
        if left > 0:
            return left >= self.min_fresh
        return 0 < self.max_stale >= -left and not self.min_fresh

    def bears(self, age: float) -> bool:
        """Whether an expired answer of this *age* is better than none: ``no-cache`` and ``max-age`` bind."""
        return not (self.no_cache or self.no_store) and age <= self.max_age


NOTHING = Asks()
"""No field, no wish."""


@lru_cache(maxsize=256)
def read(text: str) -> Asks:
    """Read a field, already in lower case; a later directive beats an earlier one.

    A number that cannot be read asks for the freshest (§ 4.2.1); ``max-stale`` without one takes any.
    """
    found: dict[str, str | None] = {}
    for part in _PART.findall(text):
        name, equals, value = part.partition("=")
        if name := name.strip():
            found[name] = value.strip().strip('"') if equals else None
    return Asks(
        no_store="no-store" in found,
        no_cache="no-cache" in found,
        only_if_cached="only-if-cached" in found,
        max_age=_seconds(found["max-age"], 0.0) if "max-age" in found else _ANY,
        min_fresh=_seconds(found["min-fresh"], _ANY) if "min-fresh" in found else 0.0,
        max_stale=_ANY if found.get("max-stale", "") is None else _seconds(found.get("max-stale"), 0.0),
    )


def _seconds(text: str | None, unreadable: float) -> float:
    return float(text) if text is not None and text.isascii() and text.isdigit() else unreadable
