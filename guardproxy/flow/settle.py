"""The end of an attempt.

Here belongs what is written down of it, and that its permits are given back: once, however it has ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.core.values import Attempt, Kind, Relayed

if TYPE_CHECKING:
    from guardproxy.core.values import Outcome, Record, Target
    from guardproxy.flow.rules import Rules


_IGNORED = Kind.IGNORED


def settle(
    rules: Rules,
    record: Record,
    target: Target,
    tokens: list[Any] | None,
    outcome: Outcome | None,
    started: float,
    now: float,
    gone: str = "gone",
) -> None:
    """Settle the attempt at *target* that *started* then; *gone* is how it is called where nobody waited for it."""
    attempt = Attempt(target.upstream, target.model, gone, _IGNORED, started, now - started)
    if outcome is not None:
        attempt.label, attempt.kind = outcome.label, outcome.kind
        attempt.first = outcome.first - started if outcome.first else None
        if type(outcome) is Relayed:
            attempt.events = outcome.events
    record.attempts.append(attempt)
    if tokens is not None:
        news = rules.observe(target, tokens, outcome, now)
        if news:
            record.news += news
