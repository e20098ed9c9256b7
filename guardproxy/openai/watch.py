"""Reading an answer along while it is written.

Here belongs what turns events into the growing text of each choice, and the growing arguments of each call of a tool,
and shows them to a `Prefix`.  What a text may become is `core.prefix`'s to say; who hangs up on the model then is
`net`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.core.prefix import Prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.jsonschema import Validator


@final
class Reading:
    """Watches the choices of one answer; called with each event."""

    __slots__ = ("_choices", "_dialect", "_first", "_given", "_strict", "_tools", "at")

    def __init__(
        self,
        dialect: Dialect,
        first: Prefix | None,
        tools: Mapping[str, Validator] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        self._dialect = dialect
        self._first = first
        """Of a choice's text; None: it may be any."""
        self._tools = tools or {}
        """What each tool takes."""
        self._strict = strict
        self._choices: dict[int, Prefix] = {}
        self.at = 0
        self._given: dict[Any, tuple[str, Prefix | None]] = {}

    def __call__(self, event: Any) -> str | None:
        """Take one event; why its choice can no longer become what it has to be, or None."""
        if self._first is not None:
            for index, text in self._dialect.deltas(event):
                if (reason := self.heard(index, text)) is not None:
                    return reason
        return self._called(event) if self._tools else None

    def heard(self, index: int, text: str) -> str | None:
        """Take what an event adds to the text of a choice."""
        prefix = self._choices.get(index)
        if prefix is None:
            if self._first is None:
                return None
            prefix = self._choices[index] = self._first.again()
        reason = prefix.feed(text)
        if reason is not None:
            self.at = index
        return reason

    def _called(self, event: Any) -> str | None:
        for call, name, text in self._dialect.given(event):
            if name and (call not in self._given or self._given[call][0] != name):
                check = self._tools.get(name)
                # who is named anew is another one: what came before is no beginning of its arguments
                known = check is not None and call not in self._given
                self._given[call] = name, Prefix.of(check, strict=self._strict) if check and known else None
            tool, prefix = self._given.get(call, _UNKNOWN)
            if text and prefix is not None and (reason := prefix.feed(text)) is not None:
                self.at = call[0] if type(call) is tuple else 0
                return f"what is given to the tool {tool}: {reason}"
        return None


_UNKNOWN: tuple[str, Prefix | None] = "", None
