"""The marks of purges, as they lie in the store.

Here belongs their reading and writing.  What a mark means is `core.epochs`', when the store is asked `net.far`'s.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, final

from guardproxy.core.epochs import ALL, Epochs, Found

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from typing import Any

    from guardproxy.core.store import Store


@final
class Marks:
    """Those in one *table*; *quietly* asks without anybody waiting, *start* begins work in the background."""

    def __init__(
        self,
        store: Store,
        table: str,
        quietly: Callable[[Awaitable[object]], Awaitable[bool]],
        start: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self.epochs = Epochs(lambda: secrets.token_bytes(8))
        self.table = table
        self.fields: tuple[str, ...] = ()
        """What purges are marked by; nothing, where no answers are shared."""
        self.purged: Callable[[str | None, bool], object] = lambda _upstream, _now: None
        """Called when another proxy has had an upstream's answers dropped, or (None) all: just *now*, or who knows."""
        self._store = store
        self._quietly = quietly
        self._start = start
        self._writing: set[str] = set()

    def __repr__(self) -> str:
        return f"<Marks {self.epochs!r}>"

    def see(self, fields: Sequence[str], marks: Sequence[bytes | None]) -> None:
        """The store says since when what is kept may be shown."""
        for field, mark in zip(fields, marks, strict=True):
            found = self.epochs.find(field, mark)
            if found is Found.PURGED or found is Found.ADOPTED:
                self.purged(None if field == ALL else field, found is Found.PURGED)
            elif found is Found.BEHIND and field not in self._writing:
                self._writing.add(field)
                self._start(self._write(field))

    async def learn(self) -> None:
        """Before anybody looks for answers: under other marks they have other names."""
        for last in (False, True) if self.fields else ():
            _, marks = await self._store.get(f"{self.table}:none", self.table, self.fields)
            if last or None not in marks:
                self.see(self.fields, marks)
                return
            for field, mark in zip(self.fields, marks, strict=True):
                if mark is None:
                    await self._write(field)

    async def _write(self, field: str) -> None:
        mark, first = self.epochs.mark(field), self.epochs.is_born(field)
        await self._quietly(self._store.mark(self.table, field, mark, first=first))
        self._writing.discard(field)
