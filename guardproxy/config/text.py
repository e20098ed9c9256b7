"""From YAML text to a tree that knows the line of everything.

Here belong the bounds of what is read at all (size, nesting, aliases), duplicate keys and the few features
of YAML that are refused: tags, merge keys, several documents.  Built on PyYAML's events, because its nodes
are composed by recursion and its mappings forget duplicates.
Not here: what the words mean (`scalars`), what belongs under which key (`decode`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from guardproxy.config import scalars
from guardproxy.config.tree import BROKEN, Node, Path, Problems, Spot

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CHARACTERS: Final = 4 << 20
"""Characters of a configuration file."""

MAX_NESTING: Final = 100
"""Mappings and lists inside each other."""

MAX_VALUES: Final = 100_000
"""Values in all, with what aliases repeat counted each time."""

_SCALARS: Final = (None, "!", "tag:yaml.org,2002:str")
_COLLECTIONS: Final = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def parse(text: str, file: str, env: Mapping[str, str], problems: Problems, path: Path = ()) -> Node:
    """The tree of *text*; what is wrong goes to *problems*, and what is right is still there.

    An empty text is an empty mapping.  *path* is where the tree will stand, for the problems' sake.
    """
    start = Spot(file, 1, 1)
    if len(text) > MAX_CHARACTERS:
        problems.add(start, path, f"larger than {MAX_CHARACTERS >> 20} MiB")
        return Node({}, start)
    reader = _Reader(file, env, problems, path)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            reader.take(event)
    except _Enough:
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        spot = Spot(file, mark.line + 1, mark.column + 1) if mark else start
        problems.add(spot, path, "not YAML: " + ", ".join(filter(None, (error.context, error.problem))))
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # a character that YAML does not allow
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        problems.add(Spot(file, line, 1), path, f"not YAML: {str(error).splitlines()[0]}")
    return reader.root or Node({}, start)


@final
class _Enough(Exception):  # noqa: N818 - no error but the end of reading; its cause is among the problems
    """There is no sense in reading on."""


@final
class _Reader:
    """Takes the events of one text, and builds the tree."""

    def __init__(self, file: str, env: Mapping[str, str], problems: Problems, path: Path) -> None:
        self.root: Node | None = None
        self._file, self._env, self._problems, self._path = file, env, problems, path
        self._open: list[Node] = []
        self._key: list[str | None] = []
        """For each open mapping the key whose value is due, or None."""
        self._anchors: dict[str, Node | None] = {}
        self._names: list[str | None] = []
        self._documents = 0

    def take(self, event: Event) -> None:
        """The next event."""
        mark = event.start_mark
        spot = Spot(self._file, mark.line + 1, mark.column + 1) if mark else Spot(self._file)
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._stop(spot, "a second document begins here; one file is one configuration")
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._begin(event, spot)
        elif isinstance(event, CollectionEndEvent):
            self._end()
        elif isinstance(event, ScalarEvent):
            self._scalar(event, spot)
        elif isinstance(event, AliasEvent):
            self._alias(event.anchor, spot)

    def _begin(self, event: MappingStartEvent | SequenceStartEvent, spot: Spot) -> None:
        if len(self._open) >= MAX_NESTING:
            self._stop(spot, f"more than {MAX_NESTING} levels inside each other")
        if event.tag not in _COLLECTIONS:
            self._wrong(spot, f"the tag {event.tag} means nothing here")
        if self._at_key():
            self._stop(spot, "a key has to be text")
        mapping = isinstance(event, MappingStartEvent)
        node = Node({} if mapping else [], spot)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(node)
        self._key.append(None)
        self._names.append(event.anchor)

    def _end(self) -> None:
        node = self._open.pop()
        self._key.pop()
        if name := self._names.pop():
            self._anchors[name] = node
        self._place(node)

    def _scalar(self, event: ScalarEvent, spot: Spot) -> None:
        if self._at_key():
            self._name(event, spot)
            return
        node = self._word(event, spot)
        if event.anchor:
            self._anchors[event.anchor] = node
        self._place(node)

    def _word(self, event: ScalarEvent, spot: Spot) -> Node:
        text, env = event.value, tuple[str, ...]()
        if event.tag not in _SCALARS:
            self._wrong(spot, f"the tag {event.tag} means nothing here")
        try:
            text, env = scalars.substitute(text, self._env)
            text.encode()
        except scalars.Missing as error:
            self._wrong(spot, str(error))
            return Node(BROKEN, spot)
        except UnicodeEncodeError:
            self._wrong(spot, "holds half a character (a lone surrogate)")
            return Node(BROKEN, spot)
        data = scalars.value(text) if event.style is None and event.tag is None else text
        # `${…}` needs quotes inside `{…}`, so what a setting wants decides whether the words of it are a number.
        return Node(data, replace(spot, env=env), text if "${" in event.value else None)

    def _name(self, event: ScalarEvent, spot: Spot) -> None:
        mapping, name = self._open[-1], event.value
        if not name.isprintable():
            self._wrong(spot, f"a key has to be printable text, not {name!r}")
        elif event.style is None and not isinstance(scalars.value(name), str):
            self._wrong(spot, f"a key has to be text; put {name!r} in quotes")
        elif name == "<<" and event.style is None:
            self._wrong(spot, "merge keys (<<) are not read; repeat the values, or use an alias for a whole one")
        elif name in mapping.data:
            first = mapping.keys[name]
            self._problems.add(spot, (*self._here(), name), f"written twice; first in line {first.line}")
        mapping.keys[name] = spot
        self._key[-1] = name

    def _alias(self, name: str | None, spot: Spot) -> None:
        if self._at_key():
            self._stop(spot, "a key has to be text")
        node = self._anchors.get(name or "")
        if node is None:
            self._wrong(
                spot, f"*{name} stands inside itself" if name in self._anchors else f"there is no &{name} before"
            )
            node = Node(BROKEN, spot)
        self._place(replace(node, spot=replace(spot, env=node.spot.env)))

    def _place(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        around = self._open[-1]
        around.size += node.size
        if around.size > MAX_VALUES:
            self._stop(node.spot, f"more than {MAX_VALUES} values, aliases counted each time")
        if isinstance(around.data, dict):
            around.data[self._key[-1]] = node
            self._key[-1] = None
        else:
            around.data.append(node)

    def _at_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].data, dict) and self._key[-1] is None

    def _here(self) -> Path:
        steps: list[str | int] = []
        for node, key in zip(self._open, self._key, strict=True):
            if isinstance(node.data, list):
                steps.append(len(node.data))
            elif key is not None:
                steps.append(key)
        return (*self._path, *steps)

    def _wrong(self, spot: Spot, message: str) -> None:
        self._problems.add(spot, self._here(), message)

    def _stop(self, spot: Spot, message: str) -> None:
        self._wrong(spot, message)
        raise _Enough
