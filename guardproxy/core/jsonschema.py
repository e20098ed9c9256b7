r"""JSON Schemas, compiled: the one place that knows the engine.

Here belongs how a schema becomes a `Validator`, with every known format checked in every draft and nothing
fetched from anywhere.  Not here: what is done with a verdict (`guards.schema`), the words for a violation
(`core.schema_words`), what is too much work (`core.schema_bounds`).

What was measured, with jsonschema-rs 0.60.3, and what follows from it:

* n levels of definitions that each name the one below twice: `is_valid` took 0.1 ms for 12 levels, 1.2 ms
  for 16, 21 ms for 20, 210 ms for 24.  It needs no memory, but it holds the process: `bound` refuses such a
  schema from 10,000 judgements of one value on (12 levels), in microseconds.
* `validate` and `iter_errors` build the whole tree of failures before the first is to be had, whatever
  their ``mask``: 0.02 s and 7 MB for 10 levels, 0.5 s and 126 MB for 14, 21 s and 2.4 GB for 18.  `evaluate`
  is ten times better and explodes as well.  None of them is called here: `why` finds its words by asking
  `is_valid` of the parts.
* Definitions that refer to themselves, `not` and `oneOf` among them, are no trouble: verdicts are
  remembered per value, 22 levels took 10 µs.
* Patterns: ``^(a+)+$`` on 100,000 characters took 0.2 ms, in the engine's default too, which backtracks only
  where look-around or a back-reference needs it; ``^(a|aa)+\1$`` took 29 ms there before it gave up.  With a
  limit of 10,000 steps it is 3 ms, and look-around still works, which `RegexOptions` would refuse.
* A schema of 1,000 members compiled in 3 ms; one nested 255 deep is refused by the engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, final

import jsonschema_rs as engine

from guardproxy.core.drafts import NAMES, draft_of, metaschemas
from guardproxy.core.heft import LIGHT
from guardproxy.core.references import escaped
from guardproxy.core.schema_bounds import Bound, InvalidSchema, bound, pointer
from guardproxy.core.schema_words import words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Bound", "Distant", "InvalidSchema", "Validator", "compile", "measured", "why"]

_ROOT: Final = "guardproxy:schema"
_PATTERNS: Final = engine.FancyRegexOptions(backtrack_limit=10_000, size_limit=64 << 20, dfa_size_limit=1 << 20)
_THOROUGH: Final = engine.FancyRegexOptions(backtrack_limit=10_000_000, size_limit=64 << 20, dfa_size_limit=1 << 20)

_FETCH: Final = re.compile(r" is not present in a registry and retrieving it failed.*", re.DOTALL)

_LATER: Final = {
    engine.Draft4Validator: (
        "uuid duration iri iri-reference idn-hostname idn-email uri-reference uri-template"
        " json-pointer relative-json-pointer date time regex"
    ),
    engine.Draft6Validator: (
        "uuid duration iri iri-reference idn-hostname idn-email relative-json-pointer date time regex"
    ),
    engine.Draft7Validator: "uuid duration",
}
"""Formats that a draft does not define and that are checked all the same: schemas use them, and mean them."""


def _format(name: str) -> Callable[[str], bool]:
    return engine.Draft202012Validator({"format": name}, validate_formats=True).is_valid


_FORMATS: Final = {draft: {name: _format(name) for name in names.split()} for draft, names in _LATER.items()}


@final
class Validator:
    """A JSON Schema that answers are judged by."""

    __slots__ = ("_build", "_others", "_parts", "_registry", "heft", "is_valid", "schema", "twin")

    def __init__(
        self,
        schema: Any,
        build: Callable[..., engine.Validator],
        heft: int = 1,
        others: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.schema = schema
        self._others = others
        """Schemas that it may refer to besides its own parts."""
        self.heft = heft
        """How many times as much work as an ordinary schema it makes (`core.heft`)."""
        self.is_valid: Callable[[Any], bool] = build(
            schema, engine.Registry(others, retriever=_refuse) if others else None
        ).is_valid
        """Whether a value satisfies the schema: microseconds, no words; `ValueError` where it is no JSON."""
        self.twin: Validator | Literal[False] | None = False
        """What judges values that are still growing (`core.relax`): None: nothing can; False: not made yet."""
        self._build = build
        self._registry: engine.Registry | None = None
        self._parts: dict[str, Callable[[Any], bool]] = {}

    def __repr__(self) -> str:
        return f"<Validator {str(self.schema)[:60]}>"

    def part(self, place: str) -> Callable[[Any], bool]:
        """The judge of that part of the schema which the JSON pointer *place* names."""
        if place not in self._parts:
            if self._registry is None:
                self._registry = engine.Registry([(_ROOT, self.schema), *self._others], retriever=_refuse)
            # `$ref` with neighbours would lose them before 2019-09, so the part is referred to alone.
            self._parts[place] = self._build({"$ref": _ROOT + "#" + _fragment(place)}, registry=self._registry).is_valid
        return self._parts[place]

    def keyword(self, **keywords: Any) -> Callable[[Any], bool]:
        """The judge of a few keywords alone, which refer to nothing."""
        return self._build(keywords).is_valid


@final
class Distant:
    """A JSON Schema that takes too long to make ready here: answers are judged by it in another process alone."""

    __slots__ = ("text",)

    heft: Final = LIGHT + 1
    """Whatever is judged by it is too much work here."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        """The schema, written down."""

    def __repr__(self) -> str:
        return f"<Distant schema of {len(self.text)} bytes>"


def measured(schema: object) -> Bound:
    """How much work *schema* makes; raises `InvalidSchema` where it is none, or too much."""
    if not isinstance(schema, dict | bool):
        raise InvalidSchema("", f"a JSON Schema is an object, true or false, not {_name(schema)}")
    return bound(schema)


def compile(schema: Any, known: Bound | None = None, *, thorough: bool = False) -> Validator:  # noqa: A001 - the word for it, used as `jsonschema.compile`
    """Make a `Validator` of *schema* (draft by ``$schema``, else 2020-12); *known*: how much work it makes.

    *thorough*: patterns may try for as long as they like, since somebody else has an eye on the time.

    Raises `InvalidSchema` where it is no schema, refers to anything outside itself, or is too deep.
    """
    lost, heft, _ = measured(schema) if known is None else known
    try:
        draft = draft_of(schema)
    except ValueError as error:
        raise InvalidSchema("/$schema", str(error)) from error
    build = _builder(draft, thorough=thorough)
    if isinstance(schema, dict) and "$schema" in schema and (name := schema["$schema"]) != NAMES[draft]:
        if not isinstance(name, str):
            raise InvalidSchema("/$schema", f"the name of a draft is a text, not {_name(name)}")
        schema = {**schema, "$schema": NAMES[draft]}  # by another name the engine would have to look for it
    try:
        try:
            return Validator(schema, build, heft)
        except ValueError as error:
            made, others = escaped(schema), metaschemas() if "json-schema.org/" in str(error) else []
            if made == schema and not others:
                raise
            return Validator(made, build, heft, others)
    except engine.ValidationError as error:
        if isinstance(error.kind, engine.ValidationErrorKind.Referencing):
            raise InvalidSchema(lost, _short(_FETCH.sub(" is not in this schema", error.message))) from None
        raise InvalidSchema(pointer(*error.instance_path), _short(error.message)) from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidSchema("", _short(str(error))) from None


def why(validator: Validator, instance: Any, limit: int = 5) -> list[str]:
    """Say what is wrong with *instance*, at most *limit* times: ``path: what was expected, what came``."""
    try:
        if validator.is_valid(instance):
            return []
        return words(validator, instance, limit)
    except ValueError as error:
        return [_short(str(error))]


def _builder(draft: type[engine.Validator], *, thorough: bool = False) -> Callable[..., engine.Validator]:
    formats = _FORMATS.get(draft)

    def build(schema: Any, registry: engine.Registry | None = None) -> engine.Validator:
        return draft(
            schema,
            formats=formats,
            validate_formats=True,
            retriever=_refuse,
            registry=registry,
            pattern_options=_THOROUGH if thorough else _PATTERNS,
        )

    return build


def _refuse(uri: str) -> NoReturn:
    message = f"{uri} is not in this schema, and nothing is fetched"
    raise ValueError(message)


def _short(text: str) -> str:
    return text if len(text) <= 200 else text[:199] + "…"


def _fragment(place: str) -> str:
    return "".join(
        c if c.isascii() and (c.isalnum() or c in "/~$_-.") else "".join(f"%{b:02X}" for b in c.encode()) for c in place
    )


def _name(value: object) -> str:
    return "null" if value is None else "text" if isinstance(value, str) else f"a {type(value).__name__}"
