"""How a call ends where an upstream gave an answer.

Here belongs the making of a `Reply` of what was answered.  Errors of our own are `refusals`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardproxy.core.values import Reply
from guardproxy.openai.fields import downward

if TYPE_CHECKING:
    from guardproxy.core.values import Answer, Call, Record, Relayed


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
