"""Reading an answer along while it is written.

Here belongs what turns events into the growing text of each choice and shows it to a `Prefix`.  What a text may
become is `core.prefix`'s to say; who hangs up on the model then is `net`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from guardproxy.core.dialect import Dialect
    from guardproxy.core.prefix import Prefix


@final
class Reading:
    """Watches the choices of one answer; called with each event."""

    __slots__ = ("_choices", "_dialect", "_first", "at")

    def __init__(self, dialect: Dialect, first: Prefix) -> None:
        self._dialect = dialect
        self._first = first
        self._choices: dict[int, Prefix] = {}
        self.at = 0

    def __call__(self, event: Any) -> str | None:
        """Take one event; why its choice can no longer become what it has to be, or None."""
        for index, text in self._dialect.deltas(event):
            prefix = self._choices.get(index)
            if prefix is None:
                prefix = self._choices[index] = self._first.again()
            if (reason := prefix.feed(text)) is not None:
                self.at = index
                return reason
        return None
