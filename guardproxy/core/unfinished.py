r"""A JSON text that is still being written, completed to one that can be read.

Here belongs what is known of the end of such a text: which containers are open, and whether it stops in a
text, a number, a name.  Not here: what the completed value means (`core.prefix`).

Only what is new is looked at, with patterns that run at the speed of C, so that all looks together cost as
much as one.  How a text ends, and what is added to it before its containers are closed:

    ends with                            added            last value
    a value, ``{`` or ``[``              nothing          as it is
    ``,``                                (taken away)     as it is
    the beginning of a text              ``"``            open: a `TEXT`
    a number                             (``0`` for it)   open: a `NUMBER`; 12 may become 123
    ``t``, ``f``, ``n``, …               the rest of it   as it is: nothing else can come
    ``:``, or a name                     ``0``, ``:0``    open: `UNKNOWN`
    the beginning of a name              (taken away)     as it is
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, final

CLOSED: Final = "closed"
TEXT: Final = "text"
NUMBER: Final = "number"
UNKNOWN: Final = "unknown"

_BLANK: Final = " \t\n\r"
_STRING: Final = re.compile(r'(?<!\\)"[^"\\]*+(?:\\.[^"\\]*+)*"', re.DOTALL)
"""A closed text.  None begins after a backslash: else each escaped quote of an open one would be tried."""
_BRACKET: Final = re.compile(r"[\[\]{}]")
_TOKEN: Final = re.compile(_STRING.pattern + r"|[\[\]{}]", re.DOTALL)
_HEX: Final = "[0-9a-fA-F]"
_SOUND: Final = re.compile(
    r'"[^"\\]*+(?:\\(?:["\\/bfnrt]|u(?:[dD][89abAB]HH\\u[dD][c-fC-F]HH|(?![dD][89abAB])HHHH))[^"\\]*+)*'.replace(
        "H", _HEX
    )
)
"""An open text up to the last escape that is whole; half a surrogate pair is not."""
_SCALAR: Final = "-+.0123456789eEtrufalsn"
_NUMBER: Final = re.compile(r"-?(?:(?:0|[1-9]\d*)(?:\.\d*)?(?:(?<=\d)[eE][-+]?\d*)?)?", re.ASCII)
_LITERALS: Final = ("true", "false", "null")


@final
class Completed(NamedTuple):
    """A text that can be read, and what was not written to its end."""

    text: str
    depth: int
    """Containers that are open; they lie inside each other, each the last child of the one before."""
    last: str
    """What the last value of the innermost is: `CLOSED`, `TEXT`, `NUMBER` or `UNKNOWN`."""
    quoted: bool
    """Whether it stops within quotes: in a text, or in a name."""
    end: int
    """Where the document ended, if it did; else -1. Of a number or a word nobody knows whether it goes on."""


@final
class Unfinished:
    """The end of one growing text."""

    __slots__ = ("_before", "_open", "_seen")

    def __init__(self) -> None:
        self._open: list[str] = []
        self._seen = 0
        """Characters that need not be looked at again."""
        self._before = ""
        """The last two characters that meant something there."""

    def complete(self, text: str) -> Completed:
        """Complete *text*, which has only grown since the last time.

        What comes back is readable if *text* is the beginning of a readable text; else reading it fails.
        """
        bare = _STRING.sub("$", text[self._seen :] if self._seen else text)
        quote = bare.find('"')
        begun = bare[quote:] if quote >= 0 else ""
        bare = bare[:quote] if quote >= 0 else bare
        scalar = "" if begun else bare[len(bare.rstrip(_SCALAR)) :]
        bare = bare[: len(bare) - len(scalar)]
        if self._follow(bare):
            end = self._end(text)
            return Completed(text[:end], 0, CLOSED, False, end)
        known = len(text) - len(begun) - len(scalar)
        self._seen = known
        bare = (self._before + bare).rstrip(_BLANK)
        self._before = bare[:-1].rstrip(_BLANK)[-1:] + bare[-1:]
        whole, last = self._last(text, known, begun, scalar)
        ended = self._before[-1:] == "$" and not (self._open or begun or scalar)
        closers = "".join("}" if one == "{" else "]" for one in reversed(self._open))
        return Completed(whole + closers, len(self._open), last, bool(begun), len(text) if ended else -1)

    def _follow(self, bare: str) -> bool:
        """Open and close containers; tell whether the outermost was closed."""
        before = list(self._open)
        for one in _BRACKET.findall(bare):
            if one in "{[":
                self._open.append(one)
            elif self._open:
                self._open.pop()
                if not self._open:
                    self._open = before
                    return True
        return False

    def _end(self, text: str) -> int:
        """Where the outermost container was closed."""
        depth = len(self._open)
        for token in _TOKEN.finditer(text, self._seen):
            kind = token[0]
            depth += (kind in "{[") - (kind in "}]")
            if depth == 0 and kind in "}]":
                return token.end()
        return len(text)

    def _last(self, text: str, known: int, begun: str, scalar: str) -> tuple[str, str]:
        """*text* up to its last value, with that made readable; and what it is."""
        last = self._before[-1:]
        in_object = self._open[-1:] == ["{"]
        if begun and not (in_object and last in ("{", ",")):
            sound = _SOUND.match(begun)
            kept = sound[0] if sound and len(begun) - sound.end() < 12 else begun
            return text[:known] + kept + '"', TEXT
        if scalar:
            if _NUMBER.fullmatch(scalar):
                return text[:known] + "0", NUMBER
            meant = next((one for one in _LITERALS if one.startswith(scalar)), scalar)
            return text[:known] + meant, CLOSED
        if last == ",":
            return text[:known].rstrip(_BLANK)[:-1], CLOSED
        if last == ":":
            return text[:known] + "0", UNKNOWN
        if last == "$" and in_object and self._before in ("{$", ",$"):
            return text[:known] + ":0", UNKNOWN
        return text[:known], CLOSED
