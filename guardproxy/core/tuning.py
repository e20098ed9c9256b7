"""What a circuit is set by.

Here belongs what `core.circuit` reads of its settings; they are declared, with units and defaults, in `guards.breaker`.
"""

from __future__ import annotations

from typing import Protocol


class Tuning(Protocol):
    """What a circuit is set by; see `guards.breaker.Settings`."""

    @property
    def failure_threshold(self) -> float:
        """Share of failures that opens it."""

    @property
    def slow_threshold(self) -> float:
        """Share of slow attempts that opens it."""

    @property
    def consecutive_failures(self) -> int:
        """Failures in a row that open it; 0: any number."""

    @property
    def success_threshold(self) -> int:
        """Successes of probes that close it."""

    @property
    def timeout(self) -> float:
        """Seconds it stays open."""

    @property
    def max_timeout(self) -> float:
        """Seconds it stays open at the most."""

    @property
    def half_open_requests(self) -> int:
        """Probes at once."""

    @property
    def minimum_requests(self) -> int:
        """Attempts before there is a verdict."""

    @property
    def window(self) -> float:
        """Seconds that count."""

    @property
    def warmup_seconds(self) -> float:
        """Seconds for which a model may say that it is being loaded."""
