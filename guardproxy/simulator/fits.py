"""Whether a value satisfies a JSON Schema, as far as the inventor of instances needs to know it.

Here belong the assertions of the vocabulary that `instance` can build for, and local `$ref`. It is no validator:
formats are not looked at, remote references are unknown; model output is judged elsewhere, by an engine of its own.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final
from urllib.parse import unquote

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,), "array": (list,), "string": (str,), "null": (type(None),), "boolean": (bool,),
}  # fmt: skip


class CannotSatisfyError(ValueError):
    """No instance was found: the schema contradicts itself, refers outside itself, or is beyond the inventor."""


def resolve(root: Any, reference: str) -> Any:
    """The schema a local `$ref` (`#`, `#/$defs/x`) points to; raises `CannotSatisfyError` for any other."""
    if not reference.startswith("#"):
        raise CannotSatisfyError(f"$ref {reference!r} is not local")
    found = root
    for part in reference[1:].split("/")[1:]:
        step = unquote(part).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise CannotSatisfyError(f"$ref {reference!r} points nowhere") from None
    if found is root and reference not in {"#", "#/"}:
        raise CannotSatisfyError(f"$ref {reference!r} points nowhere")
    return found


def is_type(value: Any, name: str) -> bool:
    """Whether a value is of a JSON Schema type: 1.0 is an integer, true is not a number."""
    if name in _TYPES:
        return isinstance(value, _TYPES[name])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return name == "number" or (name == "integer" and float(value).is_integer())


def types_of(schema: dict[str, Any]) -> list[str]:
    """The types a schema allows, as a list; empty where it does not say."""
    kind = schema.get("type", [])
    return [kind] if isinstance(kind, str) else list(kind)


def same(one: Any, other: Any) -> bool:
    """Equality as JSON Schema has it: 1 is 1.0, but 1 is not true."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def fits(value: Any, schema: Any, root: Any) -> bool:
    """Whether `value` satisfies `schema`, whose local references point into `root`."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and not fits(value, resolve(root, schema["$ref"]), root):
        return False
    kinds = types_of(schema)
    if kinds and not any(is_type(value, kind) for kind in kinds):
        return False
    if "const" in schema and not same(value, schema["const"]):
        return False
    if "enum" in schema and not any(same(value, option) for option in schema["enum"]):
        return False
    return _fits_combination(value, schema, root) and _fits_kind(value, schema, root)


def _fits_kind(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if isinstance(value, str):
        return _fits_string(value, schema)
    if isinstance(value, list):
        return _fits_array(value, schema, root)
    if isinstance(value, dict):
        return _fits_object(value, schema, root)
    return isinstance(value, bool) or value is None or _fits_number(value, schema)


def _fits_combination(value: Any, schema: dict[str, Any], root: Any) -> bool:
    if not all(fits(value, part, root) for part in schema.get("allOf", [])):
        return False
    if "anyOf" in schema and not any(fits(value, part, root) for part in schema["anyOf"]):
        return False
    if "oneOf" in schema and sum(fits(value, part, root) for part in schema["oneOf"]) != 1:
        return False
    if "not" in schema and fits(value, schema["not"], root):
        return False
    if "if" not in schema:
        return True
    return fits(value, schema.get("then" if fits(value, schema["if"], root) else "else", True), root)


def _fits_string(value: str, schema: dict[str, Any]) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        return False
    try:
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    except re.error:
        return False


def _fits_number(value: float, schema: dict[str, Any]) -> bool:
    low, above, high, below = limits(schema)
    if low is not None and (value <= low if above else value < low):
        return False
    if high is not None and (value >= high if below else value > high):
        return False
    step = schema.get("multipleOf")
    return step is None or Decimal(str(value)) % Decimal(str(step)) == 0


def limits(schema: dict[str, Any]) -> tuple[float | None, bool, float | None, bool]:
    """The range of a number: lowest, whether that itself is excluded, highest, whether that itself is excluded."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum", False), schema.get("exclusiveMaximum", False)
    # Draft 4 wrote the exclusive ones as booleans beside minimum and maximum, everybody since as numbers of their own.
    strictly_above, strictly_below = above is True, below is True
    if not isinstance(above, bool) and (low is None or above >= low):
        low, strictly_above = above, True
    if not isinstance(below, bool) and (high is None or below <= high):
        high, strictly_below = below, True
    return low, strictly_above, high, strictly_below


def _fits_array(value: list[Any], schema: dict[str, Any], root: Any) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    if schema.get("uniqueItems") and any(same(a, b) for at, a in enumerate(value) for b in value[:at]):
        return False
    first, rest = tuple_of(schema)
    if not all(fits(item, part, root) for item, part in zip(value, first, strict=False)):
        return False
    if not all(fits(item, rest, root) for item in value[len(first) :]):
        return False
    if "contains" not in schema:
        return True
    found = sum(fits(item, schema["contains"], root) for item in value)
    return bool(schema.get("minContains", 1) <= found <= schema.get("maxContains", found))


def tuple_of(schema: dict[str, Any]) -> tuple[list[Any], Any]:
    """The schemas of the first items and of all others, in the dialect of 2020-12 or of the drafts before it."""
    items = schema.get("items", True)
    if isinstance(items, list):
        return items, schema.get("additionalItems", True)
    return schema.get("prefixItems", []), items


def _fits_object(value: dict[str, Any], schema: dict[str, Any], root: Any) -> bool:
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value)):
        return False
    if not all(name in value for name in schema.get("required", [])):
        return False
    for name, needed in schema.get("dependentRequired", {}).items():
        if name in value and not all(other in value for other in needed):
            return False
    for name, item in value.items():
        if not fits(name, schema.get("propertyNames", True), root):
            return False
        if not all(fits(item, part, root) for part in parts_of(schema, name)):
            return False
    return True


def parts_of(schema: dict[str, Any], name: str) -> list[Any]:
    """Every schema that the value of a property called `name` must satisfy."""
    found = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    found += [part for pattern, part in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
    return found or [schema.get("additionalProperties", True)]
