"""How models begin their answers.

Here belongs what has been seen of it: whether an upstream, asked for a schema, comes to the document at once.  Whether
an answer is waited for that begins otherwise is the guard's to decide.

A model that thinks aloud first may do so for pages, and its document is taken out of them; one that has always begun
with the document and now writes an essay has gone astray.  The two look alike, so nobody is interrupted of whom the
second has not been seen.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

ENOUGH: Final = 3
"""Answers in a row that came to their document at once, before another beginning is taken for a mistake."""
KEPT: Final = 1024
"""Pairs of an upstream and a schema that are remembered, those last heard of."""

Who = tuple[str, bytes]
"""An upstream, and the digest of the schema that it was asked for."""


@final
class Habits:
    """What has been seen of how answers begin."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: OrderedDict[Who, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Habits of {len(self._runs)}>"

    def terse(self, who: Who) -> bool:
        """Whether it comes to the document at once, as far as has been seen."""
        return self._runs.get(who, 0) >= ENOUGH

    def note(self, who: Who, *, at_once: bool) -> None:
        """A document has come, at once or after much else."""
        run = self._runs.get(who, 0)
        if at_once and run >= ENOUGH:
            return
        self._runs[who] = run + 1 if at_once else 0
        self._runs.move_to_end(who)
        if len(self._runs) > KEPT:
            self._runs.popitem(last=False)
