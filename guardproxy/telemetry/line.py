"""What the log says of one call.

Here belongs the line of a finished call: its level, its fields and their order, and how it is written fast.  How
lines leave, and what is said besides calls, is the log's.

Calls of a sort have lines of a sort.  So the first one is written field by field (`particulars`) and kept as a *form*
with holes for what differs (times, id, tokens); the next ones are one formatting each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import orjson

from guardproxy.openai.usage import tokens

if TYPE_CHECKING:
    from guardproxy.core.values import Record

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")
GONE = 499
"""nginx's number for a caller who left before the reply."""
_HOLES = tuple(
    (f'"\\u0000{name}"', written)
    for name, written in (
        *(("ts", '"%s%03dZ"'), ("id", '"%s"'), ("ms", "%.1f"), ("attempt", "%.1f"), ("first_ms", "%.1f")),
        *(("cache", '"%s"'), ("tokens_in", "%d"), ("tokens_out", "%d"), ("trace", '"%s"')),
    )
)
"""What stands in a form for a value, and how that is written, in the order of the line; no text has a NUL in it."""
_DIFFER = frozenset(("id", "ms", "first_ms", "cache", "tokens_in", "tokens_out", "trace"))
_NOTHING = "%.0s"
"""Takes a value and writes nothing."""


def level_of(record: Record) -> Level:
    """How much the end of a call matters: a warning where it was not answered as asked, an error where not at all."""
    reply = record.reply
    if reply is None or reply.code == "not_cached":  # he asked for exactly that
        return "info"
    if reply.status >= 500:
        return "error"
    if reply.source in {"fallback", "stale"}:
        return "warning"
    return "debug" if reply.source == "own" and reply.status < 400 else "info"  # probes and scrapes


def particulars(record: Record, stamp: str) -> dict[str, Any]:
    """The line of a call; what does not apply is left out."""
    call, reply, target = record.call, record.reply, record.target
    line: dict[str, Any] = {"ts": stamp, "level": level_of(record), "msg": "request"}
    if call:
        line["id"] = call.id
        line["method"] = tidy(call.method, 16)
        line["path"] = tidy(call.path, 512)
    elif record.ident:
        line["id"] = record.ident
    line["status"] = reply.status if reply else GONE
    line["ms"] = _ms(record.ended - record.started)
    if reply and reply.source:
        line["source"] = reply.source
    if reply and reply.code:
        line["code"] = tidy(reply.code, 64)
    if target:
        line["upstream"] = target.upstream
        line["model"] = target.model or (tidy(call.model, 128) if call else "")
        if target.mode:
            line["mode"] = target.mode
        if target.moved_from:
            line["from"] = target.moved_from
            line["reason"] = target.reason
    _say_how(line, record)
    if call and call.stream:
        line["stream"] = True
    if record.gone:
        line["gone"] = True
    if record.trace:
        line["trace"] = record.trace
    return line


def form_of(example: Record) -> str:
    """The line of every call of the *example*'s sort, with holes; one call with an attempt or none."""
    line = particulars(example, "\0ts")
    line |= {name: f"\0{name}" for name in _DIFFER & line.keys()}
    for attempt in line.get("attempts", ()):
        attempt["ms"] = "\0attempt"
    return _with_holes(orjson.dumps(line).decode().replace("%", "%%")) + "\n"


def filled(form: str, record: Record, moment: tuple[str, int]) -> str:
    """The line of a call of which *form* is the form, and which ended at this *moment*."""
    attempts, started, call = record.attempts, record.started, record.call
    first = seconds = 0.0
    if attempts:
        attempt = attempts[0]
        seconds = attempt.seconds
        if attempt.first is not None:
            first = attempt.started + attempt.first - started
    ident = call.id if call is not None else ""
    return form % (
        *moment,
        ident if ident.isalnum() else orjson.dumps(ident)[1:-1].decode(),
        (record.ended - started) * 1000,
        seconds * 1000,
        first * 1000,
        record.cache,
        *tokens(record.usage),
        record.trace,
    )


def _with_holes(text: str) -> str:
    """*text* as a form that takes every value, also those that it has no place for."""
    form = ""
    for mark, written in _HOLES:
        before, found, after = text.partition(mark)
        form, text = (form + before + written, after) if found else (form + _NOTHING, text)
    return form + text


def _say_how(line: dict[str, Any], record: Record) -> None:
    """How the call came to its end: attempts, guards, tokens."""
    if attempts := record.attempts:
        line["attempts"] = [{"upstream": a.upstream, "label": a.label, "ms": _ms(a.seconds)} for a in attempts]
        if (first := attempts[-1].first) is not None:
            line["first_ms"] = _ms(attempts[-1].started + first - record.started)
    if record.retries:
        line["retries"] = record.retries
    if record.asks_again:
        line["asks_again"] = record.asks_again
    if record.cache:
        line["cache"] = record.cache
    if record.json:
        line["json"] = record.json
    if record.usage:
        line["tokens_in"], line["tokens_out"] = tokens(record.usage)


def tidy(text: str, most: int) -> str:
    """*text*, cut and without line ends, control characters and halves of characters."""
    text = text[:most]
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _ms(seconds: float) -> float:
    return int(seconds * 10_000 + 0.5) / 10
