"""What a caller has said of his own patience.

Here belong the terms on which a call is made: how long its caller waits, how often he has tried, how urgent it is to
him.  Reading them out of header fields is for the story's beginning (`flow.read`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import final


@final
@dataclass(slots=True, frozen=True)
class Terms:
    """The terms of one caller; what he has left open is ours to set."""

    total: float = inf
    """Seconds that he waits for the whole answer."""
    first: float = inf
    """Seconds that he waits for anything at all."""
    tried: int = 0
    """How often he has tried before."""
    batch: bool = False
    """Whether it can wait until those who are in a hurry have been served."""
    told: bool = False
    """Whether his `total` is told to the upstream, as what is left of it."""


OURS = Terms()
"""A caller who has said nothing."""
