"""Settings that have a name already, and no code behind them.

Here belongs one table, which is to become empty.  A setting that is accepted and does nothing would be a
guard that somebody relies on; so each of these is refused, in words, until it works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from guardproxy.config.tree import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guardproxy.config.tree import Node, Path, Problems


TABLE: Final[tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...]] = (
    (("shared", "state"), lambda v: v is True, "shared circuits are not yet supported: leave it false"),
)
"""Where (``*``: under any name), which values, and what is said about them."""


def refuse(root: Node, problems: Problems) -> None:
    """Note each setting of the table that is in use."""
    for pattern, asked, message in TABLE:
        for path, node in _found(root, pattern, ()):
            if asked(plain(node)):
                problems.add(node.spot, path, message)


def _found(node: Node, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Node]]:
    if not pattern:
        yield path, node
    elif isinstance(node.data, dict):
        for name in list(node.data) if pattern[0] == "*" else [pattern[0]]:
            if name in node.data:
                yield from _found(node.data[name], pattern[1:], (*path, name))
