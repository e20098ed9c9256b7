"""How much work a JSON Schema can make, found out before it is used.

Here belongs what is refused for its size: a schema nested too deeply, references that run in a circle
without moving on in the answer, and alternatives that share their parts so often that one value would be
judged tens of thousands of times.  Not here: whether it is a schema at all (`core.jsonschema`).

The last matters because two definitions that each name the one below twice double the work: 20 such levels
are a few hundred bytes and a million judgements.  What counts is how often *one place* of the answer is
judged: members of different names add up in the answer's size, not here.  A definition that refers to
itself through `items` or `properties` is not followed twice: the engine remembers its verdict per value.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from urllib.parse import unquote, urldefrag, urljoin

from guardproxy.core.heft import heft
from guardproxy.core.patterns import look

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NESTING: Final = 200
"""Containers inside each other, the schema's text taken as JSON: 100 objects deep. The engine ends at 255."""

MAX_PARTS: Final = 50_000
"""Objects in a schema, which make some 4 MB: making one of 10,000 ready takes 0.15 s, once."""

MAX_TURNS: Final = 100_000
"""Steps to which the patterns of a schema are written out: 0.6 s to make ready, once; published ones have 70,000."""

MAX_CHAIN: Final = 100
"""Schemas that apply to one value because each refers to the next."""

MAX_JUDGEMENTS: Final = 10_000
"""How often one value may have to be judged; at 20 ns each that is 0.2 ms."""

_ONE = ("not", "if", "then", "else")
_LISTS = ("allOf", "anyOf", "oneOf")
_MAPS = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ITEMS = ("items", "additionalItems", "unevaluatedItems", "contains", "prefixItems")
_REST = ("additionalProperties", "unevaluatedProperties", "propertyNames")

_Work = tuple[int, Counter[str], int]
"""Judgements of the value itself, of each of its children, and the longest chain to get there."""


@final
class InvalidSchema(ValueError):  # noqa: N818 - named like the code of its envelope
    """A JSON Schema that cannot be used; *code* is that of the error envelope."""

    def __init__(self, place: str, reason: str, code: str = "invalid_schema") -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.place = place
        """JSON pointer into the schema; empty: the whole of it."""
        self.reason = reason
        self.code = code
        """``invalid_schema`` or ``schema_too_deep``."""


def pointer(*steps: str | int) -> str:
    """The JSON pointer (RFC 6901) of a way through a document."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


@final
class Bound(NamedTuple):
    """What was found out about a schema that may be used."""

    lost: str
    """The place of the first reference that names nothing in it; empty: there is none."""
    heft: int
    """How many times as much work as an ordinary schema it makes (`core.heft`)."""


def bound(schema: Any) -> Bound:
    """Raise `InvalidSchema` (``schema_too_deep``) where *schema* would take too much work to apply."""
    bounds = _Bounds(schema)
    own, _, _ = bounds.work(schema, "")
    if bounds.turns > MAX_TURNS:
        raise InvalidSchema("", f"patterns that repeat more than {MAX_TURNS:,} times in all", "schema_too_deep")
    return Bound(bounds.lost, heft(bounds.nodes, max(own, bounds.most)))


@final
class _Bounds:
    """The index of a schema's parts, and the work each of them makes."""

    def __init__(self, root: Any) -> None:
        self._places: dict[int, str] = {}
        self._bases: dict[int, str] = {}
        self._named: dict[str, Any] = {"": root}
        self._done: dict[int, _Work] = {}
        self._followed: dict[tuple[str, str], Any] = {}
        self._open: dict[int, int] = {}
        """Parts being looked at, and how deep in the answer the value lies that they are applied to."""
        self._depth = 0
        self.nodes: list[dict[str, Any]] = []
        self.turns = 0
        """Steps to which all patterns together are written out."""
        self.most = 1
        """How often a child of some value is judged, at the most."""
        self.lost = ""
        self._index(root)

    def _index(self, root: Any) -> None:
        todo: list[tuple[Any, str, str, int]] = [(root, "", "", 0)]
        while todo:
            node, base, place, depth = todo.pop()
            if depth > MAX_NESTING:
                raise InvalidSchema(place, f"more than {MAX_NESTING} levels inside each other", "schema_too_deep")
            if isinstance(node, dict):
                base = self._name(node, base)
                self.nodes.append(node)
                self.turns += _turns(node)
                if len(self.nodes) > MAX_PARTS:
                    raise InvalidSchema("", f"more than {MAX_PARTS:,} parts", "schema_too_deep")
                self._places[id(node)], self._bases[id(node)] = place, base
                todo += [(value, base, place + pointer(str(key)), depth + 1) for key, value in node.items()]
            elif isinstance(node, list):
                todo += [(value, base, place + pointer(index), depth + 1) for index, value in enumerate(node)]

    def _name(self, node: dict[str, Any], base: str) -> str:
        for key in ("$id", "id"):
            if isinstance(name := node.get(key), str):
                base = _join(base, name).removesuffix("#")
                self._named.setdefault(base, node)
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := node.get(key), str):
                self._named.setdefault(f"{base}#{name}", node)
        return base

    def work(self, node: Any, place: str) -> _Work:
        """What applying *node* to one value makes of work; `place` is where it was named."""
        if not isinstance(node, dict):
            return 1, Counter(), 0
        key = id(node)
        place = self._places.get(key, place)
        if key in self._done:
            return self._done[key]
        if self._open.get(key) == self._depth:
            raise InvalidSchema(place, "refers to itself without moving on in the value", "schema_too_deep")
        if key in self._open:
            return 1, Counter(), 0
        self._open[key] = self._depth
        own, children, chain = 1, Counter[str](), 0
        for part in self._same_value(node):
            more, below, length = self.work(part, place)
            own, chain = own + more, max(chain, length + 1)
            children.update(below)
            self._allow(own, chain, place)
        self._depth += 1
        for name, part in _below(node):
            children[name] += max(self._heaviest(part, place), 1)
            self._allow(children[name], 0, place)
        self._depth -= 1
        del self._open[key]
        self._done[key] = own, children, chain
        return self._done[key]

    def _heaviest(self, node: Any, place: str) -> int:
        own, children, _ = self.work(node, place)
        rest = children["*"]
        return max(own, rest, *(count + rest for name, count in children.items() if name != "*"), 1)

    def _allow(self, judgements: int, chain: int, place: str) -> None:
        self.most = max(self.most, judgements)
        if judgements > MAX_JUDGEMENTS:
            raise InvalidSchema(
                place, f"would judge one value more than {MAX_JUDGEMENTS} times over", "schema_too_deep"
            )
        if chain > MAX_CHAIN:
            raise InvalidSchema(place, f"a chain of more than {MAX_CHAIN} schemas for one value", "schema_too_deep")

    def _same_value(self, node: dict[str, Any]) -> Iterator[Any]:
        for key in _ONE:
            if key in node:
                yield node[key]
        for key in _LISTS:
            yield from node[key] if isinstance(node.get(key), list) else ()
        for key in _MAPS:
            yield from node[key].values() if isinstance(node.get(key), dict) else ()
        for key in _REFERENCES:
            if isinstance(reference := node.get(key), str):
                part = self._follow(reference, self._bases.get(id(node), ""))
                if part is None and not self.lost:
                    self.lost = self._places[id(node)] + pointer(key)
                yield part

    def _follow(self, reference: str, base: str) -> Any:
        """What *reference* names; None where that is not in this schema (the engine then says so)."""
        key = base, reference
        if key not in self._followed:
            self._followed[key] = self._found(reference, base)
        return self._followed[key]

    def _found(self, reference: str, base: str) -> Any:
        whole = _join(base, reference)
        if whole in self._named:
            return self._named[whole]
        document, fragment = urldefrag(whole)
        node = self._named.get(document)
        for step in unquote(fragment).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")  # noqa: PLW2901 - the step, unescaped
            if isinstance(node, list) and step.isascii() and step.isdigit() and int(step) < len(node):
                node = node[int(step)]
            else:
                node = node.get(step) if isinstance(node, dict) else None
        return node


def _below(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas for the children of a value; ``*`` stands for every member, ``[]`` for every item."""
    for key in _ITEMS:
        if key in node:
            parts = node[key] if isinstance(node[key], list) else [node[key]]
            for part in parts:
                yield "[]", part
    for key in _REST:
        if key in node:
            yield "*", node[key]
    for key in ("properties", "patternProperties"):
        if isinstance(node.get(key), dict):
            for name, part in node[key].items():
                yield "." + name if key == "properties" else "*", part


def _turns(node: dict[str, Any]) -> int:
    pattern, named = node.get("pattern"), node.get("patternProperties")
    turns = look(pattern).turns if isinstance(pattern, str) else 0
    return turns + (sum(look(str(name)).turns for name in named) if isinstance(named, dict) else 0)


def _join(base: str, reference: str) -> str:
    if not base and reference.startswith("#"):
        return reference if reference != "#" else ""
    try:
        return urljoin(base, reference)
    except ValueError:  # no URL at all: the engine says so
        return reference
