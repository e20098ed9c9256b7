"""What is made of a verdict, beside going on with the story.

Here belong the verdict on an answer that was ended early, and what follows from one on a stream that has left already.
Whether an answer is asked for again is the story's, how an accepted one leaves is `replies`'.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from guardproxy.core.values import Answer, Verdict, Wrong
from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from guardproxy.core.dialect import Dialect
    from guardproxy.core.values import Call, Record, Reply, Target


def asked_there(call: Call, target: Target) -> Call:
    """The *call* as if *target* had been asked for: what is said of an answer is said of whoever gave it."""
    return call if call.upstream == target.upstream else replace(call, upstream=target.upstream)


def hopeless(answer: Answer, choice: int) -> Verdict:
    """The verdict on an *answer* that was ended since nothing could become of one *choice* of it."""
    note = f"it was stopped, since nothing could have made it satisfy the schema: {answer.hopeless}"
    return Verdict("invalid", note, wrong=Wrong(note, choice), flawed=True)


def rejected(call: Call, answer: Answer, verdict: Verdict, record: Record, now: float) -> None:
    """Write down that an answer was not accepted, and why, in words that hold nothing of it, and what it had taken."""
    upstream = record.attempts[-1].upstream
    record.parse_failures.append(upstream)
    spent = 0 if call.dialect is None else tokens(call.dialect.usage(answer.doc))[1]
    if not spent and answer.scan is not None:
        spent = answer.scan.events  # whom we hung up on cannot say; engines send a token with each event
    record.wasted.append((upstream, spent))
    why = "cut at its length" if verdict.cut else "invalid"
    record.note(now, "rejected", "hung up on: nothing could come of it" if answer.hopeless else why)


def so_far(dialect: Dialect, answer: Answer) -> Any:
    """What an *answer* that was ended early told: as whoever read it along has put it together, else from its bytes."""
    try:
        doc = None if answer.scan is None else answer.scan.told()
    except ValueError:
        doc = None
    return doc or dialect.so_far(answer.body)


def left(call: Call, reply: Reply, now: float) -> Answer | None:
    """The answer that has left as the stream *reply*, to be judged all the same; None where there is none to judge."""
    if call.schema is None or not reply.body:
        return None
    try:
        doc = None if call.dialect is None else call.dialect.assemble(reply.body)
    except ValueError:
        return None
    return None if doc is None else Answer(now, reply.status, reply.headers, reply.body, doc=doc)


def note(verdict: Verdict | None, reply: Reply, record: Record) -> None:
    """Write down the *verdict* on a stream that has left: it is counted, and not kept where it would not do."""
    if verdict is None:
        return
    record.json = "unchecked" if verdict.flawed else verdict.label
    if verdict.flawed:
        record.parse_failures.append(record.attempts[-1].upstream)
        reply.keepable = reply.cut = False
