"""References in JSON Schemas as people write them, and as the standard wants them.

Here belongs the escaping of what may not stand in a URI: ``#/definitions/List<String>`` names a definition for most
validators, and is what generators write, but is no URI reference (RFC 3986).  What a reference names is the engine's to
find.
"""

from __future__ import annotations

import re
from typing import Any, Final

_NAMES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA: Final = ("enum", "const", "default", "examples")
"""Below these nothing is a reference."""
_ODD: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")


def escaped(schema: Any) -> Any:
    """*schema* with everything escaped in the fragments of its references that may not stand there."""
    if isinstance(schema, dict):
        return {
            key: _escape(value)
            if key in _NAMES and isinstance(value, str)
            else value
            if key in _DATA
            else escaped(value)
            for key, value in schema.items()
        }
    return [escaped(one) for one in schema] if isinstance(schema, list) else schema


def _escape(reference: str) -> str:
    address, hash_, fragment = reference.partition("#")
    return address + hash_ + _ODD.sub(lambda odd: "".join(f"%{byte:02X}" for byte in odd[0].encode()), fragment)
