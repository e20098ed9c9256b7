"""Calls that are alike, so that what they have in common is worked out once.

Here belongs what makes calls alike, and the example that stands for all of a sort.  Thousands of calls a second
take the same path to the same upstream and end the same way: which counts move, and what their line in the log
looks like, is the same for all of them.  What differs (times, tokens, ids) is read from each record.

A call with a history, which went to several upstreams or was asked again, is of no sort: it is looked at by itself.
An example holds nothing of what a call carried: no body, no header field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Call, Record, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guardproxy.core.values import Kind
    from guardproxy.telemetry.histogram import Histogram
    from guardproxy.telemetry.model import Model

MOST = 500
"""Sorts that are kept: paths are the callers' to choose."""
LONG = 512
"""Characters of a path and a model's name; a call with longer ones is of no sort."""
_KEPT = (
    *(
        "target",
        "attempts",
        "news",
        "parse_failures",
        "asks_again",
        "aborted",
        "retries",
        "cache",
        "cache_event",
        "json",
    ),
    *("fallback", "usage", "gone", "ended", "trail", "trace", "background", "ident", "saved"),
)
"""What an example has of its record as it is."""
_NOBODY = ("", "", None, True)
_NOWHERE = ("", "", "", "", "")


@final
class Sort:
    """Calls that are alike."""

    __slots__ = ("asked", "example", "form", "model", "seconds", "times")

    def __init__(self, example: Record) -> None:
        self.example = example
        self.times = 0
        """Calls of it that have not been counted yet."""
        self.seconds: Histogram | None = None
        """Where their durations go."""
        self.asked: Model | None = None
        """Where the times of their one attempt go."""
        self.model: Model | None = None
        """Where their tokens go."""
        self.form: str | None = None
        """The line of such a call in the log, with holes; empty: it has none; None: nobody has asked yet."""


@final
class Sorts:
    """All sorts met since they were last forgotten; *met* is shown a new one, *leaving* one that is forgotten."""

    def __init__(self, met: Callable[[Sort], None], leaving: Callable[[Sort], None]) -> None:
        self._met = met
        self._leaving = leaving
        self._sorts: dict[tuple[Any, ...], Sort] = {}

    def __iter__(self) -> Iterator[Sort]:
        return iter(self._sorts.values())

    def of(self, record: Record) -> Sort | None:
        """The sort of a finished call; None where it has a history of its own."""
        call, reply, target, attempts = record.call, record.reply, record.target, record.attempts
        if call is None or reply is None or len(attempts) > 1 or _has_history(record):
            return None
        asked: tuple[str, str, Kind | None, bool] = _NOBODY
        if attempts:
            attempt = attempts[0]
            asked = (attempt.upstream, attempt.label, attempt.kind, attempt.first is None)
        key = (
            *(call.method, call.path, call.stream, call.dialect is None, call.upstream, call.mode),
            call.schema.name if call.schema is not None else "",
            *(reply.status, reply.source, reply.code),
            *(
                _NOWHERE
                if target is None
                else (target.upstream, target.model or call.model, target.mode, target.moved_from, target.reason)
            ),
            *(
                record.json,
                record.cache[:3] == "hit" or record.cache,
                record.cache_event,
                record.gone,
                not record.usage,
                not record.trace,
            ),
            asked,
        )
        return self._sorts.get(key) or self._meet(key, record)

    def forget(self) -> None:
        """Forget them all."""
        for sort in self:
            self._leaving(sort)
        self._sorts.clear()

    def _meet(self, key: tuple[Any, ...], record: Record) -> Sort | None:
        if record.call is not None and len(record.call.path) + len(record.call.model) > LONG:
            return None
        if len(self._sorts) >= MOST:
            self.forget()
        sort = self._sorts[key] = Sort(lean(record))
        self._met(sort)
        return sort


def lean(record: Record) -> Record:
    """The same without anything that the call carried, and without long names of the caller's making.

    It is made of what is named here, and so holds nothing that a record or a call may get some day.
    """
    call, reply, example = record.call, record.reply, Record(record.started)
    for name in _KEPT:
        setattr(example, name, getattr(record, name))
    if call is not None:
        example.call = Call(call.id, call.method, call.path[:LONG], "", [], b"", {}, call.dialect)
        example.call.model, example.call.mode, example.call.upstream = call.model[:LONG], call.mode, call.upstream
        example.call.stream, example.call.named_mode = call.stream, call.named_mode
        example.call.wants_schema = call.schema.name if call.schema is not None else ""
    if reply is not None:
        example.reply = Reply(reply.status, b"", source=reply.source, code=reply.code)
    return example


def _has_history(record: Record) -> bool:
    return bool(
        record.background
        or record.retries
        or record.asks_again
        or record.aborted
        or record.fallback
        or record.parse_failures
        or record.news
        or record.trail
    )
