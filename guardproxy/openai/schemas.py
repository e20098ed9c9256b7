"""Which schema an answer has to satisfy: that of the configuration, or that of the request.

Here belongs from where a schema comes and how it is made ready.  In which field of a request it may stand is `wanted`'s
and the dialects', what follows from it the guard's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.core.asked import Schema
from guardproxy.core.jsonschema import Distant, InvalidSchema, Validator, why
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai.shelf import Order, Shelf, digest_of
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.asked import Wanted
    from guardproxy.core.dialect import Dialect
    from guardproxy.core.values import Call

ANY_OBJECT: Final = Schema("json_object", None, b"json_object")
"""What ``response_format: {type: json_object}`` asks for."""


@final
class Schemas:
    """The declared schemas, and those of the last requests."""

    __slots__ = ("declared", "shelf")

    def __init__(self, declared: Mapping[str, Schema]) -> None:
        self.declared = dict(declared)
        self.shelf = Shelf()

    def __repr__(self) -> str:
        return f"<Schemas {', '.join(self.declared) or 'of requests alone'}>"

    def of(self, call: Call, dialect: Dialect, order: Order) -> Schema | None:
        """What the text and the tools of an answer to *call* have to satisfy; None: nothing.

        Raises `Misplaced`.  Where anything is put on the *order* what is returned is of no use.
        """
        if call.wants_schema and call.wants_schema not in self.declared:
            names = ", ".join(self.declared) or "none"
            raise Misplaced(
                "invalid_schema", None, f"there is no schema {call.wants_schema[:200]!r}; there are {names}"
            )
        named = self.declared[call.wants_schema] if call.wants_schema else self._wanted(dialect.wanted(call.doc), order)
        if not call.doc.get("tools"):
            return named
        parameters = dialect.parameters(call.doc)
        checks = {name: self._made_ready(place, schema, order) for name, place, schema in parameters}
        digest = b"" if named is None else named.digest
        if named is None:
            return Schema("tools", None, digest, text=False, tools=checks, offers=True)
        return Schema(named.name, named.check, digest, named.fallback, tools=checks, offers=True, source=named.source)

    def _wanted(self, asked: Wanted | None, order: Order) -> Schema | None:
        if asked is None:
            return None
        if asked.any_object:
            return ANY_OBJECT
        declared, digest = self.declared.get(asked.name), digest_of(text := dumps(asked.schema))
        if declared is not None and declared.digest == digest:
            return Schema(asked.name, declared.check, digest, declared.fallback, source=asked.schema)
        validator = self._made_ready(asked.place, asked.schema, order, text)
        fallback = None
        if declared is not None and declared.fallback is not None and type(validator) is Validator:
            # the app names its schema as the configuration does: its fallback serves, if it serves this schema too
            fallback = declared.fallback if validator.is_valid(loads(declared.fallback)) else None
        return Schema(asked.name or asked.place, validator, digest, fallback, source=asked.schema)

    def _made_ready(self, place: str, schema: Any, order: Order, text: bytes = b"") -> Validator | Distant | None:
        try:
            return self.shelf.validator(schema, order, text)
        except InvalidSchema as wrong:
            raise Misplaced(wrong.code, place, str(wrong)) from wrong


@final
class Misplaced(ValueError):  # noqa: N818 -- a condition of the request; nobody's error
    """A schema in a request is none, or is not there; *param* is the request's field, where it is in one."""

    def __init__(self, code: str, place: str | None, reason: str) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.code = code
        self.param = place.partition(".")[0].partition("[")[0] if place else None


def declare(name: str, schema: object, fallback: object) -> Schema:
    """Make a named schema; raises `InvalidSchema` where it is none, `ValueError` where its fallback breaks it."""
    validator = compile_schema(schema)
    digest = digest_of(dumps(schema))
    if fallback is None:
        return Schema(name, validator, digest, source=schema)
    if not validator.is_valid(fallback):
        raise ValueError("; ".join(why(validator, fallback)))
    return Schema(name, validator, digest, dumps(fallback), source=schema)
