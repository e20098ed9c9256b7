r"""JSON Schemas as people write them, and as the engine takes them.

Here belongs the rewriting of what means the same to everybody and is refused all the same: characters in references
that may not stand in a URI (``#/definitions/List<String>``, as generators write it; RFC 3986) and in identifiers, and
what some dialects of patterns say otherwise (`core.patterns.plain`).  What a reference names is the engine's to find.
"""

from __future__ import annotations

import re
from typing import Any, Final

from guardproxy.core.patterns import plain

_NAMES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_IDENTIFIERS: Final = ("$id", "id")
_DATA: Final = ("enum", "const", "default", "examples")
"""Below these nothing is a reference, or a pattern."""
_ODD: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")
_UNFIT: Final = re.compile(r"[\s<>\"{}|\\^`]")
"""What may stand nowhere in a URI."""


def escaped(schema: Any) -> Any:
    """*schema* with everything escaped in its references and patterns that the engine does not take as it is."""
    if isinstance(schema, list):
        return [escaped(one) for one in schema]
    return {key: _value(key, value) for key, value in schema.items()} if isinstance(schema, dict) else schema


def _value(key: str, value: Any) -> Any:
    if key in _DATA:
        return value
    if isinstance(value, str):
        if key in _IDENTIFIERS:
            return _UNFIT.sub(_quoted, value)
        return _reference(value) if key in _NAMES else plain(value) if key == "pattern" else value
    if key == "patternProperties" and isinstance(value, dict):
        return {plain(name): escaped(part) for name, part in value.items()}
    return escaped(value)


def _reference(reference: str) -> str:
    address, hash_, fragment = reference.partition("#")
    return _UNFIT.sub(_quoted, address) + hash_ + _ODD.sub(_quoted, fragment)


def _quoted(odd: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in odd[0].encode())
