"""Turning a call to where it goes: what is rewritten on the way.

Here belongs the rewriting of model, mode, parameters and credentials for one target (and nothing else of the
call: the same bytes go on as the same object where nothing is rewritten).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.steps import Ask
from guardproxy.openai.request import changed, other_dice
from guardproxy.openai.splice import DROP, splice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Call, Headers, Target

_CREDENTIALS = frozenset((b"authorization", b"x-api-key", b"api-key"))
_LENGTHS = frozenset(("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"))
"""Of these something negative means that there is no bound (llama.cpp, Ollama)."""
_SYNONYMS = {"max_tokens": ("max_completion_tokens",), "max_completion_tokens": ("max_tokens",)}
"""A parameter that the caller has set under another name is not left open, and is capped under it too."""


@final
@dataclass(slots=True, frozen=True)
class Outfit:
    """What an upstream wants to find in the header of every request."""

    api_key: str | None = None
    """Replaces the caller's credentials towards it."""
    headers: tuple[tuple[str, str], ...] = ()
    structured_output: str = "none"
    """How its engine is told of a schema that it is to enforce."""


@final
class Aim:
    """Makes an `Ask` of a call and a target."""

    __slots__ = ("_field", "_forward", "_outfits", "_ways")

    def __init__(self, outfits: Mapping[str, Outfit], field: str = "mode", *, forward: bool = True) -> None:
        self._field = field
        self._forward = forward
        self._outfits = {name: _worn(outfit) for name, outfit in outfits.items()}
        self._ways = {n: o.structured_output for n, o in outfits.items() if o.structured_output != "none"}

    def __call__(self, call: Call, target: Target, watch: Watcher | None = None) -> Ask:
        """The request as *target* gets it; for *watch* to read along it is asked to stream."""
        headers = list(call.headers)
        ident = (b"X-Request-Id", call.id.encode())
        taken, worn, key = self._outfits.get(target.upstream, _NOTHING)
        if taken or call.mode_in == "header":
            headers = self._dress(headers, call, target, taken)
        headers += worn
        if key and call.dialect is not None and call.dialect.own_key:
            headers.append((call.dialect.own_key, key))
        if call.dialect is None:
            return Ask(call, target, [*headers, ident], call.body, relay=True)
        headers = [pair for pair in headers if pair[0].lower() != b"accept-encoding"]
        headers += ((b"Accept-Encoding", b"identity"), ident)
        changes = self._changes(call, target)
        streams = call.stream
        if call.whole:
            streams = watch is not None or (streams and not call.plain)
            changes |= self._asked(call, target, streams=streams)
        body = splice(call.body, call.doc, changes)
        return Ask(call, target, headers, body, relay=streams and not call.whole, streams=streams, watch=watch)

    def _asked(self, call: Call, target: Target, *, streams: bool) -> dict[str, Any]:
        """How an answer that will be judged is asked for: as events or not, and with its schema."""
        doc, dialect, schema = call.doc, call.dialect, call.schema
        changes: dict[str, Any] = {}
        if dialect is not None and streams is not call.stream:
            changes = (dialect.streamed(doc) or {}) if streams else dialect.unstreamed(doc)
        if dialect is not None and schema is not None and schema.text and target.upstream in self._ways:
            changes |= dialect.enforced(doc, schema, self._ways[target.upstream])
        return changes

    def _changes(self, call: Call, target: Target) -> dict[str, Any]:
        doc = call.doc
        changes: dict[str, Any] = {}
        if target.model:
            changes["model"] = target.model
        if self._field in doc:
            if not self._forward:
                changes[self._field] = DROP
            elif target.mode and call.mode_in in ("field", "header"):  # the header wins, and the field follows it
                changes[self._field] = target.mode
        dialect = call.dialect
        if (call.named_mode or target.moved_from) and dialect is not None and dialect.judged:
            changes |= self._tuned(dialect, doc, target, call.asked_again)
        return changes

    def _tuned(self, dialect: Dialect, doc: dict[str, Any], target: Target, asked_again: int) -> dict[str, Any]:
        """The mode's parameters and caps, by the names and in the place that the dialect has for them."""
        spelled, nest = dialect.spelled, dialect.nest
        inner = doc
        if nest:
            given = doc.get(nest)
            inner = given if isinstance(given, dict) else {}
        changes: dict[str, Any] = {}
        for name, value in target.params.items():
            if _is_open(inner, known := spelled.get(name, name)):
                changes[known] = value if not asked_again else _rolled(name, value, asked_again)
        for name, most in target.caps.items():
            self._cap(spelled.get(name, name), most, inner, changes)
        return {nest: {**inner, **changes}} if nest and changes else changes

    @staticmethod
    def _cap(name: str, most: Any, doc: dict[str, Any], changes: dict[str, Any]) -> None:
        """Bound *name*, under whatever name it is set; where it is not set at all the bound is its value."""
        open_ = True
        for spelled in (name, *_SYNONYMS.get(name, ())):
            value = changes.get(spelled, doc.get(spelled))
            if isinstance(value, int | float) and not isinstance(value, bool):
                open_ = False
                if value > most or (value < 0 and spelled in _LENGTHS):
                    changes[spelled] = most
        if open_:
            changes[name] = most

    def _dress(self, headers: Headers, call: Call, target: Target, taken: frozenset[bytes]) -> Headers:
        dressed: Headers = []
        for name, value in headers:
            lower = name.lower()
            if lower in taken:
                continue
            if lower == b"x-llm-mode" and call.mode_in == "header":
                if self._forward:
                    dressed.append((name, target.mode.encode() or value))
                continue
            dressed.append((name, value))
        return dressed


def more_room(call: Call, target: Target, most: int) -> Call | None:
    """The same call with four times the room that the answer had at *target*, *most* tokens at the most.

    None where nobody has bounded it, or there is no more: *most* and the caps of the mode are heeded.
    """
    dialect = call.dialect
    if dialect is None:
        return None
    nest, doc = dialect.nest, call.doc
    inner = doc.get(nest) if nest else doc
    inner = inner if isinstance(inner, dict) else {}
    bounded = next((name for name in dialect.bounds if type(inner.get(name)) is int), "")
    given = inner[bounded] if bounded else None
    tuned = call.named_mode or target.moved_from
    for name in ("max_completion_tokens", "max_tokens") if tuned else ():
        if not bounded and type(target.params.get(name)) is int:
            bounded, given = dialect.spelled.get(name, name), target.params[name]
        most = min(most, int(target.caps.get(name, most)))
    if type(given) is not int or not 0 < given < most:
        return None
    room = {bounded: min(given * 4, most)}
    return changed(call, {nest: {**inner, **room}} if nest else room)


def _rolled(name: str, value: Any, times: int) -> Any:
    """A parameter of a mode where the model is asked again, as `other_dice` has it for those of the caller."""
    for _ in range(times):
        value = other_dice({name: value}).get(name, value)
    return value


def _is_open(doc: dict[str, Any], name: str) -> bool:
    """Whether the caller has left *name* open, under every name that it has."""
    return all(doc.get(spelled) is None for spelled in (name, *_SYNONYMS.get(name, ())))


_NOTHING: tuple[frozenset[bytes], Headers, bytes] = (frozenset(), [], b"")


def _worn(outfit: Outfit) -> tuple[frozenset[bytes], Headers, bytes]:
    """The caller's fields that are taken off, those that are put on, and the key, which some dialects want twice."""
    worn: Headers = [(name.encode(), value.encode()) for name, value in outfit.headers]
    taken = {name.lower() for name, _ in worn}
    key = b""
    if outfit.api_key is not None:
        key = outfit.api_key.encode()
        taken |= _CREDENTIALS
        worn.append((b"Authorization", b"Bearer " + key))
    return frozenset(taken), worn, key
