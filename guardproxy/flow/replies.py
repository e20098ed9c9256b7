"""How a call ends where an upstream gave an answer.

Here belongs the making of a `Reply` of what was answered, and of whatever came in the end.  The words of errors of our
own are `refusals`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardproxy.core.values import Answer, Fault, Reply
from guardproxy.flow import refusals
from guardproxy.openai.fields import downward

if TYPE_CHECKING:
    from guardproxy.core.values import Call, Outcome, Record, Relayed, Verdict


def accepted(call: Call, answer: Answer, record: Record) -> Reply:
    """A whole answer that every guard accepts, in the shape in which the caller wants it."""
    dialect = call.dialect
    events = dialect is not None and dialect.is_stream(answer.headers)
    if (
        call.whole
        and dialect is not None
        and (call.stream is not events or (events and not dialect.sound(answer.doc, answer.body)))
    ):
        # it came as events and the caller wants it in one piece, or the other way round, or not as the API has them
        answer = dialect.mend(call, answer, [None] * len(dialect.texts(answer.doc)))
        events = call.stream
    record.usage = None if dialect is None else dialect.usage(answer.doc)
    headers = downward(answer.headers)
    reply = Reply(answer.status, answer.body, headers, source="upstream", events=events, keepable=answer.keepable)
    reply.cut = not answer.keepable
    return reply


def judged(call: Call, answer: Answer, verdict: Verdict, record: Record) -> Reply:
    """The reply that an answer makes which may pass: as repaired; one that is only counted is never shown again."""
    reply = accepted(call, verdict.answer or answer, record)
    if verdict.flawed and verdict.answer is None:
        reply.keepable = reply.cut = False
    return reply


def sent(outcome: Relayed, record: Record) -> Reply:
    """It has left already; what was kept of it is there for the guards to look at."""
    record.usage = outcome.usage
    body = outcome.body
    keepable = outcome.keepable and body is not None
    cut = outcome.complete and body is not None and not keepable
    headers = downward(outcome.headers) if keepable or cut else []
    reply = Reply(outcome.status, body or b"", headers, source="upstream", sent=True, events=True, keepable=keepable)
    reply.cut = cut
    return reply


def final(call: Call, outcome: Outcome, record: Record) -> Reply:
    """Pass on what an upstream or the way to it had to say in the end."""
    if type(outcome) is Answer:
        return refusals.passed_on(outcome, downward(outcome.headers))
    if type(outcome) is Fault:
        return refusals.failed(call, outcome)
    return sent(outcome, record)
