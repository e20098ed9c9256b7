"""What became of one call, step by step.

Here belongs the shape in which the live page, ``/guard/requests`` and ``guardproxy explain --request`` show a call
that is over: the summary, and the trail of what was decided when.  It is read off what the feed keeps, when somebody
asks; nothing of it is made for a call that nobody looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from guardproxy.openai.usage import tokens
from guardproxy.telemetry.line import GONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from guardproxy.core.values import Attempt, Record

SHOWN = 200
"""Characters of a path or a model's name that are shown."""


class Entry(NamedTuple):
    """What is kept of a call: what it has in common with its sort, and what is its own."""

    serial: int
    at: float
    """When it was over, in seconds since 1970."""
    id: str
    example: Record
    """A lean record of a call like it, or of itself."""
    started: float
    ended: float
    attempts: Sequence[Attempt]
    usage: dict[str, Any] | None
    cache: str
    trace: str
    bodies: tuple[bytes, bytes] | None
    """The beginnings of what was asked and answered, where they are kept."""


def summary(entry: Entry) -> dict[str, Any]:
    """A call in a line."""
    example = entry.example
    call, reply, target = example.call, example.reply, example.target
    return {
        "serial": entry.serial,
        "at": entry.at,
        "id": entry.id,
        "method": call.method if call else "",
        "path": call.path[:SHOWN] if call else "",
        "status": reply.status if reply else GONE,
        "code": reply.code if reply else "",
        "source": reply.source if reply else "",
        "upstream": target.upstream if target else "",
        "mode": target.mode if target else "",
        "from": target.moved_from if target else "",
        "reason": target.reason if target else "",
        "attempts": len(entry.attempts),
        "cache": entry.cache,
        "json": example.json,
        "gone": example.gone,
        "ms": _ms(entry.ended - entry.started),
        "trace": entry.trace,
    }


def full(entry: Entry) -> dict[str, Any]:
    """All that is known of a call, its steps in the order in which they came."""
    example, call = entry.example, entry.example.call
    asked, answered = tokens(entry.usage)
    told = summary(entry) | {
        "model": call.model[:SHOWN] if call else "",
        "asked_mode": (call.mode or "") if call else "",
        "stream": call.stream if call else False,
        "schema": call.wants_schema if call else "",
        "tokens_in": asked,
        "tokens_out": answered,
        "retries": example.retries,
        "asks_again": example.asks_again,
        "aborted": example.aborted,
        "fallback": example.fallback,
        "attempts": [_attempt(attempt, entry.started) for attempt in entry.attempts],
        "steps": [
            {"ms": _ms(at - entry.started), "what": what, "said": said}
            for at, what, said in sorted(
                _steps(entry), key=lambda step: step[0]
            )  # stable: at one time, as they are told
        ],
    }
    if entry.bodies is not None:
        told["bodies"] = {"asked": _text(entry.bodies[0]), "answered": _text(entry.bodies[1])}
    return told


def _attempt(attempt: Attempt, started: float) -> dict[str, Any]:
    return {
        "upstream": attempt.upstream,
        "model": attempt.model,
        "label": attempt.label,
        "kind": attempt.kind.value,
        "started_ms": _ms(attempt.started - started),
        "first_ms": None if attempt.first is None else _ms(attempt.first),
        "ms": _ms(attempt.seconds),
        "events": attempt.events,
    }


def _steps(entry: Entry) -> Iterator[tuple[float, str, str]]:
    example, started = entry.example, entry.started
    call, reply, target = example.call, example.reply, example.target
    if call is not None:
        wanted = f"mode {call.mode}" if call.named_mode else f"model {call.model[:SHOWN] or call.upstream}"
        yield started, "asks", f"{wanted}{', streamed' if call.stream else ''}"
        if call.wants_schema:
            yield started, "must satisfy", call.wants_schema
    if entry.cache:
        yield started, "cache", entry.cache
    yield from example.trail or ()
    for attempt in entry.attempts:
        yield attempt.started, "asked", f"{attempt.upstream} ({attempt.model})" if attempt.model else attempt.upstream
        if attempt.first is not None:
            yield attempt.started + attempt.first, "first event", attempt.upstream
        ended = f"{attempt.upstream}: {attempt.label}, {attempt.kind.value}"
        yield attempt.started + attempt.seconds, "ended", ended
    for news in example.news:
        why = f" ({news.reason})" if news.reason else ""
        yield news.at, news.what, f"{news.subject}: {news.old} → {news.new}{why}"
    if target is not None and target.moved_from:
        yield entry.ended, "moved", f"{target.moved_from} → {target.mode}: {target.reason or 'unavailable'}"
    if reply is None:
        yield entry.ended, "gone", "the caller left before there was a reply"
    else:
        particulars = (
            reply.code,
            f"JSON {example.json}" if example.json else "",
            "caller gone" if example.gone else "",
        )
        yield entry.ended, "replied", ", ".join((f"{reply.status} from {reply.source}", *filter(None, particulars)))


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")
