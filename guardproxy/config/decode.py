"""From the tree of a file to the dataclasses of the settings, with every problem named by its path.

Here belongs what each type of a setting accepts, which is read from the annotations: nothing is listed
twice.  Not here: which keys there are (`settings` and the guards), their bounds (`rules`).

What is wrong is noted and replaced by its default, so that the rest can still be judged; a configuration
with any problem is never used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import math
import types
import typing
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.config import scalars
from guardproxy.config.places import Address
from guardproxy.config.rules import RULES, Rule
from guardproxy.config.settings import secret
from guardproxy.config.tree import BROKEN, Node, Path, Problems
from guardproxy.core import units

if TYPE_CHECKING:
    from collections.abc import Iterable

_NONE: Final = type(None)
_ANYTHING: Final = Rule()
_EXPECTED: Final[dict[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    units.Seconds: "a duration such as 30, 250ms, 30s or 5m",
    units.Bytes: "a size such as 65536, 64KiB or 256MiB",
    Address: "an address such as 127.0.0.1:8000",
}
_PLACEHOLDERS: Final[dict[Any, Any]] = {str: "", bool: False, int: 0, float: 0.0}


def decode(kind: type, node: Node, problems: Problems, path: Path = ()) -> Any:
    """Make a *kind* of *node*; with problems it is only good for finding more of them."""
    try:
        return _Decoder(problems).record(kind, node, path)
    except _Wrong:
        return kind()


@functools.cache
def names(record: type) -> dict[str, Any]:
    """The settings of a dataclass, each with its type."""
    hints = typing.get_type_hints(record)
    return {f.name: hints[f.name] for f in dataclasses.fields(record)}


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'X'?``, where *name* comes close to anything *known*, or nothing."""
    known = list(known)
    near = [word for word in known if len(name) > 2 and name in word.split("_")]  # a word of it
    near = near or difflib.get_close_matches(name[:80], known, 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


@final
class _Wrong(Exception):  # noqa: N818 - a value that will not do, noted already
    """A value that cannot be used."""


@final
class _Decoder:
    """One passage over a tree."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def record(self, kind: Any, node: Node, path: Path) -> Any:
        """A dataclass from a mapping; raises `_Wrong` where it is none."""
        mapping = self._mapping(node, path)
        hints = names(kind)
        for name in mapping:
            if name not in hints:
                hint = nearest(name, hints) or f"; there are {', '.join(hints)}"
                self._problems.add(node.keys.get(name, node.spot), (*path, name), "no such setting" + hint)
        values = {}
        for field in dataclasses.fields(kind):
            below = (*path, field.name)
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if field.name in mapping and not self._empty(hints[field.name], mapping[field.name]):
                rule = RULES.get((kind, field.name), _ANYTHING)
                try:
                    values[field.name] = self._value(hints[field.name], mapping[field.name], below, rule)
                    continue
                except _Wrong:
                    pass
            elif required:
                self._problems.add(node.spot, below, "is required")
            if required:
                values[field.name] = _PLACEHOLDERS.get(hints[field.name])
        return kind(**values)

    def _empty(self, kind: Any, node: Node) -> bool:
        """Whether it is a section of which everything is left out or commented out: as if it were not there."""
        return node.data is None and (dataclasses.is_dataclass(kind) or typing.get_origin(kind) in (dict, tuple))

    def _value(self, kind: Any, node: Node, path: Path, rule: Rule) -> Any:
        if node.data is BROKEN:
            raise _Wrong
        if kind is Any:
            return self._json(node, path)
        if dataclasses.is_dataclass(kind):
            return self.record(kind, node, path)
        origin, args = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self._union(args, node, path, rule)
        if origin is typing.Literal:
            return self._choice(args, node, path)
        if origin is tuple:
            if not isinstance(node.data, list):
                raise self._no("a list", node, path)
            return tuple(self._each(args[0], enumerate(node.data), path, rule).values())
        if origin is dict:
            mapping = self._mapping(node, path)
            for name in mapping if rule.check else ():
                with contextlib.suppress(_Wrong):
                    self._checked(rule, name, Node(name, node.keys.get(name, node.spot)), (*path, name))
            return self._each(args[1], mapping.items(), path, Rule(check=rule.values))
        return self._scalar(kind, node, path, rule)

    def _each(self, kind: Any, items: Any, path: Path, rule: Rule) -> dict[Any, Any]:
        values = {}
        for key, node in items:
            try:
                values[key] = self._value(kind, node, (*path, key), rule)
            except _Wrong:
                continue
        return values

    def _union(self, args: tuple[Any, ...], node: Node, path: Path, rule: Rule) -> Any:
        """``X | None``, or ``bool | Literal["shadow"]``."""
        kinds = [kind for kind in args if kind is not _NONE]
        empty = node.data is None or node.text == ""
        if empty and _NONE in args:
            return None
        if len(kinds) == 1:
            return self._value(kinds[0], node, path, rule)
        return self._choice([True, False, *(word for kind in kinds for word in typing.get_args(kind))], node, path)

    def _choice(self, words: Any, node: Node, path: Path) -> Any:
        value = node.data if node.text is None else scalars.value(node.text)
        for word in words:
            if type(value) is type(word) and value == word:
                return word
        listed = [str(word).lower() if isinstance(word, bool) else str(word) for word in words]
        expected = ("one of " if len(listed) > 1 else "") + ", ".join(listed)
        raise self._no(expected, node, path, nearest(str(value).lower(), listed))

    def _scalar(self, kind: Any, node: Node, path: Path, rule: Rule) -> Any:
        value = node.data
        if node.text is not None:
            value = node.text if kind in (str, Address) else scalars.value(node.text)
        try:
            if kind is units.Seconds:
                found: Any = units.seconds(value)
            elif kind is units.Bytes:
                found = units.size(value)
            elif kind is Address:
                found = Address.parse(value) if isinstance(value, str) else None
            elif kind is float:
                found = value if type(value) in (int, float) and math.isfinite(value) else None
            elif kind is int and type(value) is float and value.is_integer():  # 1e6, or what a template made of 3
                found = int(value)
            else:
                found = value if type(value) is kind else None
        except (ValueError, OverflowError) as error:
            self._problems.add(node.spot, path, str(error)[:200])
            raise _Wrong from None
        if found is None:
            hint = (
                "; put it in quotes" if kind is str and value is not None and not isinstance(value, dict | list) else ""
            )
            raise self._no(_EXPECTED[kind], node, path, hint)
        return self._checked(rule, found, node, path)

    def _checked(self, rule: Rule, value: Any, node: Node, path: Path) -> Any:
        try:
            if isinstance(value, str):
                if rule.check:
                    rule.check(value)
            elif isinstance(value, int | float):
                rule.number(value)
        except ValueError as error:
            self._problems.add(node.spot, path, str(error)[:300])
            raise _Wrong from None
        return value

    def _json(self, node: Node, path: Path) -> Any:
        """Any JSON: what YAML has beyond it is a problem."""
        if isinstance(node.data, dict):
            return self._each(Any, node.data.items(), path, _ANYTHING)
        if isinstance(node.data, list):
            return list(self._each(Any, enumerate(node.data), path, _ANYTHING).values())
        number = node.data if isinstance(node.data, int | float) else 0
        if not math.isfinite(number) or (isinstance(number, int) and not -(2**63) <= number < 2**64):
            raise self._no("a number that JSON can hold", node, path)
        return node.data

    def _mapping(self, node: Node, path: Path) -> dict[str, Node]:
        if isinstance(node.data, dict):
            return node.data
        if node.data is BROKEN:
            raise _Wrong
        raise self._no("a mapping", node, path)

    def _no(self, expected: str, node: Node, path: Path, hint: str = "") -> _Wrong:
        came = "something else" if secret(path) else _shown(node)
        self._problems.add(node.spot, path, f"expected {expected}, got {came}{hint}")
        return _Wrong()


def _shown(node: Node) -> str:
    value = node.text if node.text is not None else node.data
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
