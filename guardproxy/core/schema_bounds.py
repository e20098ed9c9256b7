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

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from urllib.parse import unquote, urldefrag, urljoin

from guardproxy.core.heft import heft
from guardproxy.core.patterns import look

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

MAX_NESTING: Final = 200
"""Containers inside each other, the schema's text taken as JSON: 100 objects deep. The engine ends at 255."""

MAX_PARTS: Final = 50_000
"""Objects in a schema, which make some 4 MB: making one of 10,000 ready takes 0.1 s, once."""

MAX_TURNS: Final = 1_000_000
"""Steps to which the patterns of a schema are written out, at 6 µs each; published ones have up to 350,000. How many of
them may really be made ready is for the limits on time and memory to say where that is done."""

_PATTERN: Final = 8
"""What every pattern takes to make ready, in such steps."""

MAX_CHAIN: Final = 100
"""Schemas that apply to one value because each refers to the next."""

MAX_JUDGEMENTS: Final = 10_000
"""How often one value may have to be judged; at 20 ns each that is 0.2 ms."""

_ONE: Final = frozenset(("not", "if", "then", "else"))
_LISTS: Final = frozenset(("allOf", "anyOf", "oneOf"))
_MAPS: Final = frozenset(("dependentSchemas", "dependencies"))
_REFERENCES: Final = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
_ITEMS: Final = frozenset(("items", "additionalItems", "unevaluatedItems", "contains", "prefixItems"))
_REST: Final = frozenset(("additionalProperties", "unevaluatedProperties", "propertyNames"))
_MEMBERS: Final = frozenset(("properties", "patternProperties"))
_APPLIED: Final = _ONE | _LISTS | _MAPS | _REFERENCES | _ITEMS | _REST | _MEMBERS
_NAMING: Final = frozenset(("$id", "id", "$anchor", "$dynamicAnchor"))
_PATTERNS: Final = frozenset(("pattern", "patternProperties"))

_Work = tuple[int, dict[str, int], int, int]
"""Judgements of the value itself, of each of its children, the longest chain to get there, and the most of all."""
_LEAF: Final[_Work] = (1, {}, 0, 1)


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
    turns: int = 0
    """Steps to which its patterns are written out, at 6 µs each."""


def bound(schema: Any) -> Bound:
    """Raise `InvalidSchema` (``schema_too_deep``) where *schema* would take too much work to apply."""
    bounds = _Bounds(schema)
    own = bounds.work(schema)[0]
    if bounds.turns > MAX_TURNS:
        raise InvalidSchema("", f"patterns that repeat more than {MAX_TURNS:,} times in all", "schema_too_deep")
    return Bound(bounds.lost, heft(bounds.nodes, max(own, bounds.most)), bounds.turns)


@final
class _Bounds:
    """The index of a schema's parts, and the work each of them makes; nothing here recurses."""

    def __init__(self, root: Any) -> None:
        self._ways: dict[int, tuple[int, str | int]] = {}
        """Of each container: what it lies in, and under which name; places are seldom asked for."""
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
        todo: list[tuple[Any, str, int]] = [(root, "", 0)] if type(root) is dict else []
        ways, bases, nodes = self._ways, self._bases, self.nodes
        while todo:
            node, base, depth = todo.pop()
            if depth > MAX_NESTING:
                place = self._place(node)
                raise InvalidSchema(place, f"more than {MAX_NESTING} levels inside each other", "schema_too_deep")
            me, depth = id(node), depth + 1
            if type(node) is dict:
                if not _NAMING.isdisjoint(node):
                    base = self._name(node, base)
                if base:
                    bases[me] = base
                nodes.append(node)
                if not _PATTERNS.isdisjoint(node):
                    self.turns += _turns(node)
                if len(nodes) > MAX_PARTS:
                    raise InvalidSchema("", f"more than {MAX_PARTS:,} parts", "schema_too_deep")
            children: Iterable[tuple[str | int, Any]] = node.items() if type(node) is dict else enumerate(node)
            for key, value in children:
                if type(value) is dict or type(value) is list:
                    ways[id(value)] = me, key
                    todo.append((value, base, depth))

    def _name(self, node: dict[str, Any], base: str) -> str:
        for key in ("$id", "id"):
            if isinstance(name := node.get(key), str):
                base = _join(base, name).removesuffix("#")
                self._named.setdefault(base, node)
        for key in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := node.get(key), str):
                self._named.setdefault(f"{base}#{name}", node)
        return base

    def _place(self, node: Any) -> str:
        """Where *node* stands, as a JSON pointer."""
        steps: list[str | int] = []
        way = self._ways.get(id(node))
        while way is not None and len(steps) <= MAX_NESTING:
            steps.append(way[1])
            way = self._ways.get(way[0])
        return pointer(*reversed(steps))

    def work(self, root: Any) -> _Work:
        """What applying the schema to one value makes of work."""
        found = self._known(root)
        under_way = [] if found is not None else [self._weigh(root)]
        while under_way:
            try:
                part = under_way[-1].send(found)
            except StopIteration as end:
                under_way.pop()
                found = end.value
            else:
                found = self._known(part)
                if found is None:
                    under_way.append(self._weigh(part))
        return found or _LEAF

    def _known(self, node: Any) -> _Work | None:
        """The work of *node* where it is known, or is none; None: it has to be weighed."""
        if type(node) is not dict or _APPLIED.isdisjoint(node):
            return _LEAF
        key = id(node)
        if key in self._done:
            return self._done[key]
        if self._open.get(key) == self._depth:
            reason = "refers to itself without moving on in the value"
            raise InvalidSchema(self._place(node), reason, "schema_too_deep")
        return _LEAF if key in self._open else None

    def _weigh(self, node: dict[str, Any]) -> Generator[Any, Any, _Work]:
        """Yields each part of *node* and is sent the work that it makes."""
        key = id(node)
        self._open[key] = self._depth
        own, chain = 1, 0
        children: dict[str, int] = {}
        for part in self._same_value(node):
            more, below, length, _ = yield part
            own, chain = own + more, max(chain, length + 1)
            for name, count in below.items():
                children[name] = children.get(name, 0) + count
            self._allow(own, chain, node)
        self._depth += 1
        for name, part in _below(node):
            found = yield part
            children[name] = count = children.get(name, 0) + found[3]
            self._allow(count, 0, node)
        self._depth -= 1
        del self._open[key]
        rest = children.get("*", 0)
        heaviest = max(own, rest, *(count + rest for name, count in children.items() if name != "*"))
        self._done[key] = own, children, chain, heaviest
        return self._done[key]

    def _allow(self, judgements: int, chain: int, node: dict[str, Any]) -> None:
        self.most = max(self.most, judgements)
        if judgements > MAX_JUDGEMENTS:
            reason = f"would judge one value more than {MAX_JUDGEMENTS} times over"
            raise InvalidSchema(self._place(node), reason, "schema_too_deep")
        if chain > MAX_CHAIN:
            reason = f"a chain of more than {MAX_CHAIN} schemas for one value"
            raise InvalidSchema(self._place(node), reason, "schema_too_deep")

    def _same_value(self, node: dict[str, Any]) -> Iterator[Any]:
        for key, value in node.items():
            if key in _ONE:
                yield value
            elif key in _LISTS:
                yield from value if isinstance(value, list) else ()
            elif key in _MAPS:
                yield from value.values() if isinstance(value, dict) else ()
            elif key in _REFERENCES and isinstance(value, str):
                part = self._follow(value, self._bases.get(id(node), ""))
                if part is None and not self.lost:
                    self.lost = self._place(node) + pointer(key)
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
    for key, value in node.items():
        if key in _ITEMS:
            for part in value if isinstance(value, list) else (value,):
                yield "[]", part
        elif key in _REST:
            yield "*", value
        elif key in _MEMBERS and isinstance(value, dict):
            for name, part in value.items():
                yield "." + name if key == "properties" else "*", part


def _turns(node: dict[str, Any]) -> int:
    pattern, named = node.get("pattern"), node.get("patternProperties")
    turns = _PATTERN + look(pattern).turns if isinstance(pattern, str) else 0
    return turns + (sum(_PATTERN + look(name).turns for name in named) if isinstance(named, dict) else 0)


def _join(base: str, reference: str) -> str:
    if not base and reference.startswith("#"):
        return reference if reference != "#" else ""
    try:
        return urljoin(base, reference)
    except ValueError:  # no URL at all: the engine says so
        return reference
