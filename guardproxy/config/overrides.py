"""What the command line changes: ``-o section.key=value`` over the tree of the file.

Here belong the spelling of an override and its place in the tree.  Not here: what the value has to be,
which is judged together with the file's (`decode`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from guardproxy.config import text
from guardproxy.config.tree import OVERRIDE, Node, Problems, Spot, dotted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STEP: Final = re.compile(r'"([^"]+)"|([^".=\s]+)')
_SPOT: Final = Spot(OVERRIDE)


def apply(root: Node, overrides: Sequence[str], env: Mapping[str, str], problems: Problems) -> None:
    """Put each of *overrides* into the mapping *root*, the later over the earlier."""
    for written in overrides:
        path, value = _split(written)
        if not path:
            problems.add(_SPOT, (), f"{written[:80]!r} is no override; write section.key=value")
            continue
        before = len(problems)
        node = text.parse(value, OVERRIDE, env, problems, path)
        if not value.strip():
            node = Node(None, _SPOT)
        if len(problems) == before:
            _put(root, path, node, problems)


def _split(written: str) -> tuple[tuple[str, ...], str]:
    """The path and the value of an override; no path where it is none."""
    steps: list[str] = []
    at = 0
    while step := _STEP.match(written, at):
        steps.append(step[1] or step[2])
        at = step.end()
        sign = written[at : at + 1]
        at += 1
        if sign == "=":
            return tuple(steps), written[at:]
        if sign != ".":
            break
    return (), ""


def _put(root: Node, path: tuple[str, ...], value: Node, problems: Problems) -> None:
    node = root
    for depth, step in enumerate(path[:-1], 1):
        if step not in node.data or node.data[step].data is None:
            node.data[step] = Node({}, _SPOT)
            node.keys[step] = _SPOT
        node = node.data[step]
        if not isinstance(node.data, dict):
            problems.add(_SPOT, path, f"{dotted(path[:depth])} is no mapping, so nothing in it can be overridden")
            return
    node.data[path[-1]] = value
    node.keys[path[-1]] = _SPOT
