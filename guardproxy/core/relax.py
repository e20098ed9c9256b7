"""A JSON Schema made so lax that it judges documents which are not written to their end.

Here belongs the translation of a schema into its *relaxed* twin.  Not here: how a text that is still growing
becomes a value (`core.unfinished`), when it is looked at (`core.prefix`), the engine (`core.jsonschema`).

A value that is still growing is *wrapped* before it is judged: ``{OPEN: value, MARK: 1}``, or ``{MARK: 1}``
where nothing is known of it yet.  Of a document's prefix only the way from its root to its end is wrapped;
whatever is closed cannot change any more, and is judged by the schema as it was written:

    child S    wrapped: the loose form of S judges what is in it; closed: S itself does
    loose S    what holds for a prefix of every valid value (the table `_KEPT`, and below)

* kept: types, upper bounds, closed sets of properties, names of properties, `uniqueItems` (among the closed)
* dropped: lower bounds, `required`, `not`, `contains`, `unevaluated…`, and what says something about a whole
  text or number (`pattern`, `format`, `minimum`, …): the rest of it has not come
* `oneOf` becomes `anyOf`; `if`, `then`, `else` become "loosely both `if` and `then`, or loosely `else`"
* `enum` and `const`: a text may be the beginning of one of them

A schema is given up where the translation would not be exact: `$dynamicRef`, `$recursiveRef`, a reference
by anchor or address, an identifier below the root, more than `MAX_PARTS` parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import unquote

from guardproxy.core.jsonschema import Validator

if TYPE_CHECKING:
    from collections.abc import Iterable

OPEN: Final = "\0open"
MARK: Final = "\0mark"
r"""Members of a wrapper.  JSON can spell them only with ``\u0000``: a text that does is not judged."""

MAX_PARTS: Final = 500
"""Subschemas of a schema that is relaxed: 20 take 0.7 ms, 200 take 10 ms, 500 some 40 ms, once per schema."""

MAX_BEGINNINGS: Final = 20_000
"""Characters, all beginnings of an `enum`'s texts together; above it every text may become one of them."""

_KEPT: Final = ("type", "maxItems", "maxProperties", "maxLength", "uniqueItems")
_ONE: Final = (
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_MANY: Final = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_NAMED: Final = ("dependencies", "dependentSchemas", "patternProperties", "properties")
_REFERENCES: Final = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
_DATA: Final = frozenset(("type", "enum", "const", "required", "dependentRequired"))
_IGNORED: Final = frozenset(
    ("$anchor", "$comment", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema", "description", "id", "title")
)
_GROWS: Final = {"type": "object", "required": [MARK]}
_NOTHING: Final[dict[str, Any]] = {"not": {}}


@final
class _GivenUp(Exception):  # noqa: N818 - not an error: most of what is given up is a perfectly good schema
    """There is no exact twin of a schema."""


def relax(validator: Validator) -> Validator | None:
    """The judge of wrapped values that are still growing; None: the schema is given up.  Made once for each."""
    if validator.twin is False:
        validator.twin = _relaxed(validator)
    return validator.twin or None


def _relaxed(validator: Validator) -> Validator | None:
    schema = validator.schema
    if isinstance(schema, bool):
        return None if schema else validator
    try:
        twin = _Twin(schema).made()
        # of the same draft; not bounded again, which takes five times as long: it makes at most three times the work
        return Validator(twin, validator._build)  # noqa: SLF001 - of the same package
    except (_GivenUp, ValueError, RecursionError):
        return None


@final
class _Twin:
    """The relaxed twin of one schema while it is written, part by part: nothing here recurses."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        name = str(root.get("$schema", ""))
        self._old = "/draft-0" in name
        """Whether it is of draft 4, 6 or 7, where `$ref` stands alone."""
        self._has_const = "/draft-04/" not in name
        self._has_if = not self._old or "/draft-07/" in name
        self._parts: dict[str, Any] = {}
        self._names: dict[int, str] = {}
        self._todo: list[tuple[str, dict[str, Any]]] = []

    def made(self) -> dict[str, Any]:
        """The whole twin: one schema that refers to nothing outside itself."""
        top = self._child(self._root)
        while self._todo:
            name, node = self._todo.pop()
            self._parts[name] = self._strict(node) if name.startswith("strict") else self._loose(node)
        made = {"definitions": self._parts, "allOf": [top]}
        return {"$schema": self._root["$schema"], **made} if "$schema" in self._root else made

    def _named(self, kind: str, node: Any) -> Any:
        """A reference to the *kind* of translation of *node*, which is written once."""
        if isinstance(node, bool) or node == {}:
            return node
        if not isinstance(node, dict):
            raise _GivenUp
        number = self._names.setdefault(id(node), str(len(self._names)))
        name = kind + number
        if name not in self._parts:
            if len(self._names) > MAX_PARTS or (node is not self._root and self._moves(node)):
                raise _GivenUp
            if _is_leaf(node):
                return self._strict(node) if kind == "strict" else self._loose(node)
            self._parts[name] = None
            self._todo.append((name, node))
        return {"$ref": "#/definitions/" + name}

    def _child(self, node: Any) -> Any:
        """*node* for a value that may be wrapped."""
        if isinstance(node, bool) or node == {}:
            return node
        closed = self._named("strict", node)
        either = {"if": _GROWS, "else": closed} if self._has_if else {"anyOf": [closed, _GROWS]}
        return {"properties": {OPEN: self._named("loose", node)}, **either}

    def _strict(self, node: dict[str, Any]) -> dict[str, Any]:
        """*node* as it is, its parts by reference: for what is closed."""
        if "$ref" in node and self._old:
            return self._alone("strict", node)
        made: dict[str, Any] = {}
        for key, value in node.items():
            if key == "$ref":
                made["allOf"] = [*made.get("allOf", ()), self._named("strict", self._target(node))]
            elif key in ("$dynamicRef", "$recursiveRef"):
                raise _GivenUp
            elif key in _MANY and isinstance(value, list):
                parts = [self._named("strict", part) for part in value]
                made[key] = [*made.get(key, ()), *parts]
            elif key in _ONE:
                made[key] = self._named("strict", value)
            elif key in _NAMED and isinstance(value, dict):
                parts_of = value.items()
                made[key] = {n: part if isinstance(part, list) else self._named("strict", part) for n, part in parts_of}
            elif key in _DATA or not (key in _IGNORED or isinstance(value, dict | list)):
                made[key] = value
        return made

    def _loose(self, node: dict[str, Any]) -> dict[str, Any]:
        """What holds for a value that is still growing towards one that satisfies *node*."""
        if "$ref" in node and self._old:
            return self._alone("loose", node)
        made: dict[str, Any] = {key: node[key] for key in _KEPT if key in node}
        both: list[Any] = [self._named("loose", part) for part in node.get("allOf", ())]
        if "$ref" in node:
            both.append(self._named("loose", self._target(node)))
        both += [{"anyOf": [self._named("loose", part) for part in node[k]]} for k in ("anyOf", "oneOf") if k in node]
        if "if" in node and self._has_if:
            both += self._condition(node)
        if "enum" in node:
            both.append(_beginnings(node["enum"]))
        if "const" in node and self._has_const:
            both.append(_beginnings([node["const"]]))
        self._members(node, made)
        return {**made, "allOf": both} if both else made

    def _alone(self, kind: str, node: dict[str, Any]) -> dict[str, Any]:
        """The *kind* of translation of what *node* refers to, where its other members mean nothing."""
        found = self._named(kind, self._target(node))
        return found if isinstance(found, dict) else {} if found else _NOTHING

    def _condition(self, node: dict[str, Any]) -> Iterable[Any]:
        if "then" not in node and "else" not in node:
            return
        kept = [self._named("loose", node[key]) for key in ("if", "then") if key in node]
        other = self._named("loose", node["else"]) if "else" in node else True
        if other is not True and other != {}:
            yield {"anyOf": [{"allOf": kept}, other]}

    def _members(self, node: dict[str, Any], made: dict[str, Any]) -> None:
        """What holds for the children; a name is closed, so it is judged as it is."""
        if "propertyNames" in node:
            made["propertyNames"] = self._named("strict", node["propertyNames"])
        for key in ("properties", "patternProperties"):
            if key in node:
                made[key] = {name: self._child(part) for name, part in node[key].items()}
        for key in ("dependentSchemas", "dependencies"):
            if key in node:
                parts = node[key].items()
                made[key] = {name: self._named("loose", part) for name, part in parts if not isinstance(part, list)}
        for key in ("additionalProperties", "items", "prefixItems", "additionalItems"):
            if key in node:
                part = node[key]
                made[key] = [self._child(one) for one in part] if isinstance(part, list) else self._child(part)

    def _target(self, node: dict[str, Any]) -> Any:
        """What the reference of *node* names; a plain ``#/…`` only."""
        reference = node["$ref"]
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            raise _GivenUp
        found: Any = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, dict) and name in found:
                found = found[name]
            else:
                raise _GivenUp
            if self._moves(found):
                raise _GivenUp
        return found

    def _moves(self, node: Any) -> bool:
        """Whether references mean other places from *node* on."""
        return isinstance(node, dict) and any(isinstance(node.get(key), str) for key in ("$id", "id"))


def _beginnings(values: list[Any]) -> dict[str, Any]:
    """What a value that is still growing towards one of *values* may be by now; a number may be any number."""
    texts = [value for value in values if isinstance(value, str)]
    kinds = {_KINDS[type(value)] for value in values if type(value) in _KINDS}
    ways: list[Any] = []
    if sum(len(text) * len(text) for text in texts) > 2 * MAX_BEGINNINGS:
        kinds.add("string")
    elif texts:
        begun = dict.fromkeys(text[:end] for text in texts for end in range(len(text)))
        ways += [{"enum": values}, {"type": "string", "enum": list(begun) or [""]}]
    if kinds:
        ways.append({"type": sorted(kinds)})
    return {"anyOf": ways} if ways else _NOTHING


_KINDS: Final[dict[type, str]] = {dict: "object", list: "array", int: "number", float: "number"}


def _is_leaf(node: dict[str, Any]) -> bool:
    """Whether *node* has no parts and no data: short enough to be written where it is used."""
    return not any(key in _REFERENCES or (isinstance(node[key], dict | list) and key != "type") for key in node)
