"""The schemas that are in use, made ready.

Here belongs what is kept so that a schema is made ready once and not with every call: the validators of requests, what
is wrong with those that are none, and the prefix checkers, the last `KEPT` of each.  Who judges by them is the guard.

    nothing is known of it   light: made ready at once   → a `Validator`, or refused
                             heavy: put on the order     → nothing yet; `learn` tells what was found out elsewhere
    measured elsewhere       not large                   → a `Validator`, made here without measuring it again
                             large                       → `Distant`: answers are judged by it elsewhere too
    refused                                              → refused again; for a while where it took too long
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from guardproxy.core.jsonschema import Bound, Distant, InvalidSchema, Validator, measured
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import Prefix
from guardproxy.openai.strict import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.openai.weighing import Found

KEPT: Final = 256
"""Schemas of requests that are kept."""
KEPT_BYTES: Final = 4 << 20
"""What they may be long together; made ready they take up to forty times as much."""
ROOM: Final = 24 * 1024
"""Characters of new schemas that are made ready on the loop for one call: up to 20 ms of nothing but alternatives."""
LARGE: Final = 48 * 1024
"""Above so many characters a schema is never made ready on the loop."""
TURN: Final = 12
"""How many characters one turn of a pattern weighs as much as, in time (`core.patterns`)."""
TURN_KEPT: Final = 32
"""The same in memory: a turn takes a kilobyte."""
AGAIN: Final = 60.0
"""Seconds after which a schema that could not be made ready in time is tried again."""


def digest_of(text: bytes) -> bytes:
    """What tells the schema that is written so apart from every other; the same may be written in several ways."""
    return blake2b(text, digest_size=16).digest()


@final
@dataclass(slots=True)
class Order:
    """What one call wants made ready."""

    now: float
    seconds: float = 0.0
    """How long it may take elsewhere."""
    room: int = ROOM
    """Characters that are still made ready at once."""
    heavy: list[bytes] = field(default_factory=list)
    """The schemas that are too much work here, written down."""
    known: int = LARGE
    """Characters of schemas measured elsewhere that are still made ready at once."""


@final
@dataclass(slots=True)
class _Refused:
    """A schema that is none."""

    place: str
    reason: str
    code: str
    until: float = float("inf")


_LATE: Final = "late"
"""Stands for a schema of which nothing was found out in time."""
_Entry = Validator | Distant | Bound | _Refused | str
E = TypeVar("E", bound=_Entry)


@final
class Shelf:
    """The last schemas that were used."""

    __slots__ = ("_bytes", "_kept", "_prefixes")

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, tuple[_Entry, int]] = OrderedDict()
        self._bytes = 0
        self._prefixes: OrderedDict[bytes, Prefix | None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Shelf of {len(self._kept)} schemas, {self._bytes} bytes>"

    def __len__(self) -> int:
        return len(self._kept)

    def validator(self, schema: Any, order: Order, text: bytes = b"") -> Validator | Distant | None:
        """What judges by *schema*; None: not ready, and on the *order*.  Raises `InvalidSchema` where it is none.

        *text*: the schema, where it is written down already.
        """
        text = text or dumps(schema)
        digest = digest_of(text)
        kept = self._kept.get(digest)
        if kept is None:
            return self._new(schema, digest, text, order)
        found = kept[0]
        if type(found) is Validator or type(found) is Distant:
            self._kept.move_to_end(digest)
            return found
        if type(found) is Bound:
            weight = len(text) + found.turns * TURN
            if weight > LARGE:
                return self._keep(digest, text, Distant(text))
            order.known -= weight
            # where one call brings many, some are made ready with each of the next calls
            return Distant(text) if order.known < 0 else self._made(schema, digest, text, found)
        if type(found) is not _Refused:
            reason = f"it could not be made ready within {order.seconds:g} s, or the memory there is for it"
            found = _Refused("", reason, "schema_too_deep", order.now + AGAIN)
            self._keep(digest, text, found)
        elif order.now >= found.until:
            return self._new(schema, digest, text, order)
        raise InvalidSchema(found.place, found.reason, found.code)

    def is_unknown(self, texts: Sequence[bytes]) -> bool:
        """Whether nothing is known yet of any of these schemas."""
        return any(digest_of(text) not in self._kept for text in texts)

    def learn(self, texts: Sequence[bytes], found: Sequence[Found] | None) -> None:
        """Take in what was *found* out elsewhere about schemas; None: nothing, in the time there was."""
        for text, one in zip(texts, [None] * len(texts) if found is None else found, strict=True):
            entry: _Entry = _LATE
            if one is not None:
                entry = Bound("", one.heft, one.turns) if one.heft else _Refused(one.place, one.reason, one.code)
            self._keep(digest_of(text), text, entry)

    def prefix(self, digest: bytes, validator: Validator, *, strict: bool) -> Prefix | None:
        """What checks the beginnings of answers to the schema *digest*; None where it is given up."""
        if digest in self._prefixes:
            self._prefixes.move_to_end(digest)
            return self._prefixes[digest]
        found = self._prefixes[digest] = Prefix.of(validator, strict=strict)
        if len(self._prefixes) > KEPT:
            self._prefixes.popitem(last=False)
        return found

    def _new(self, schema: Any, digest: bytes, text: bytes, order: Order) -> Validator | None:
        """Make *schema* ready where there is room for it, or put it on the *order*."""
        if len(text) <= order.room:
            try:
                bound = measured(schema)
            except InvalidSchema as wrong:
                self._keep(digest, text, _Refused(wrong.place, wrong.reason, wrong.code))
                raise
            order.room -= len(text) + TURN * bound.turns
            if order.room >= 0:
                return self._made(schema, digest, text, bound)
        order.room = 0
        order.heavy.append(text)
        return None

    def _made(self, schema: Any, digest: bytes, text: bytes, bound: Bound) -> Validator:
        try:
            made = compile_schema(schema, bound)
        except InvalidSchema as wrong:
            self._keep(digest, text, _Refused(wrong.place, wrong.reason, wrong.code))
            raise
        return self._keep(digest, text, made, TURN_KEPT * bound.turns)

    def _keep(self, digest: bytes, text: bytes, entry: E, more: int = 0) -> E:
        if (former := self._kept.pop(digest, None)) is not None:
            self._bytes -= former[1]
        size = len(text) + more
        self._kept[digest] = entry, size
        self._bytes += size
        while len(self._kept) > KEPT or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
            self._bytes -= self._kept.popitem(last=False)[1][1]
        return entry
