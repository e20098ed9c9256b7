"""A string that matches a regular expression, for the `pattern` keyword.

Here belongs the everyday part of the syntax: literals, classes, groups, alternatives, quantifiers and anchors.
Lookaround, back references and Unicode properties do not: `CannotSatisfyError`, and the inventor says so.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final, final

from guardproxy.simulator.fits import CannotSatisfyError

if TYPE_CHECKING:
    from random import Random

_CLASSES: Final = {
    "d": string.digits,
    "w": string.ascii_lowercase + string.digits,
    "s": " ",
    "D": string.ascii_lowercase,
    "W": "-",
    "S": string.ascii_lowercase,
}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_PRINTABLE: Final = string.ascii_lowercase + string.digits + string.ascii_uppercase + " -_.,:;!?/()[]@#%&*+=~'\""
# Repetitions beyond the least a quantifier asks for: enough that `.+` does not look degenerate.
_MORE: Final = 3
_UNBOUNDED: Final = 1 << 16


@final
class _Reader:
    """Walks the expression once and writes a match as it goes."""

    def __init__(self, text: str, dice: Random) -> None:
        self._text, self._at, self._dice = text, 0, dice

    def whole(self) -> str:
        match = self._alternatives()
        if self._at < len(self._text):
            raise self._beyond()
        return match

    def _alternatives(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence())
        return self._dice.choice(options)

    def _sequence(self) -> str:
        pieces = []
        while self._peek() not in {"", "|", ")"}:
            # A quantified piece is read again for each repetition, so that `[a-z]{3}` is not three times one letter.
            start = self._at
            piece = self._piece()
            end = self._at
            least, most = self._quantifier()
            after = self._at
            for number in range(self._dice.randint(least, min(most, least + _MORE)) if most > least else least):
                if number:
                    self._at = start
                    piece = self._piece()
                pieces.append(piece)
            self._at = max(end, after)
        return "".join(pieces)

    def _piece(self) -> str:
        char = self._next()
        if char in "^$":
            return ""
        if char == "(":
            return self._group()
        if char == "[":
            return self._dice.choice(self._set())
        if char == "\\":
            return self._dice.choice(self._escape())
        if char in "*+?{":
            raise self._beyond()
        return self._dice.choice(string.ascii_lowercase) if char == "." else char

    def _group(self) -> str:
        if self._peek() == "?":
            self._at += 1
            if self._next() != ":":
                raise self._beyond()
        match = self._alternatives()
        if self._next() != ")":
            raise self._beyond()
        return match

    def _escape(self) -> str:
        char = self._next()
        if char in "bBAZ":
            raise self._beyond()
        if char in {"u", "x"}:
            digits = 4 if char == "u" else 2
            self._at += digits
            try:
                return chr(int(self._text[self._at - digits : self._at], 16))
            except ValueError:
                raise self._beyond() from None
        if char in "pPk" or char.isdigit():
            raise self._beyond()
        return _CLASSES.get(char) or _ESCAPES.get(char, char)

    def _set(self) -> str:
        negated = self._peek() == "^"
        self._at += negated
        members = ""
        while self._peek() != "]" or not members:
            char = self._next()
            if char == "\\":
                chars = self._escape()
            elif self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in {"]", ""}:
                self._at += 1
                last = self._next()
                last = self._escape() if last == "\\" else last
                chars = "".join(map(chr, range(ord(char), min(ord(last), ord(char) + 255) + 1)))
            else:
                chars = char
            members += chars
        self._at += 1
        chosen = "".join(char for char in _PRINTABLE if char not in members) if negated else members
        if not chosen:
            raise self._beyond()
        return chosen

    def _quantifier(self) -> tuple[int, int]:
        char = self._peek()
        if char not in {"*", "+", "?", "{"}:
            return 1, 1
        self._at += 1
        least, most = {"*": (0, _UNBOUNDED), "+": (1, _UNBOUNDED), "?": (0, 1)}.get(char, (0, 0))
        if char == "{":
            text, closing, _ = self._text[self._at :].partition("}")
            low, comma, high = text.partition(",")
            if not closing or not low.isdigit() or not (high.isdigit() or not high):
                raise self._beyond()
            self._at += len(text) + 1
            least = int(low)
            most = int(high) if high else _UNBOUNDED if comma else least
        if self._peek() == "?":
            self._at += 1
        return least, most

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        if not char:
            raise self._beyond()
        self._at += 1
        return char

    def _beyond(self) -> CannotSatisfyError:
        return CannotSatisfyError(f"pattern {self._text!r} is beyond the simulator")


def match_of(expression: str, dice: Random) -> str:
    """Some string that matches; raises `CannotSatisfyError` for syntax beyond the everyday part."""
    return _Reader(expression, dice).whole()
