"""An instance invented to satisfy a JSON Schema: what a model with structured output would answer.

Here belongs the choice of branches and values. Here do not belong what a value must fulfil (`fits`), how two schemas
become one (`merging`) and what the words are about (`perfume`).

What is built is checked against `fits` before it counts, so an unlucky guess becomes the next try or a
`CannotSatisfyError`, never a wrong instance (formats aside, which come from a table).
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.simulator import perfume
from guardproxy.simulator.fits import CannotSatisfyError, fits, limits, parts_of, resolve, same, tuple_of, types_of
from guardproxy.simulator.merging import merge
from guardproxy.simulator.pattern import match_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FORMATS: Final = {
    "date-time": "2024-05-17T09:30:00Z", "date": "2024-05-17", "time": "09:30:00Z", "duration": "PT6H",
    "email": "nose@example.com", "idn-email": "nose@example.com", "hostname": "example.com",
    "idn-hostname": "example.com",
    "ipv4": "192.0.2.7", "ipv6": "2001:db8::7", "uri": "https://example.com/brief", "iri": "https://example.com/brief",
    "uri-reference": "/brief", "iri-reference": "/brief", "uri-template": "/brief/{id}", "json-pointer": "/notes/0",
    "relative-json-pointer": "0/notes", "regex": "^[a-z]+$",
}  # fmt: skip
# Below this depth optional properties are left out and simple branches come first, so that recursive schemas end.
_SHALLOW: Final = 4
_DEEPEST: Final = 40
# Branch combinations and list items are tried within these bounds, the whole instance within the third.
_COMBINATIONS: Final = 64
_TRIES: Final = 50
_STEPS: Final = 20_000
_SPAN: Final = 100


@final
class _Inventor:
    def __init__(self, root: Any, seed: int, hints: Mapping[str, list[Any]]) -> None:
        self.root, self.hints = root, hints
        self.dice = Random(seed)
        self.words = perfume.words(seed)
        self.steps = 0

    def make(self, schema: Any, name: str = "", depth: int = 0) -> Any:
        """A value for `schema`, which belongs to a property called `name`."""
        self.steps += 1
        if self.steps > _STEPS or depth > _DEEPEST:
            raise CannotSatisfyError("the schema nests or branches too deeply")
        if schema is False:
            raise CannotSatisfyError("the schema is false: it allows nothing")
        choices: list[list[Any]] = []
        base: dict[str, Any] = {}
        for part in self._parts(schema, choices, 0):
            base = merge(base, part)
        if not choices:
            return self._checked(self._concrete(base, name, depth), schema)
        ordered = [sorted(options, key=self._weight) if depth >= _SHALLOW else options for options in choices]
        failure = CannotSatisfyError("no branch can be satisfied")
        for combination in itertools.islice(itertools.product(*ordered), _COMBINATIONS):
            try:
                return self._checked(self.make({"allOf": [base, *combination]}, name, depth + 1), schema)
            except CannotSatisfyError as problem:
                failure = problem
        raise failure

    def _parts(self, schema: Any, choices: list[list[Any]], nested: int) -> Iterable[dict[str, Any]]:
        """The schema without its combinators; what must be chosen between goes into `choices`."""
        if nested > _DEEPEST:
            raise CannotSatisfyError("the schema refers to itself without end")
        if schema is False:
            raise CannotSatisfyError("the schema is false: it allows nothing")
        if schema is True:
            return
        combinators = {"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else"}
        yield {key: value for key, value in schema.items() if key not in combinators}
        if "$ref" in schema:
            yield from self._parts(resolve(self.root, schema["$ref"]), choices, nested + 1)
        for part in schema.get("allOf", []):
            yield from self._parts(part, choices, nested + 1)
        choices.extend(schema[key] for key in ("anyOf", "oneOf") if key in schema)
        if "if" in schema:
            choices.append([{"allOf": [schema["if"], schema.get("then", True)]}, schema.get("else", True)])

    def _weight(self, schema: Any) -> int:
        if not isinstance(schema, dict) or "$ref" in schema:
            return 2
        return 0 if {"const", "enum"} & schema.keys() or not {"object", "array"} & {*types_of(schema)} else 1

    def _checked(self, value: Any, schema: Any) -> Any:
        if not fits(value, schema, self.root):
            raise CannotSatisfyError("no instance was found")
        return value

    def _concrete(self, schema: dict[str, Any], name: str, depth: int) -> Any:
        options = [schema["const"]] if "const" in schema else schema.get("enum")
        if options is None and "format" not in schema:
            options = [*self.hints.get(name.lower(), ()), *schema.get("examples", ())]
            options = [option for option in options if fits(option, schema, self.root)][:1]
        elif options is not None:
            options = [option for option in options if fits(option, schema, self.root)]
            if not options:
                raise CannotSatisfyError("no option of the enum or const satisfies the rest of its schema")
        if options:
            return self.dice.choice(options)
        kinds = types_of(schema) or [self._implied(schema)]
        kind = next((kind for kind in kinds if kind != "null"), "null")
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, name, depth)
            case "string":
                return self._string(schema)
            case "integer" | "number":
                return self._number(schema, whole=kind == "integer")
            case "boolean":
                return self.dice.random() < 0.5
        return None

    def _implied(self, schema: dict[str, Any]) -> str:
        implied = {"properties": "object", "required": "object", "additionalProperties": "object", "items": "array"}
        implied |= {"prefixItems": "array", "minItems": "array", "contains": "array", "multipleOf": "number"}
        implied |= {"minimum": "number", "maximum": "number", "minProperties": "object", "patternProperties": "object"}
        return next((kind for keyword, kind in implied.items() if keyword in schema), "string")

    def _string(self, schema: dict[str, Any]) -> str:
        if "pattern" in schema:
            tries = (match_of(schema["pattern"], self.dice) for _ in range(_TRIES))
            return next((text for text in tries if fits(text, schema, self.root)), "")
        if schema.get("format") == "uuid":
            return f"{self.dice.getrandbits(32):08x}-0000-4000-8000-{self.dice.getrandbits(48):012x}"
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self.dice.choice(self.words)
        while len(text) < schema.get("minLength", 0):
            text += " and " + self.dice.choice(self.words)
        return text[: schema.get("maxLength", len(text))]

    def _number(self, schema: dict[str, Any], *, whole: bool) -> float:
        low, above, high, below = limits(schema)
        step = Fraction(str(schema.get("multipleOf", 1 if whole else "0.01")))
        if whole:
            step = Fraction(math.lcm(step.numerator, step.denominator), step.denominator)
        elif "multipleOf" not in schema and low is not None and high is not None:
            # Finer than the range, so that 0.001 to 0.002 has something in it.
            step = min(step, (Fraction(str(high)) - Fraction(str(low))) / 8) or step
        first = math.ceil(Fraction(str(low)) / step) if low is not None else None
        last = math.floor(Fraction(str(high)) / step) if high is not None else None
        if first is not None and above and first * step == Fraction(str(low)):
            first += 1
        if last is not None and below and last * step == Fraction(str(high)):
            last -= 1
        if first is None:
            first = 0 if last is None else min(0, last)
        last = first + _SPAN if last is None else min(last, first + _SPAN)
        if last < first:
            if low is not None and low == high and not whole:
                return low
            raise CannotSatisfyError("there is no number in the range")
        value = self.dice.randint(first, last) * step
        return value.numerator if value.denominator == 1 and (whole or step.denominator == 1) else float(value)

    def _array(self, schema: dict[str, Any], name: str, depth: int) -> list[Any]:
        first, rest = tuple_of(schema)
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        made: list[Any] = [self.make(part, name, depth + 1) for part in first[: int(min(most, len(first)))]]
        singular = name.lower().removesuffix("s")
        if "contains" in schema:
            wanted = {"allOf": [rest, schema["contains"]]}
            self._fill(made, len(made) + schema.get("minContains", 1), wanted, schema, singular, depth)
        generous = len(made) if depth >= _SHALLOW or rest is False else max(least, 3 if not first else len(made))
        try:
            self._fill(made, int(min(most, max(least, generous))), rest, schema, singular, depth)
        except CannotSatisfyError:
            if len(made) < least:
                raise
        return made

    def _fill(self, made: list[Any], until: int, item: Any, schema: dict[str, Any], name: str, depth: int) -> None:
        unique = schema.get("uniqueItems", False)
        while len(made) < until:
            for _ in range(_TRIES):
                # Only the first may use the hint, or a list of notes would be one note three times.
                value = self.make(item, "" if made else name, depth + 1)
                if not unique or not any(same(value, other) for other in made):
                    made.append(value)
                    break
            else:
                raise CannotSatisfyError("too few different items")

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        needed = list(schema.get("required", []))
        for name, also in schema.get("dependentRequired", {}).items():
            if name in needed or name in schema.get("properties", {}):
                needed += [other for other in also if other not in needed]
        most = schema.get("maxProperties", math.inf)
        made: dict[str, Any] = {}
        for name in [*schema.get("properties", {}), *needed]:
            missing = sum(other not in made for other in needed)
            if name in made or (name not in needed and (depth >= _SHALLOW or len(made) + missing >= most)):
                continue
            try:
                made[name] = self.make({"allOf": parts_of(schema, name)}, name, depth + 1)
            except CannotSatisfyError:
                if name in needed:
                    raise
        for number in itertools.count(1):
            if len(made) >= schema.get("minProperties", 0) or number > _TRIES:
                return made
            self._extra(made, schema, number, depth)
        raise AssertionError("itertools.count does not end")

    def _extra(self, made: dict[str, Any], schema: dict[str, Any], number: int, depth: int) -> None:
        patterns = list(schema.get("patternProperties", {}))
        name = match_of(patterns[0], self.dice) if patterns else f"extra_{number}"
        if "propertyNames" in schema:
            name = self.make({"allOf": [{"type": "string"}, schema["propertyNames"]]}, "", depth + 1)
        if name not in made:
            made[name] = self.make({"allOf": parts_of(schema, name)}, name, depth + 1)


def instance(schema: Any, *, seed: int = 0, hints: Mapping[str, list[Any]] | None = None) -> Any:
    """Invent a value that satisfies `schema` (a decoded JSON Schema; draft 4 to 2020-12, local references only).

    The same schema, seed and hints give the same value. Hints are values to prefer by property name; by default those
    of a perfume brief. Raises `CannotSatisfyError` where none was found, for nonsense in place of a schema, too.
    """
    try:
        return _Inventor(schema, seed, perfume.hints(seed) if hints is None else hints).make(schema)
    except (AttributeError, TypeError, KeyError, ValueError, ArithmeticError, RecursionError) as problem:
        if isinstance(problem, CannotSatisfyError):
            raise
        raise CannotSatisfyError(f"not a schema the simulator understands: {problem}") from problem
