"""Listening to the answer that somebody else has asked for.

Here belongs what a caller does who finds his question on its way already: he joins, takes what comes of it where
it may be shared, and otherwise tries once himself; and whether a question is asked that no caller waits for.  Who
leads and who is told is `core.flights`'.

    what came of the flight                          the first time        the second time
    a reply that may be shared, or sent already      his reply too         his reply too
    an error of the proxy or the model, a fallback   look for it anew *)   his reply too
    it broke off without a reply                     look for it anew *)   he asks himself
    his own time was over first                      504                   504

    *) the first who looks finds nobody and leads; those behind him find his flight and join it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from guardproxy.core.steps import Fetch, Fetched, Join, Landed, Step
from guardproxy.core.values import Fault, Reply
from guardproxy.flow import refusals
from guardproxy.openai.fields import is_encoded, kept

if TYPE_CHECKING:
    from guardproxy.core.flights import Flight, Flights
    from guardproxy.core.values import Call, Record
    from guardproxy.flow.rules import Rules

_OWN_LUCK = frozenset((408, 425, 429))
"""Statuses below 500 that another try may change."""
_SHARED = frozenset(("upstream", "cache", "stale"))


def shared(call: Call, rules: Rules, record: Record, now: float) -> Generator[Step, Any, tuple[float, Reply | None]]:
    """What somebody else asks, or another proxy knows; no reply where the call has to ask, with the time by then."""
    if call.flight:
        if rules.flights.find(call.flight) is not None:
            now, reply = yield from _joined(call, rules.flights, record, now)
            if reply is not None:
                return now, reply
        record.flight = rules.flights.lead(call.flight, record)
    if record.wanted and rules.far:
        return (yield from _fetched(call, rules, record))
    return now, None


def _joined(
    call: Call, flights: Flights, record: Record, now: float
) -> Generator[Step, Landed, tuple[float, Reply | None]]:
    """Join whoever asks what *call* asks; no reply where nobody does any more, so that it has to ask itself."""
    for last in (False, True):
        flight = flights.find(call.flight)
        if flight is None:
            break
        landed = yield Join(flight, call)
        now, came = landed.at, landed.came
        if type(came) is Fault:
            return now, refusals.failed(call, came)
        if type(came) is Reply and (last or came.sent or is_shared(came)):
            return now, _told(came, flight, record)
    return now, None


def _fetched(call: Call, rules: Rules, record: Record) -> Generator[Step, Fetched, tuple[float, Reply | None]]:
    """What another proxy has been told; no reply where none has, or nobody can say."""
    fetched = yield Fetch(call)
    if fetched.found is None:
        return fetched.at, None
    return fetched.at, rules.recall(call, fetched.found, record, fetched.at)


def is_due(call: Call, rules: Rules, now: float) -> bool:
    """Whether *call* may be made in the background: nobody makes it, and its upstream can bear a call more."""
    if not call.flight or rules.flights.find(call.flight) is not None:
        return False
    return rules.budgets[call.targets[0].upstream].take(now)


def is_shared(reply: Reply) -> bool:
    """Whether another try of the same call could hardly come to anything else."""
    lucky = reply.status < 500 and reply.status not in _OWN_LUCK and reply.source in _SHARED
    return lucky and not is_encoded(reply.headers)


def _told(reply: Reply, flight: Flight, record: Record) -> Reply:
    """The leader's *reply* as it is told to somebody else: a hit, if it is an answer of the model."""
    leader = flight.leader
    record.target, record.json, record.fallback = leader.target, leader.json, leader.fallback
    headers = kept(reply.headers)
    source = reply.source
    if source == "stale":
        record.cache, record.age = leader.cache, leader.age
    else:
        record.cache = "fwd=miss; collapsed"
    if reply.status >= 400:
        headers += [pair for pair in reply.headers if pair[0].lower() == b"retry-after"]
    elif source == "upstream":
        record.cache_event, source = "hit", "cache"
    sent, events = reply.sent, reply.events
    return Reply(reply.status, reply.body, headers, source, sent, events, reply.code, block=reply.block)
