"""The schemas that are in use, compiled.

Here belongs what is kept so that a schema is compiled once and not with every call: the validators of requests and
the prefix checkers made of them, the last `KEPT` of each.  Who judges by them is the guard.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import Prefix
from guardproxy.openai.strict import dumps

if TYPE_CHECKING:
    from guardproxy.core.jsonschema import Validator

KEPT = 256
"""Schemas of requests that are kept compiled."""


def digest_of(schema: object) -> bytes:
    """What tells *schema* apart from every other: two that are written differently may have two."""
    return blake2b(dumps(schema), digest_size=16).digest()


@final
class Shelf:
    """The last schemas that were used."""

    __slots__ = ("_prefixes", "_validators", "talkative")

    def __init__(self) -> None:
        self._validators: OrderedDict[bytes, Validator] = OrderedDict()
        self._prefixes: OrderedDict[bytes, Prefix | None] = OrderedDict()
        self.talkative: set[bytes] = set()
        """The schemas to which a document has come after much prose: models think aloud before they answer there."""

    def __repr__(self) -> str:
        return f"<Shelf of {len(self._validators)} schemas>"

    def __len__(self) -> int:
        return len(self._validators)

    def validator(self, schema: Any) -> Validator:
        """The validator of *schema*; raises `InvalidSchema` where it is none."""
        digest = digest_of(schema)
        found = self._validators.get(digest)
        if found is not None:
            self._validators.move_to_end(digest)
            return found
        found = self._validators[digest] = compile_schema(schema)
        if len(self._validators) > KEPT:
            self._validators.popitem(last=False)
        return found

    def prefix(self, digest: bytes, validator: Validator, *, strict: bool) -> Prefix | None:
        """What checks the beginnings of answers to the schema *digest*; None where it is given up."""
        if digest in self._prefixes:
            self._prefixes.move_to_end(digest)
            return self._prefixes[digest]
        found = self._prefixes[digest] = Prefix.of(validator, strict=strict)
        if len(self._prefixes) > KEPT:
            self.talkative.discard(self._prefixes.popitem(last=False)[0])
        return found
