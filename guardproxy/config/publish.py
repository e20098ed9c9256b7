"""The JSON Schema of the configuration, for editors: ``python -m guardproxy.config.publish``.

Here belongs how types and bounds become draft-07.  It says what it can of each value alone; what settings
say about each other only `guardproxy check` knows.  It is made of the same declarations that the decoder
reads, and the tests hold the two against each other.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from typing import Any, Final

from guardproxy.config.fields import REQUIRED, fields, summary
from guardproxy.config.places import Address
from guardproxy.config.rules import Rule
from guardproxy.config.settings import Config
from guardproxy.core.units import Bytes, Seconds

_VARIABLE: Final = {"$ref": "#/definitions/variable"}
_DEFINITIONS: Final = {
    "variable": {"type": "string", "pattern": r"\$\{", "description": "Text with ${NAME} or ${NAME:-default} in it."},
}
_SECONDS: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h)?\s*$"
_BYTES: Final = r"^\s*[0-9]+(\.[0-9]+)?\s*(B|kB|MB|GB|KiB|MiB|GiB)?\s*$"


def schema() -> dict[str, Any]:
    """The whole schema."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "guardproxy",
        **_record(Config),
        "definitions": _DEFINITIONS,
    }


def _record(record: type) -> dict[str, Any]:
    properties, required = {}, []
    for field in fields(record):
        told = {"description": field.doc, **_type(field.type, field.rule)}
        if field.default is REQUIRED:
            required.append(field.name)
        elif not _section(field.type):
            told["default"] = _json(field.default)
        properties[field.name] = told
    made: dict[str, Any] = {"description": summary(record), "type": "object", "properties": properties}
    if required:
        made["required"] = required
    return {**made, "additionalProperties": False}


def _type(kind: Any, rule: Rule) -> dict[str, Any]:
    if kind is Any:
        return {}
    if dataclasses.is_dataclass(kind):
        return _or_nothing(_record(typing.cast("type", kind)))
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kinds = [arg for arg in args if arg is not type(None)]
        if len(kinds) > 1:  # bool | Literal["shadow"]
            return _variable({"enum": [True, False, *(word for k in kinds for word in typing.get_args(k))]})
        inner = _type(kinds[0], rule)
        return {"anyOf": [*inner.get("anyOf", [inner]), {"type": "null"}]}
    if origin is typing.Literal:
        return _variable({"enum": list(args)})
    if origin is tuple:
        return _or_nothing({"type": "array", "items": _type(args[0], rule)})
    if origin is dict:
        made: dict[str, Any] = {"type": "object", "additionalProperties": _type(args[1], Rule())}
        if rule.pattern:
            made["propertyNames"] = {"pattern": rule.pattern}
        return _or_nothing(made)
    return _scalar(kind, rule)


def _scalar(kind: Any, rule: Rule) -> dict[str, Any]:
    if kind is str:
        return {"type": "string", **({"pattern": rule.pattern} if rule.pattern else {})}
    if kind is Address:
        return {"type": "string"}
    if kind is bool:
        return _variable({"type": "boolean"})
    listed = {"minimum": rule.minimum, "maximum": rule.maximum, "exclusiveMinimum": rule.above}
    bounds = {key: bound for key, bound in listed.items() if math.isfinite(bound)}
    if kind in (Seconds, Bytes):
        pattern = _SECONDS if kind is Seconds else _BYTES
        number = {"type": "number", "minimum": 0} | bounds
        return {"anyOf": [number, {"type": "string", "pattern": pattern}, _VARIABLE]}
    return _variable({"type": "integer" if kind is int else "number", **bounds})


def _variable(made: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [made, _VARIABLE]}


def _or_nothing(made: dict[str, Any]) -> dict[str, Any]:
    """A section of which everything is left out counts as absent."""
    return {**made, "type": [made["type"], "null"]}


def _section(kind: Any) -> bool:
    return dataclasses.is_dataclass(kind) or typing.get_origin(kind) is dict


def _json(value: Any) -> Any:
    return str(value) if isinstance(value, Address) else list(value) if isinstance(value, tuple) else value


def text() -> str:
    """The file's content."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
