"""What is wrong with an answer, in words that a person and a model understand.

Here belongs the walk from a schema's root to the parts that a value breaks.  It asks nothing but `is_valid`
of parts, a bounded number of times, because the engine's own messages can take minutes and gigabytes (see
`core.jsonschema`).  Not here: what the words are used for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, final
from urllib.parse import unquote

from guardproxy.core.schema_bounds import pointer

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_QUESTIONS: Final = 500
"""Parts asked about one value; what is not found by then stays general."""

_TYPES: Final = {
    "object": "an object",
    "array": "an array",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}

_LEAVES: Final[dict[str, Callable[[Any], str]]] = {
    "type": lambda v: "expected " + " or ".join(_TYPES.get(t, str(t)) for t in (v if isinstance(v, list) else [v])),
    "const": lambda v: f"expected {shown(v)}",
    "enum": lambda v: "expected one of " + ", ".join(map(shown, v[:12])) + (", …" if len(v) > 12 else ""),
    "minimum": lambda v: f"expected at least {v}",
    "maximum": lambda v: f"expected at most {v}",
    "exclusiveMinimum": lambda v: f"expected more than {v}",
    "exclusiveMaximum": lambda v: f"expected less than {v}",
    "multipleOf": lambda v: f"expected a multiple of {v}",
    "minLength": lambda v: f"expected at least {v} characters",
    "maxLength": lambda v: f"expected at most {v} characters",
    "pattern": lambda v: f"expected text that matches {shown(v)}",
    "format": lambda v: f"expected the format {shown(v)}",
    "minItems": lambda v: f"expected at least {v} items",
    "maxItems": lambda v: f"expected at most {v} items",
    "uniqueItems": lambda _: "expected items that differ from each other",
    "minProperties": lambda v: f"expected at least {v} members",
    "maxProperties": lambda v: f"expected at most {v} members",
}  # fmt: skip
"""Keywords that say something about a value without looking at other schemas, and how they are said."""


_COUNTS: Final = frozenset(("minItems", "maxItems", "minProperties", "maxProperties"))


class Parts(Protocol):
    """A compiled schema that can be asked about its parts."""

    schema: Any

    def part(self, place: str) -> Callable[[Any], bool]:
        """The judge of the part named by a JSON pointer."""

    def keyword(self, **keywords: Any) -> Callable[[Any], bool]:
        """The judge of a few keywords alone."""


def words(schema: Parts, value: Any, limit: int) -> list[str]:
    """Say, at most *limit* times, what is wrong with *value*, which breaks *schema*."""
    walk = _Walk(schema)
    found: list[str] = []
    for path, text in walk.broken(schema.schema, "", value, "", 0):
        message = f"{path or '(top)'}: {text}"
        if message not in found:
            found.append(message)
        if len(found) >= limit:
            break
    return found or ["(top): does not satisfy the schema"]


def shown(value: Any) -> str:
    """*value* as JSON, cut to a readable length."""
    text = (
        json.dumps(value, ensure_ascii=False, default=str)
        if not isinstance(value, dict | list) or len(value) < 20
        else "…"
    )
    return text if len(text) <= 60 else text[:59] + "…"


@final
class _Walk:
    """One walk through a schema beside a value."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._left = MAX_QUESTIONS
        root = parts.schema
        self._old = isinstance(root, dict) and "/draft-0" in str(root.get("$schema", ""))
        """Whether it is of draft 4, 6 or 7."""

    def _fits(self, place: str, value: Any) -> bool:
        """Whether *value* satisfies the part at *place*; so to speak where there are no questions left."""
        self._left -= 1
        return self._left < 0 or self._parts.part(place)(value)

    def broken(self, node: Any, place: str, value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
        """Each thing that is wrong with *value*, which breaks *node*: where, and what."""
        if node is False:
            yield path, "is not allowed"
        if not isinstance(node, dict) or depth > 60:
            return
        if place and "$id" in node:  # its references mean other places
            yield path, f"does not satisfy the schema at #{place}"
            return
        said = False
        for finding in self._all(node, place, value, path, depth):
            said = True
            yield finding
        if not said:
            yield path, f"does not satisfy the schema at #{place}"

    def _all(self, node: dict[str, Any], place: str, value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
        if "$ref" in node and self._old:  # it stands alone then: its neighbours mean nothing
            node = {"$ref": node["$ref"]}
        for key, say in _LEAVES.items():
            if key in node and not self._leaf(node, key)(value):
                yield path, f"{say(node[key])}, got {len(value) if key in _COUNTS else shown(value)}"
        if isinstance(value, dict):
            yield from self._members(node, place, value, path, depth)
        if isinstance(value, list):
            yield from self._items(node, place, value, path, depth)
        yield from self._same(node, place, value, path, depth)

    def _leaf(self, node: dict[str, Any], key: str) -> Callable[[Any], bool]:
        self._left -= 1
        keywords = {key: node[key]}
        strict = node.get("exclusive" + key.capitalize())
        if isinstance(strict, bool):  # draft 4
            keywords["exclusive" + key.capitalize()] = strict
        if key.startswith("exclusive") and isinstance(node[key], bool):
            return lambda _: True
        return self._parts.keyword(**keywords)

    def _members(
        self, node: dict[str, Any], place: str, value: dict[str, Any], path: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        required = node.get("required")
        for name in required if isinstance(required, list) else ():
            if name not in value:
                yield path, f"{shown(name)} is missing"
        known = node.get("properties", {})
        for name, part in known.items():
            below = place + pointer("properties", name)
            if name in value and not self._fits(below, value[name]):
                yield from self.broken(part, below, value[name], _member(path, name), depth + 1)
        rest = node.get("additionalProperties", True)
        if rest is not True and "patternProperties" not in node:
            below = place + "/additionalProperties"
            for name in value.keys() - known.keys():
                if rest is False:
                    yield path, f"{shown(name)} is not allowed"
                elif not self._fits(below, value[name]):
                    yield from self.broken(rest, below, value[name], _member(path, name), depth + 1)

    def _items(
        self, node: dict[str, Any], place: str, value: list[Any], path: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        items, first = node.get("items"), 0
        for key in ("prefixItems", "items"):
            if isinstance(listed := node.get(key), list):
                first = len(listed)
                for index, (part, item) in enumerate(zip(listed, value, strict=False)):
                    below = place + pointer(key, index)
                    if not self._fits(below, item):
                        yield from self.broken(part, below, item, f"{path}[{index}]", depth + 1)
        if isinstance(items, dict | bool):
            for index, item in enumerate(value[first:], first):
                if not self._fits(place + "/items", item):
                    yield from self.broken(items, place + "/items", item, f"{path}[{index}]", depth + 1)

    def _same(self, node: dict[str, Any], place: str, value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
        reference = node.get("$ref")
        if isinstance(reference, str) and (found := _local(self._parts.schema, reference)):
            below, part = found
            if not self._fits(below, value):
                yield from self.broken(part, below, value, path, depth + 1)
        for index, part in enumerate(node.get("allOf", ())):
            below = place + pointer("allOf", index)
            if not self._fits(below, value):
                yield from self.broken(part, below, value, path, depth + 1)
        if "if" in node:
            branch = "then" if self._fits(place + "/if", value) else "else"
            if branch in node and not self._fits(f"{place}/{branch}", value):
                yield from self.broken(node[branch], f"{place}/{branch}", value, path, depth + 1)
        for key in ("anyOf", "oneOf"):
            yield from self._choice(node, key, place, value, path, depth)

    def _choice(
        self, node: dict[str, Any], key: str, place: str, value: Any, path: str, depth: int
    ) -> Iterator[tuple[str, str]]:
        choices = node.get(key)
        if not isinstance(choices, list):
            return
        places = [place + pointer(key, index) for index in range(len(choices))]
        fitting = [below for below in places if self._fits(below, value)]
        if len(fitting) > 1 and key == "oneOf":
            yield path, f"fits {len(fitting)} of {len(choices)} alternatives, where it has to fit one"
        if fitting:
            return
        meant = [i for i, choice in enumerate(choices) if self._could_be(choice, value)]
        if len(meant) == 1:
            yield from self.broken(choices[meant[0]], places[meant[0]], value, path, depth + 1)
        else:
            yield path, f"fits none of {len(choices)} alternatives, got {shown(value)}"

    def _could_be(self, choice: Any, value: Any) -> bool:
        """Whether *value* is meant to be *choice*: of its type, and with the constants it asks for."""
        if isinstance(choice, dict) and isinstance(found := _local(self._parts.schema, choice.get("$ref")), tuple):
            choice = found[1]
        if not isinstance(choice, dict):
            return choice is not False
        if "type" in choice and not self._leaf(choice, "type")(value):
            return False
        for name, part in choice.get("properties", {}).items() if isinstance(value, dict) else ():
            if isinstance(part, dict) and "const" in part and value.get(name) != part["const"]:
                return False
        return True


def _member(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _local(root: Any, reference: Any) -> tuple[str, Any] | None:
    """The place and the part that a plain ``#/…`` reference of a schema without `$id` names."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    node, reference = root, unquote(reference)
    for step in reference[2:].split("/") if len(reference) > 1 else ():
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, dict) or name not in node or ("$id" in node and node is not root):
            return None
        node = node[name]
    return reference[1:], node
