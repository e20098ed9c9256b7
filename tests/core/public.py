"""JSON Schemas as they are published — settings, manifests, records of services — with documents for each.

`published` throws a schema and a document that satisfies it by construction; `spoiled` changes a document in one place,
as mistakes do: whether it is still valid is for somebody else to say.  The proportions are those of public
collections: most schemas are objects of closed or open members with enumerations, formats and references, in draft 7
or 2020-12, and few use conditions.
"""

from __future__ import annotations

import copy
import random
from typing import Any

DRAFTS = [
    "http://json-schema.org/draft-04/schema#",
    "http://json-schema.org/draft-06/schema#",
    *["http://json-schema.org/draft-07/schema#"] * 4,
    "https://json-schema.org/draft/2019-09/schema",
    *["https://json-schema.org/draft/2020-12/schema"] * 2,
    *[None] * 3,
]
MEMBERS = [
    "name", "version", "description", "id", "kind", "url", "email", "created_at", "tags", "enabled", "timeout", "port",
    "settings", "items", "metadata", "x-vendor", "$comment_of", "größe", "a/b", "a~b", "per%cent", "",
]  # fmt: skip
FORMATS = {
    "date-time": ["2024-02-29T12:30:00Z", "1999-12-31T23:59:59.123+02:00"],
    "date": ["2024-02-29", "0001-01-01"],
    "email": ["a@example.com", "first.last+tag@sub.example.org"],
    "uri": ["https://example.com/a?b=c#d", "urn:isbn:0451450523"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "ipv4": ["127.0.0.1", "255.255.255.255"],
    "ipv6": ["::1", "2001:db8::ff00:42:8329"],
    "hostname": ["example.com", "a-b.c"],
    "regex": ["^a+$", "[a-z]*"],
}
BAD = {
    "date-time": "2024-13-01T00:00:00Z",
    "date": "2024-02-30",
    "email": "nobody",
    "uri": "not a uri",
    "uuid": "123e4567",
    "ipv4": "256.0.0.1",
    "ipv6": "12345::",
    "hostname": "-bad-",
    "regex": "(",
}
PATTERNS = {
    r"^[a-z][a-z0-9-]*$": "web-1",
    r"^v?\d+\.\d+\.\d+$": "v1.22.333",
    r"^#[0-9a-fA-F]{6}$": "#a0B1c2",
    r"^(GET|POST)$": "GET",
    r"\S": " x ",
    r"^(?!tmp).+$": "keep",
}


def published(dice: random.Random) -> tuple[dict[str, Any], Any]:
    """A schema, and a document that satisfies it."""
    draft = dice.choice(DRAFTS)
    shelf = "definitions" if draft and "draft-0" in draft else dice.choice(["definitions", "$defs"])
    parts: dict[str, Any] = {}
    schema, value = _object(dice, 3, draft, shelf, parts)
    named = {"$schema": draft} if draft else {}
    extra = {"title": "T", "description": "d", "examples": [1], "default": {}, "x-internal": True}
    return {**named, **(extra if dice.random() < 0.3 else {}), **schema, shelf: parts}, value


def _object(
    dice: random.Random, depth: int, draft: str | None, shelf: str, parts: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    names = dice.sample(MEMBERS, dice.randint(1, 6))
    made = {name: _any(dice, depth - 1, draft, shelf, parts) for name in names}
    value = {name: one for name, (_, one) in made.items()}
    schema: dict[str, Any] = {"type": "object", "properties": {name: one for name, (one, _) in made.items()}}
    if needed := dice.sample(names, dice.randint(0, len(names))):
        schema["required"] = needed
    for name in names:
        if name not in needed and dice.random() < 0.3:
            del value[name]
    if dice.random() < 0.6:
        schema["additionalProperties"] = dice.choice([False, False, False, {"type": "string"}, True])
    if dice.random() < 0.15:
        schema["patternProperties"] = {"^x-": dice.choice([{}, {"type": ["string", "null"]}])}
        value.setdefault("x-more", "more")
        if "x-vendor" in value and isinstance(schema["patternProperties"]["^x-"].get("type"), list):
            schema["properties"]["x-vendor"], value["x-vendor"] = {}, None
    if dice.random() < 0.1:
        schema["minProperties"], schema["maxProperties"] = min(1, len(value)), len(value) + 1
    return schema, value


def _any(
    dice: random.Random, depth: int, draft: str | None, shelf: str, parts: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    way = dice.random()
    if depth > 0 and way < 0.2:
        return _object(dice, depth, draft, shelf, parts)
    if depth > 0 and way < 0.35:
        schema, one = _any(dice, depth - 1, draft, shelf, parts)
        count = dice.randint(0, 3)
        about: dict[str, Any] = {"type": "array", "items": schema}
        about |= dice.choice([{}, {"minItems": count}, {"maxItems": count + 1}, {"uniqueItems": count < 2}])
        return about, [copy.deepcopy(one) for _ in range(count)]
    if depth > 0 and way < 0.45:
        schema, one = _any(dice, depth - 1, draft, shelf, parts)
        name = dice.choice(["part", "a b", "c~d", "e/f", "ü"]) + str(len(parts))
        parts[name] = schema
        return {"$ref": f"#/{shelf}/" + name.replace("~", "~0").replace("/", "~1").replace(" ", "%20")}, one
    if depth > 0 and way < 0.55:
        schema, one = _any(dice, depth - 1, draft, shelf, parts)
        other = {"type": "object", "properties": {"kind": {"enum": ["other"]}}, "required": ["kind", "of"]}
        return {dice.choice(["anyOf", "oneOf"]): dice.sample([schema, other], 2)}, one
    return _scalar(dice, whole=5 if draft and "draft-04" in draft else 2.0)  # which draft 4 takes for no integer


def _scalar(dice: random.Random, whole: float) -> tuple[dict[str, Any], Any]:
    name = dice.choice(list(FORMATS))
    pattern = dice.choice(list(PATTERNS))
    number = dice.randint(-1000, 1000)
    step = dice.choice([5, 0.5, 0.01])
    ways: list[tuple[dict[str, Any], Any]] = [
        ({"type": "string"}, dice.choice(["", "text", "ünï 😀", "two\nlines", 'quo"ted\\'])),
        ({"type": "string", "minLength": 1, "maxLength": 5}, dice.choice(["a", "😀😀😀😀😀", "abcde"])),
        ({"type": "string", "format": name}, dice.choice(FORMATS[name])),
        ({"type": "string", "pattern": pattern}, PATTERNS[pattern]),
        ({"enum": ["red", "green", 3, None, {"a": [1]}]}, dice.choice(["red", 3, None, {"a": [1]}])),
        ({"type": "integer", "minimum": number - 1, "maximum": number + 1}, number),
        ({"type": "integer", "maximum": 5}, dice.choice([whole, 5])),
        ({"type": "number", "multipleOf": step}, number * 5),
        ({"type": ["string", "null"]}, dice.choice(["x", None])),
        ({"type": "boolean"}, dice.random() < 0.5),
        ({"type": "integer"}, dice.choice([0, -1, 2**53, 10**18])),
        ({}, dice.choice([1, "x", [], {}, None])),
        ({"not": {"type": "null"}}, 0),
    ]
    return dice.choice(ways)


def spoiled(value: Any, dice: random.Random) -> Any:
    """*value* with one thing changed, somewhere in it."""
    if isinstance(value, dict):
        way = dice.random()
        if value and way < 0.5:
            name = dice.choice(list(value))
            return {**value, name: spoiled(value[name], dice)}
        if value and way < 0.75:
            gone = dice.choice(list(value))
            return {name: one for name, one in value.items() if name != gone}
        return {**value, dice.choice(["unheard_of", "x-y", *MEMBERS]): dice.choice([1, "x", None, {}])}
    if isinstance(value, list) and value and dice.random() < 0.7:
        index = dice.randrange(len(value))
        return dice.choice([[*value[:index], spoiled(value[index], dice), *value[index + 1 :]], [*value, value[0]]])
    if isinstance(value, str) and dice.random() < 0.5:
        return dice.choice([value + "!", value[:-1], *BAD.values(), value * 3])
    if isinstance(value, int | float) and not isinstance(value, bool) and dice.random() < 0.5:
        return dice.choice([value + 0.001, -value, value * 1000, str(value)])
    return dice.choice([None, True, 7, 1.5, "text", [], {}, [1], {"a": 1}])
