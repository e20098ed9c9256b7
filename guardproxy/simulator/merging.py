"""One schema out of several that all hold (`allOf`, a `$ref` and its siblings, a chosen `anyOf` branch).

Here belongs how two keywords become one. Here does not belong which branch is tried (`instance`).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from guardproxy.simulator.fits import CannotSatisfyError, same, types_of

if TYPE_CHECKING:
    from collections.abc import Callable


def merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A schema that holds where both do; raises `CannotSatisfyError` where that is plainly nowhere.

    Neither may have combinators (`$ref`, `allOf`, `anyOf`, `oneOf`, `if`) at its top; those are taken apart before.
    """
    merged = {**one, **other}
    for keyword in one.keys() & other.keys():
        join = _JOINS.get(keyword)
        if join is not None:
            merged[keyword] = join(one[keyword], other[keyword])
    if "type" in one and "type" in other:
        merged["type"] = _common_types(types_of(one), types_of(other))
    names = {**one.get("properties", {}), **other.get("properties", {})}
    if names:
        merged["properties"] = {name: _both(_property(one, name), _property(other, name)) for name in names}
    return merged


def _property(schema: dict[str, Any], name: str) -> Any:
    # What one side says nothing about by name still falls under its additionalProperties.
    if name in schema.get("properties", {}):
        return schema["properties"][name]
    return True if "patternProperties" in schema else schema.get("additionalProperties", True)


def _both(one: Any, other: Any) -> Any:
    if one is True or one == {}:
        return other
    if other is True or other == {}:
        return one
    return {"allOf": [one, other]}


def _common_types(one: list[str], other: list[str]) -> list[str]:
    common = [kind for kind in one if kind in other or (kind == "integer" and "number" in other)]
    common += [kind for kind in other if kind == "integer" and "number" in one and kind not in common]
    if not common:
        raise CannotSatisfyError(f"no value is both {' or '.join(one)} and {' or '.join(other)}")
    return common


def _common_options(one: list[Any], other: list[Any]) -> list[Any]:
    common = [option for option in one if any(same(option, also) for also in other)]
    if not common:
        raise CannotSatisfyError("two enums have nothing in common")
    return common


def _equal(one: Any, other: Any) -> Any:
    if not same(one, other):
        raise CannotSatisfyError("a value cannot equal two constants")
    return one


def _common_step(one: float, other: float) -> float:
    first, second = Fraction(str(one)), Fraction(str(other))
    step = Fraction(math.lcm(first.numerator, second.numerator), math.gcd(first.denominator, second.denominator))
    return step.numerator if step.denominator == 1 else float(step)


def _union(one: list[Any], other: list[Any]) -> list[Any]:
    return [*one, *(name for name in other if name not in one)]


def _conjunction(one: Any, other: Any) -> Any:
    return one if one == other else _both(one, other)


def _neither(one: Any, other: Any) -> Any:
    return {"anyOf": [one, other]}


_JOINS: dict[str, Callable[[Any, Any], Any]] = {
    "enum": _common_options,
    "const": _equal,
    "required": _union,
    "multipleOf": _common_step,
    "items": _conjunction,
    "additionalProperties": _conjunction,
    "propertyNames": _conjunction,
    "not": _neither,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
