"""Changing a few top-level fields of a JSON object without touching the rest of its bytes.

Here belongs the rewriting of request bodies.  Where it is provably the same the new values are spliced into
the original bytes, so that numbers and text reach the model as the caller wrote them; elsewhere the document
is encoded anew.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.openai.strict import dumps, exact

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
class _Drop:
    def __repr__(self) -> str:
        return "DROP"


DROP: Final = _Drop()
"""As a new value: the field is taken out."""

_HIDDEN = re.compile(rb"\\u00[3-7]")
"""An escape that may stand for a letter of a field's name, all of which are ASCII letters, digits and underscores."""
_STRING = rb'"(?:[^"\\]|\\.)*"'
_SCALAR = rb"(?:" + _STRING + rb"|-?[0-9][0-9.eE+-]*|true|false|null)"


def splice(body: bytes, doc: dict[str, Any], changes: Mapping[str, Any]) -> bytes:
    """Return *body*, which decodes to *doc*, with the fields in *changes* set (or dropped: `DROP`).

    The same object comes back where nothing changes.
    """
    changes = {name: value for name, value in changes.items() if _differs(doc, name, value)}
    if not changes:
        return body
    added: list[bytes] = []
    for name, value in changes.items():
        if name not in doc:
            added.append(dumps(name) + b":" + dumps(value))
            continue
        span = None if value is DROP else _span(body, name)
        if span is None:
            return _encode(doc, changes)
        body = body[: span[0]] + dumps(value) + body[span[1] :]
    if added:
        start = body.index(b"{") + 1
        body = body[:start] + b",".join(added) + (b"," if doc else b"") + body[start:]
    return body


def _differs(doc: dict[str, Any], name: str, value: Any) -> bool:
    if value is DROP or name not in doc:
        return (name in doc) is (value is DROP)
    return bool(doc[name] != value) or type(doc[name]) is not type(value)


def _span(body: bytes, name: str) -> tuple[int, int] | None:
    """Where the scalar value of the top-level field *name* stands; None where that is not certain.

    ``"name":`` can only be a key: within a string its quotes would be escaped.  If it occurs once in the whole
    body, and no letter of it can be hidden in an escape, it is the one that decoding found at the top.
    """
    if not (name.isascii() and name.isidentifier()):
        return None
    key, field = _patterns(name)
    if body.count(key) != 1 or (b"\\u00" in body and _HIDDEN.search(body) is not None):
        return None
    match = field.search(body)
    return None if match is None else match.span(1)


@lru_cache(maxsize=64)
def _patterns(name: str) -> tuple[bytes, re.Pattern[bytes]]:
    key = dumps(name)
    return key, re.compile(re.escape(key) + rb"\s*:\s*(" + _SCALAR + rb")(?=\s*[,}])")


def _encode(doc: dict[str, Any], changes: Mapping[str, Any]) -> bytes:
    # not orjson: it writes an infinite number as null
    return exact({name: value for name, value in {**doc, **changes}.items() if value is not DROP})
