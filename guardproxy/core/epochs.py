"""Since when what is kept may be shown: what makes a purge reach every proxy, heard or not.

Here belongs the marks of time that are part of the name of everything in a shared store: one for all, and one for
each upstream.  A purge sets a new one, under which nothing is found that was there before.

| the store's mark | what it means | what is done |
|---|---|---|
| ours | – | – |
| later, and made by a purge | somebody has purged | take it; drop what is kept here |
| any, made by a proxy that knew none, as ours is | the store had lost its memory | take it |
| earlier, or none | the store has lost its memory, or is put back to an old one | write ours |
| any, and we have none | we have just come | take it; drop what is kept here, which may be from before a purge |

Marks are compared as text: sixteen digits of time in microseconds, by the store's clock or a proxy's, and chance.  One
that is not made by a purge is earlier than all that are.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = "*"
"""Stands for all upstreams; no upstream is called so."""
_DIGITS = 16
_BORN = b"0" * _DIGITS


class Found(Enum):
    """What a mark in the store means."""

    SAME = "same"
    PURGED = "purged"
    """What is kept here must go."""
    ADOPTED = "adopted"
    """The first that this proxy hears of: what it has kept before must go."""
    RENAMED = "renamed"
    """Things have other names now; what is kept here is good."""
    BEHIND = "behind"
    """The store must be told ours."""


@final
class Epochs:
    """The marks that this proxy knows; *chance* makes eight bytes that nobody has made before."""

    __slots__ = ("_chance", "_marks")

    def __init__(self, chance: Callable[[], bytes]) -> None:
        self._chance = chance
        self._marks: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<Epochs of {', '.join(sorted(self._marks)) or 'nothing yet'}>"

    def name(self, upstream: str) -> bytes:
        """What is part of the name of everything that *upstream* answered."""
        return self.mark(ALL) + self.mark(upstream)

    def mark(self, field: str) -> bytes:
        """The mark of *field*; where none is known one is made, earlier than any purge."""
        mark = self._marks.get(field)
        if mark is None:
            mark = self._marks[field] = _BORN + self._chance().hex().encode()
        return mark

    def is_born(self, field: str) -> bool:
        """Whether the mark of *field* is one that nobody's purge has made."""
        return self.mark(field).startswith(_BORN)

    def purge(self, field: str, now: float) -> bytes:
        """A new mark, later than the one that is known, whatever the clock says."""
        at = max(int(now * 1e6), int(self.mark(field)[:_DIGITS]) + 1)
        mark = self._marks[field] = b"%0*d" % (_DIGITS, at) + self._chance().hex().encode()
        return mark

    def find(self, field: str, mark: bytes | None) -> Found:
        """The store says *mark*."""
        if mark is not None and not (len(mark) > _DIGITS and mark[:_DIGITS].isdigit()):
            mark = None  # nobody of us has written that
        ours = self._marks.get(field)
        if mark is None:
            self.mark(field)
            return Found.BEHIND
        if mark == ours:
            return Found.SAME
        born = mark.startswith(_BORN)
        if ours is not None and mark < ours and not (born and ours.startswith(_BORN)):
            return Found.BEHIND
        self._marks[field] = mark
        if ours is None:
            return Found.ADOPTED
        return Found.RENAMED if born else Found.PURGED
