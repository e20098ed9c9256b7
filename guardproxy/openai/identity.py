"""What makes two calls the same call.

Here belongs the key under which an answer is kept, and the rule of what is in it: everything that can shape the answer,
and whoever must not see it.  A difference in any of it is another key; what is left out is on a list that each dialect
publishes (`Dialect.aside`).  docs/cache.md says the same for people.

A body counts without the fields on the list, its fields in the order of their names, and without the blanks around
its values.  Nothing else is made alike: numbers and strings count as they are written, 0.7 is not 0.70, and an escape
is not the character that it stands for.  Below the top the order stays, for the properties of a schema and the tools
of a prompt reach the model in theirs.  Duplicate names never come this far.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, final

from guardproxy.openai.strict import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from guardproxy.core.values import Call, Headers, Target

VERSION = b"guardproxy 5"
"""How keys are made: where it is another, keys of the same call are others."""
_VERSION = VERSION.decode()
SMALL = 64 << 10
"""Bytes of a body that is remembered with what it came to: the same bytes again are found without reading them."""
REMEMBERED = 2 << 20
"""Bytes of bodies remembered in a generation; there are two."""
_NAMES = 1024
"""Names of header fields that are remembered as being of no account."""


@final
class Identity:
    """Makes keys; *vary* are the header fields that tell tenants apart, *places* where each upstream is."""

    __slots__ = ("_made", "_others", "_places", "_seen", "_size", "_young", "vary")

    def __init__(self, vary: Iterable[str], places: Mapping[str, str] | None = None) -> None:
        self.vary = frozenset(name.lower().encode() for name in vary)
        self._places = dict(places or {})
        self._others: set[bytes] = set()
        self._made = _UNMADE
        """Body and circumstances of the last call whose key was made, and the key."""
        self._young: dict[tuple[bytes, bytes], bytes] = {}
        self._seen: dict[tuple[bytes, bytes], bytes] = {}
        self._size = 0

    def __call__(self, call: Call, target: Target) -> bytes:
        """Everything that shapes the answer, in 32 bytes.

        The length of every part is written before it, so that no two lists of parts read the same.
        """
        upstream = target.upstream
        meant = f"{upstream}\0{self._places.get(upstream, '')}\0{target.model}\0{target.mode}\0"
        if call.named_mode or target.moved_from:  # then these are part of the request
            meant += dumps([target.params, target.caps]).decode()
        path, query, dialect = call.path, call.query, call.dialect
        name, aside = ("", _NONE) if dialect is None else (dialect.name, dialect.aside)
        text = f"{_VERSION}\0{name} {call.method} {len(path)} {len(query)} {len(meant)}\0{path}{query}{meant}"
        digest = b"" if call.schema is None else call.schema.digest
        parts = [text.encode("utf-8", "surrogateescape"), b"\0%d:" % len(digest), digest]
        self._tenant(call.headers, parts)
        asked = (call.body, b"".join(parts))
        if self._young or self._seen:
            found = self._young.get(asked) or self._seen.get(asked)
            if found is not None:
                return found
        said = canonical(call.body, call.doc, aside | _MODEL if target.model else aside)
        key = sha256(b"%b\0%d:%b" % (asked[1], len(said), said)).digest()
        self._made = (asked, key)
        return key

    def remember(self, key: bytes) -> None:
        """The *key* was of use: if it was the last to be made, the same bytes need not be read again to make it.

        Only then, for most calls come once, and to remember all of them costs more than it saves.
        """
        asked, made = self._made
        if made is not key or len(asked[0]) > SMALL:
            return
        self._made = _UNMADE  # once is enough
        self._young[asked] = key
        self._size += len(asked[0]) + len(asked[1]) + _EACH
        if self._size > REMEMBERED:
            self._seen, self._young, self._size = self._young, {}, 0

    def _tenant(self, headers: Headers, parts: list[bytes]) -> None:
        others = self._others
        for name, value in headers:
            if name in others:
                continue
            lower = name.lower()
            if lower in self.vary:
                parts.append(b"%d:%b%d:%b" % (len(lower), lower, len(value), value))
            elif len(others) < _NAMES:
                others.add(name)


_UNMADE: tuple[tuple[bytes, bytes], bytes] = (b"", b""), b""
_MODEL = frozenset(("model",))
"""What the caller wrote there is replaced by the model id that the target serves, which is in the key."""
_NONE = frozenset[str]()
_EACH = 300
"""Bytes that a remembered body takes besides its own."""


_BLANKS = b" \t\r\n"
_ESCAPED = b"\1\2"
"""Stand for an escaped backslash and an escaped quote: such bytes are in no JSON text (RFC 8259 § 7)."""


def canonical(body: bytes, doc: dict[str, Any], aside: frozenset[str]) -> bytes:
    """What *body* says, which was read as *doc*, without the fields *aside*: the same bytes for the same saying.

    Most bodies spell every number and string as our own encoder does.  Then what was read is written again, which is
    many times faster than looking for the end of every value.  They do if nothing but blanks tells the two texts apart:
    both hold the same values in the same order, so the first value that was spelled otherwise would be a difference.
    """
    whole = dumps(doc)
    if body == whole or body.translate(None, _BLANKS) == whole.translate(None, _BLANKS):
        return dumps({name: doc[name] for name in sorted(doc) if name not in aside})
    written = dict(zip(doc, _values(body), strict=True))
    told = (b"%b:%b" % (dumps(name), written[name]) for name in sorted(doc) if name not in aside)
    return b"{%b}" % b",".join(told)


def _values(body: bytes) -> list[bytes]:
    """The values of the object *body* as they are written, without the blanks around and between them.

    Between two quotes is by turns structure and text, once quotes in the text are out of the way.
    """
    if escaped := b"\\" in body:
        body = body.replace(b"\\\\", _ESCAPED[:1]).replace(b'\\"', _ESCAPED[1:])
    parts = body.split(b'"')
    parts[::2] = structure = b'"'.join(parts[::2]).translate(None, _BLANKS).split(b'"')
    found, depth, start = [], 0, 2  # what follows the first name
    for number, part in enumerate(structure):
        if part not in _FLAT:
            depth += part.count(b"{") + part.count(b"[") - part.count(b"}") - part.count(b"]")
        if (depth == 1 and part.endswith(b",")) or (depth == 0 and number):
            value = b'"'.join(parts[start : 2 * number + 1])[1:-1]  # from the colon to the comma, or to the last brace
            found.append(value.replace(_ESCAPED[1:], b'\\"').replace(_ESCAPED[:1], b"\\\\") if escaped else value)
            start = 2 * number + 2
    return found


_FLAT = frozenset((b":", b","))
"""The most frequent structure, in which nothing begins or ends."""
