"""JSON Schemas with documents: a corpus written by hand, and any number that nobody has thought of.

`corpus` reads the files beside this one: each schema with documents that satisfy it and such that do not.
`pair` throws a document and builds a schema around it out of every keyword that there is, some of them in ways
that the document may break: what is valid is the engine's to say.  `spelled` writes a document as a model may:
with other white space and other escapes.
"""

import json
import random
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "corpus"
DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#",
    "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]

NAMES = ["a", "b", "ab", "ä"]
LETTERS = 'ab "\\\n/é{[,😀'
TYPES = {
    dict: "object", list: "array", str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"
}  # fmt: skip


def corpus() -> list[Any]:
    """Cases with a name, a schema, valid and invalid documents."""
    return [case for file in sorted(FOLDER.glob("*.json")) for case in json.loads(file.read_text())]


def spelled(value: Any, dice: random.Random) -> str:
    """*value* as JSON, written in one of the ways in which it can be."""
    blank = dice.choice(["", "", " ", "\n  ", "\t\r\n"])
    if isinstance(value, dict):
        members = [f"{spelled(k, dice)}{blank}:{blank}{spelled(v, dice)}" for k, v in value.items()]
        return "{" + blank + ("," + blank).join(members) + blank + "}"
    if isinstance(value, list):
        return "[" + blank + ("," + blank).join(spelled(one, dice) for one in value) + blank + "]"
    if isinstance(value, str):
        return '"' + "".join(_spelled(one, dice.random()) for one in value) + '"'
    if isinstance(value, float) and value == int(value) and dice.random() < 0.5:
        return f"{value:.1e}"
    return json.dumps(value)


def _spelled(one: str, chance: float) -> str:
    if chance < 0.2:
        units = one.encode("utf-16-be")
        return "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
    return "\\/" if one == "/" and chance < 0.6 else json.dumps(one, ensure_ascii=chance < 0.5)[1:-1]


def pair(dice: random.Random) -> tuple[Any, Any]:
    """A schema, and a document that may satisfy it."""
    value = document(dice, 3)
    parts: dict[str, Any] = {}
    schema = around(value, dice, parts, 3)
    draft = dice.choice([None, None, *DRAFTS])
    return {**schema, "definitions": parts, **({"$schema": draft} if draft else {})}, value


def document(dice: random.Random, depth: int) -> Any:
    """Any small document."""
    kind = dice.randrange(8)
    if depth and kind < 3:
        return {dice.choice(NAMES): document(dice, depth - 1) for _ in range(dice.randrange(4))}
    if depth and kind < 5:
        return [document(dice, depth - 1) for _ in range(dice.randrange(4))]
    if kind < 7:
        return "".join(dice.choices(LETTERS, k=dice.randrange(6)))
    return dice.choice([None, True, False, 0.5, -2.0, 1e21, 1.25e-3, dice.randrange(-30, 30), dice.randrange(10)])


def around(value: Any, dice: random.Random, parts: dict[str, Any], depth: int) -> Any:
    """A schema that was made with *value* in mind; what it refers to is put into *parts*."""
    if dice.random() < 0.05:
        value = document(dice, 1)
    schema: dict[str, Any] = {}
    for _ in range(dice.randrange(4)):
        about = [_anything]
        if depth:
            about += [_parts] + ([_members] * 3 if isinstance(value, dict) else [])
            about += [_items] * 3 if isinstance(value, list) else []
        if not isinstance(value, dict | list):
            about += [_scalar] * 2
        schema.update(dice.choice(about)(value, dice, parts, depth - 1))
    return schema


def _anything(value: Any, dice: random.Random, parts: dict[str, Any], depth: int) -> dict[str, Any]:
    others = [one for one in (document(dice, 1), document(dice, 1)) if one != value][:1]
    kind = TYPES[type(value)]
    return dice.choice(
        [
            {"type": kind},
            {"type": [kind, "null" if kind != "null" else "object"]},
            {"enum": [value, *others]},
            {"const": value},
            {"not": {"enum": others or ["x"]}},
            {"default": value, "title": "t", "description": "d"},
        ]
    )


def _scalar(value: Any, dice: random.Random, parts: dict[str, Any], depth: int) -> dict[str, Any]:
    length = len(value) if isinstance(value, str) else 3
    number = value if isinstance(value, int | float) else 1
    begun = ["a", "ab", "abab"]
    return dice.choice(
        [
            {"maxLength": length},
            {"minLength": length},
            {"pattern": dice.choice(["^[^x]*$", "a"])},
            {"minimum": number - dice.randrange(2)},
            {"maximum": number + dice.randrange(2)},
            {"multipleOf": 0.25},
            {"enum": [*begun, value] if value not in begun else begun},
        ]
    )


def _members(value: Any, dice: random.Random, parts: dict[str, Any], depth: int) -> dict[str, Any]:
    names = list(value)
    some = dice.sample(names, dice.randrange(len(names) + 1))
    children = {name: around(value[name], dice, parts, depth) for name in some}
    rest = around(next(iter(value.values()), 1), dice, parts, depth)
    return dice.choice(
        [
            {"properties": children, "required": some or ["a"]},
            {"properties": children, "additionalProperties": rest if len(some) < len(names) else False},
            {"properties": {**children, "c": False}},
            {"patternProperties": {"a": rest, "^b": {}}, "additionalProperties": dice.choice([False, True, rest])},
            {"propertyNames": {"maxLength": 2, "pattern": "[abä]"}},
            {"propertyNames": {"enum": NAMES}},
            {"minProperties": len(names)},
            {"maxProperties": len(names)},
            {"unevaluatedProperties": dice.choice([False, rest])},
            {"dependentRequired": {"a": names or ["a"]}},
            {"dependentSchemas": {"a": {"properties": children}, "b": rest}},
            {"dependencies": {"a": names or ["a"], "b": {"properties": children}}},
        ]
    )


def _items(value: Any, dice: random.Random, parts: dict[str, Any], depth: int) -> dict[str, Any]:
    each = around(value[0] if value else 1, dice, parts, depth)
    first = [around(one, dice, parts, depth) for one in value[:2]] or [{}]
    rest = dice.choice([False, each, {}])
    return dice.choice(
        [
            {"items": each},
            {"prefixItems": first, "items": rest},
            {"items": first, "additionalItems": rest},
            {"maxItems": len(value)},
            {"minItems": len(value)},
            {"uniqueItems": True},
            {"contains": each},
            {"contains": each, "maxContains": 1, "minContains": 0},
            {"unevaluatedItems": rest},
        ]
    )


def _parts(value: Any, dice: random.Random, parts: dict[str, Any], depth: int) -> dict[str, Any]:
    fits, other = around(value, dice, parts, depth), around(document(dice, 1), dice, parts, depth)
    way = dice.choice(["anyOf", "oneOf", "allOf", "not", "if", "$ref", "again"])
    if way == "allOf":
        return {way: [fits, around(value, dice, parts, depth)]}
    if way in ("anyOf", "oneOf"):
        return {way: dice.sample([fits, other], 2)}
    if way == "not":
        return {way: other}
    if way == "if":
        ways: list[dict[str, Any]] = [
            {"if": other, "then": other, "else": fits},
            {"if": fits, "then": fits, "else": other},
            {"if": other, "else": fits},
        ]
        return dice.choice(ways)
    if way == "again" and parts:
        return {"$ref": "#/definitions/" + dice.choice(sorted(parts))}
    name = f"p{len(parts)}"
    parts[name] = {}
    parts[name] = around(value, dice, parts, depth)
    return {"$ref": "#/definitions/" + name}
