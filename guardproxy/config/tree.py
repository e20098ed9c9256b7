"""What was written, and where: the values of a file with the line of each.

Here belong `Spot`, `Node`, `Problem` and `Invalid`, which everything else in this package speaks in.
Not here: how a text becomes such a tree (`text`), what a value should have been (`decode`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, final

Path = tuple[str | int, ...]
"""The way to a value: names of keys and numbers of list items."""

OVERRIDE: Final = "-o"
"""The file's name of what came from the command line."""

BUILT_IN: Final = "default"
"""The file's name of what is so where nothing was written."""

BROKEN: Final = object()
"""The value of a node that could not be read: its problem has been noted."""

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


@final
@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a text, counted from one; line 0: no particular one."""

    file: str = BUILT_IN
    line: int = 0
    column: int = 0
    env: tuple[str, ...] = ()
    """The environment's variables that had a say in the value there."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line and self.file not in (OVERRIDE, BUILT_IN) else self.file
        return place + "".join(f" (env {name})" for name in self.env)


@final
@dataclass(slots=True)
class Node:
    """One value as it was written."""

    data: Any
    """Text, number, truth or None; for a mapping a dict of nodes, for a sequence a list of them."""
    spot: Spot = field(default_factory=Spot)
    text: str | None = None
    """What a scalar with a variable in it says, before it was taken for a number or a truth."""
    keys: dict[str, Spot] = field(default_factory=dict)
    """Where each key of a mapping stands."""
    size: int = 1
    """How many values it holds, itself counted."""


@final
@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration."""

    file: str
    line: int
    column: int
    path: str
    """The setting, dotted; for an override with ``-o`` before it; empty: the file as a whole."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.path, self.message) if part)


@final
class Invalid(ValueError):  # noqa: N818 - said of a configuration
    """A configuration that cannot be used; `problems` is everything that is wrong with it."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@final
class Problems:
    """The list that problems are put on while a configuration is read."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, spot: Spot, path: Path, message: str) -> None:
        """Note that what stands at *spot* and is called *path* is wrong; the same twice counts once."""
        name = dotted(path)
        message += "".join(f" (from the environment's {variable})" for variable in spot.env)
        if spot.file == OVERRIDE:
            self._found[Problem("", 0, 0, f"{OVERRIDE} {name}".strip(), message)] = None
        else:
            line, column = (0, 0) if spot.file == BUILT_IN else (spot.line, spot.column)
            self._found[Problem(spot.file, line, column, name, message)] = None

    def check(self) -> None:
        """Raise `Invalid` with all of them, in the order of the text, where there are any."""
        if self._found:
            raise Invalid(sorted(self._found, key=lambda p: (p.file, p.line, p.column)))


def dotted(path: Path) -> str:
    """A path as people write it: ``upstreams.qwen.aliases[0]``, names with dots in them quoted."""
    name = ""
    for step in path:
        if isinstance(step, int):
            name += f"[{step}]"
        else:
            step = step if len(step) <= 80 else step[:79] + "…"  # noqa: PLW2901 - the step, cut
            name += ("." if name else "") + (step if _PLAIN.fullmatch(step) else f'"{step}"')
    return name


def spot_of(root: Node, path: Path) -> Spot:
    """Where *path* was written; where it was not, where the nearest thing around it was."""
    return _nearest(root, path)[0].spot


def written(root: Node, path: Path) -> bool:
    """Whether there is a value at *path*."""
    return _nearest(root, path)[1] == len(path)


def _nearest(root: Node, path: Path) -> tuple[Node, int]:
    """The last node on the way to *path*, and how many steps lead to it."""
    node = root
    for count, step in enumerate(path):
        below = node.data
        if isinstance(below, list):
            known = isinstance(step, int) and step < len(below)
        else:
            known = isinstance(below, dict) and step in below
        if not known:
            return node, count
        node = below[step]
    return node, len(path)


def plain(node: Node) -> Any:
    """The value without its places, as JSON has it."""
    if isinstance(node.data, dict):
        return {key: plain(value) for key, value in node.data.items()}
    if isinstance(node.data, list):
        return [plain(value) for value in node.data]
    return node.data
