"""An answer that is kept, and how it is shown again.

Here belongs the one form in which an answer is kept, whoever asked for it, its writing down, and its making over for a
caller who wants the other kind: a stream where it came whole, one body where it came as a stream, other options of a
stream.  For a caller who wants the same kind it is the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Answer, Reply, Target
from guardproxy.openai.examine import ENDED
from guardproxy.openai.fields import kept, lines
from guardproxy.openai.request import wants_usage
from guardproxy.openai.strict import dumps, loads
from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from guardproxy.core.values import Call, Headers, Record

OVERHEAD = 560
"""Bytes that an entry takes besides key, header fields and body (measured: objects, table slots)."""


@final
@dataclass(slots=True)
class Kept:
    """An answer as it is shown again."""

    block: bytes
    """Status line and header fields, ready to be sent but for what is of the request."""
    body: bytes
    events: bool
    """Whether *body* is a stream."""
    options: Any
    """What the caller said about his stream (``stream_options``)."""
    target: Target
    json: str
    """What the JSON guard said of it."""
    tokens: int = 0
    """What it took to make it, where that is known: each time it is shown so many are saved."""

    @property
    def weight(self) -> int:
        """Bytes of memory that it takes, its key included."""
        return len(self.block) + len(self.body) + OVERHEAD


def keep(call: Call, reply: Reply, target: Target, record: Record) -> Kept:
    """What is kept of a *reply* to *call*: nothing that was of the request alone."""
    block = b"HTTP/1.1 200 OK\r\n" + lines(kept(reply.headers))
    return Kept(block, reply.body, reply.events, _options(call), target, record.json, sum(tokens(record.usage)))


def show(value: Kept, call: Call, source: str) -> Reply | None:
    """The reply to *call*; None where what is kept does not hold all that it asks for."""
    if value.events is call.stream and (not call.stream or value.options == call.doc.get("stream_options")):
        return Reply(200, value.body, source=source, events=value.events, block=value.block)
    made = _made_over(value, call)
    if made is None:
        return None
    headers, body = made
    return Reply(200, body, headers, source=source, events=call.stream)


def cut_by(call: Call, reply: Reply) -> set[str]:
    """By what *reply* was ended, where not of itself: ``length``, ``content_filter``, or something that is ``else``."""
    dialect = call.dialect
    try:
        doc = None if dialect is None else dialect.assemble(reply.body) if reply.events else loads(reply.body)
        stopped = [] if dialect is None else dialect.stopped(doc)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        stopped = []
    return {_CUT.get(str(reason), "else") for reason in stopped if str(reason) not in ENDED} or {"else"}


_CUT = {
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"), "length"),
    **dict.fromkeys(("content_filter", "refusal"), "content_filter"),
}
"""What the APIs call it."""


def pack(value: Kept, stored: float, expires: float) -> bytes:
    """Write it down for another process; *stored* and *expires* are times of day."""
    target = value.target
    where = [target.upstream, target.model, target.mode, target.moved_from, target.reason]
    head = [
        stored,
        expires,
        value.block.decode("latin-1"),
        value.events,
        value.options,
        value.json,
        where,
        value.tokens,
    ]
    return dumps(head) + b"\n" + value.body


def unpack(text: bytes) -> tuple[Kept, float, float] | None:
    """Read what was written down; None where it cannot be read."""
    head, newline, body = text.partition(b"\n")
    try:
        stored, expires, block, events, options, json, where, spent = loads(head)
        upstream, model, mode, moved_from, reason = where
        target = Target(upstream, model, mode, moved_from=moved_from, reason=reason)
        value = Kept(block.encode("latin-1"), body, bool(events), options, target, json, int(spent))
        return (value, float(stored), float(expires)) if newline else None
    except (ValueError, TypeError, AttributeError):
        return None


def _options(call: Call) -> Any:
    return call.doc.get("stream_options") if call.stream else None


def _made_over(value: Kept, call: Call) -> tuple[Headers, bytes] | None:
    """The answer in the kind that *call* wants."""
    dialect = call.dialect
    if dialect is None or not dialect.judged:  # what holds no text is never streamed
        return None
    headers: Headers = []
    for line in value.block.split(b"\r\n")[1:]:
        name, colon, given = line.partition(b": ")
        if colon:
            headers.append((name, given))
    try:
        doc = dialect.assemble(value.body) if value.events else loads(value.body)
        if call.stream and wants_usage(call.doc) and dialect.usage(doc) is None:
            return None  # it was not told, and cannot be made up
        answer = Answer(0.0, 200, headers, value.body, doc=doc)
        made = dialect.mend(call, answer, [None] * len(dialect.texts(doc)))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None  # it has a shape of its engine's own, and is good for those alone who want it as it is
    return made.headers, made.body
