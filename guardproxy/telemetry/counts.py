"""Every count of calls, as plain numbers.

Here belong the numbers and the closed sets of what they are counted by.  What moves them is metrics', what they are
called in Prometheus is families'.
"""

from __future__ import annotations

from itertools import combinations, permutations, product
from typing import TYPE_CHECKING, final

from guardproxy.telemetry.histogram import Histogram
from guardproxy.telemetry.model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = ("upstream", "cache", "stale", "fallback", "fault", "own")
STATUSES = {2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"}
NO_REPLY = ("none", "none")
ODD = ("other", "other")
RESULTS = ("valid", "repaired", "retried", "fallback", "unchecked", "failed")
CODES = (
    *("circuit_open", "forbidden", "invalid_json", "invalid_model_output", "invalid_request", "invalid_schema"),
    *("model_not_found", "not_cached", "overloaded", "request_timeout", "request_too_large", "schema_too_deep"),
    *("shutting_down", "unauthorized", "upstream_protocol", "upstream_reset", "upstream_stream_interrupted"),
    *("upstream_timeout", "upstream_unreachable", "other"),
)
# From a cache hit to the longest answer that a deadline of minutes allows.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)


@final
class Counts:
    """Every count; those of *upstreams* and *modes* are there from the start, at 0.  *modes* stand highest first."""

    def __init__(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        self.models: dict[str, Model] = {}
        """What has gone by a reload is still here: calls may still be on it, and counters may not vanish."""
        self.falls: dict[tuple[str, str], int] = {}
        self.moved: dict[tuple[str, str], int] = {}
        self.requests = dict.fromkeys((*product((*STATUSES.values(), "other"), SOURCES), NO_REPLY, ODD), 0)
        """By class of status and source."""
        self.seconds = {source: Histogram(SECONDS) for source in SOURCES}
        self.errors = dict.fromkeys(CODES, 0)
        self.results = dict.fromkeys(RESULTS, 0)
        self.cache = {"hit": 0, "miss": 0}
        self.gone = 0
        self.refreshed = 0
        self.know(upstreams, modes)

    def know(self, upstreams: Sequence[str], modes: Sequence[str]) -> None:
        """After a reload: what is new begins at 0; what has gone keeps its counts."""
        self.upstreams, self.modes = tuple(upstreams), tuple(modes)
        self.models = {name: Model() for name in upstreams} | self.models
        self.falls = dict.fromkeys(combinations(modes, 2), 0) | self.falls
        self.moved = dict.fromkeys(permutations(modes, 2), 0) | self.moved
