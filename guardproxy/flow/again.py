"""Whether a call may be tried again, and after how long.

Here belong the rules of retries: how many, out of which budget, how long to wait, and that none may outlive the call's
deadline.  Who is asked next, the story knows; whether anybody may be asked at all, the guards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardproxy.core.values import Fault, Kind
from guardproxy.flow.refusals import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.values import Answer, Call, Outcome, Record, Target
    from guardproxy.flow.rules import Rules

SPREAD = 0.25
"""Seconds that chance adds to a wait that many calls may share."""


def is_last(outcome: Outcome) -> bool:
    """Whether nobody else is asked: it was not the upstream's fault, or has left already.

    An experiment that took too long was given up without being either; it goes on elsewhere.
    """
    if type(outcome) is not Fault:
        return outcome.kind is Kind.IGNORED
    return outcome.committed or (outcome.kind is Kind.IGNORED and outcome.again)


def before_another(
    rules: Rules,
    call: Call,
    record: Record,
    places: Sequence[Target],
    target: Target,
    outcome: Answer | Fault,
    retries: int,
    now: float,
) -> float | None:
    """Seconds to wait before the first of *places* that is available is tried after *outcome*, or None: never.

    *target* is who was asked, *retries* how often it has been tried again before.  Where the answer is a number, a
    retry has been taken from the budget of *target*: its calls have earned it, and in a storm the one who takes over
    has had none.
    """
    retry = rules.retry
    if retries >= retry.attempts - call.terms.tried or now >= call.deadline:
        return None
    upstream = next((place for place in places if rules.available(place.upstream, now)), places[0]).upstream
    again = any(attempt.upstream == upstream for attempt in record.attempts)
    wait = rules.dice() * retry.base * 2.0**retries if again else 0.0
    if again and upstream == target.upstream:
        if outcome.retry_after is not None:
            wait = max(wait, outcome.retry_after)
        if call.deadline - now - wait < record.attempts[-1].seconds:
            return None  # it took longer to fail than there is left: the next one would too
    if now + wait >= call.deadline or wait > PATIENCE or not rules.budgets[target.upstream].take(now):
        return None
    return wait


def before_busy(rules: Rules, call: Call, soon: float, waited: float, now: float) -> float | None:
    """Seconds to wait for somebody who is busy until *soon*, or None: longer than it is worth.

    *waited* is how long the call has waited for such before.
    """
    wait = max(soon - now, 0.0) + rules.dice() * SPREAD
    return None if waited + wait > PATIENCE or now + wait >= call.deadline else wait
