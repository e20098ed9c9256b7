"""The end of a call that need not be told as a story, for everybody knows it.

Here belongs one case: no place is free wherever the call may go, and no room in any line.  In a flood nine calls of
ten end so, and what they cost is taken from those that are answered.  The reply is the one that the story would have
come to (a stale answer or a fallback, where there is one, else 503); only what is written down is shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardproxy.flow import refusals

if TYPE_CHECKING:
    from guardproxy.core.line import Line
    from guardproxy.core.values import Call, Record, Reply
    from guardproxy.flow.rules import Rules

SOON = 1.0
"""Seconds after which asking may help."""


def foreseen(call: Call, rules: Rules, record: Record, now: float) -> Reply | None:
    """What becomes of an admitted *call* that nobody can take, nor let wait; None where its story has to be told."""
    if call.dialect is None or (call.flight and rules.flights.find(call.flight) is not None):
        return None  # relayed unguarded; on its way already, so that it waits for no place
    if record.wanted and rules.far:
        return None  # another proxy may know the answer
    first: Line | None = None
    for target in call.targets:
        line = rules.full(target.upstream, call.skip, batch=call.terms.batch)
        if line is None:
            return None
        first = first or line
    if first is None:
        return None
    first.dropped += 1
    record.call = call
    reply = rules.rescue(call, record, now) or refusals.nobody_left(call, now + SOON, now, busy=True)
    rules.settle(call, reply, record, now)
    return reply
