r"""Something like JSON, made JSON, without a word that was not there.

Here belongs the lenient grammar, and what is written instead of what it lets pass.  Not here: where in an
answer such a document begins, and whether it is wanted (`openai.repair`).

Each value and each name of the result stands in the text, in the same order, and none of the text is left
out but comments, one comma before a closing bracket, and an escape that was cut in half:

    ``'a'``, a name without quotes           quoted
    a line break or tab in a text            escaped
    ``True``, ``False``, ``None``            ``true``, ``false``, ``null``
    ``//``, ``#``, ``/* */``                 left out
    ``,`` before ``}`` or ``]``              left out
    no ``,`` between ``1`` and ``"b"``       put there, where there is white space; not between 1 and 234
    ``"`` in a text                          escaped, if neither ``,``, ``:``, a bracket nor ``"`` follows, nor
                                             what puts two texts together: ``"a" + "b"``
    the end, with brackets open              closed; a text too, a number never: 12 may have become 123

Nothing else is guessed at: a missing value, ``1,,2``, ``undefined``, ``.5``, ``012``, ``[1, 2}``, text after a
bracket that was not closed.  The library json-repair, which was to do this, answers each of these with something,
and leaves out the ``"c"`` of ``{"a": "b" "c"}``; it took 0.4 s for 4,000 opening braces (0.64.6).  One reading takes
about 0.4 µs a token; there are two, the second with quotes in texts.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Final, NamedTuple, final

MAX_TOKENS: Final = 10_000
"""Tokens of a document that is mended, white space among them: some 50 kB; two readings take about 20 ms."""
MAX_NESTING: Final = 200
"""Containers inside each other; `openai.strict` reads no more."""

_TOKENS: Final = r"""
    (?P<blank> [\s\ufeff]++ )
  | (?P<text> " (?= (?P<inner> (?: [^"\\]++ | \\. INNER )* ) ) (?P=inner) " )
  | (?P<mark> [{}\[\],:] )
  | (?P<word> [^\s{}\[\],:"'/\#]++ )
  | (?P<single> ' (?: [^'\\]++ | \\. )* ' )
  | (?P<note> //[^\n]*+ | \#[^\n]*+ | /\*.*?\*/ )
  | (?P<begun> ["'].*+ )
"""
# `inner` is taken as a whole or not at all, which a possessive group would say too, were it not wrong before CPython
# 3.11.5 (https://github.com/python/cpython/issues/106052).
_FIRST: Final = re.compile(_TOKENS.replace("INNER", ""), re.VERBOSE | re.DOTALL)
_SECOND: Final = re.compile(
    _TOKENS.replace("INNER", r'| "(?! \s*+ (?: [,:}\]"] | [+.&|]{1,2} \s*+ ["\x27] | \Z ))'), re.VERBOSE | re.DOTALL
)
_ODD: Final = re.compile(r'\\.|["\x00-\x1f]', re.DOTALL)
_WHOLE: Final = re.compile(
    r"(?:[^\\]++|\\(?:[^u]|u(?:[dD][89abAB]HH\\u[dD][c-fC-F]HH|(?![dD][89abAB])HHHH)))*".replace("H", "[0-9a-fA-F]"),
    re.DOTALL,
)
"""A text that was cut off, up to the last escape that is whole; half a surrogate pair is not."""
_NAME: Final = re.compile(r"[A-Za-z_$][\w$-]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_WORDS: Final = {
    "true": "true",
    "false": "false",
    "null": "null",
    "True": "true",
    "False": "false",
    "None": "null",
}

_OWED, _VALUE, _NAMING, _COLON, _NEXT, _DONE = range(6)
"""What may come: a value, a value or the end, a name or the end, a colon, a comma or the end, nothing."""


@final
class Mended(NamedTuple):
    """A document that can be read now; only a strict reading tells."""

    text: str
    end: int
    """Where in the original it ended."""
    closed: bool
    """Whether brackets were added at its end."""
    cut: bool
    """Whether a text was, too: some of it may be missing."""


def mend(text: str, start: int) -> Mended | None:
    """Make JSON of the object or array at *start*; None where more would have to be guessed than is allowed."""
    return _Reading(text, start).take(_FIRST) or _Reading(text, start, inner=True).take(_SECOND)


@final
class _Reading:
    """One way to read a document."""

    __slots__ = ("_blank", "_comma", "_cut", "_inner", "_last", "_open", "_out", "_start", "_state", "_text")

    def __init__(self, text: str, start: int, *, inner: bool = False) -> None:
        self._text = text
        self._start = start
        self._inner = inner
        self._out: list[str] = []
        self._open: list[str] = []
        self._state = _OWED
        self._last = ""
        """The kind of the last token that meant something."""
        self._comma = -1
        """Where in the output the comma stands that nothing has followed yet; -1: there is none."""
        self._blank = False
        self._cut = False

    def take(self, tokens: re.Pattern[str]) -> Mended | None:
        """Read to the end of the document, or of the text."""
        end = self._start
        last = ""
        for token in islice(tokens.finditer(self._text, self._start), MAX_TOKENS):
            last = token.lastgroup or ""
            if token.start() != end or not self._token(last, token[0]):
                return None
            end = token.end()
            if self._state == _DONE:
                return Mended("".join(self._out), end, closed=False, cut=False)
        if end != len(self._text) or (last == "word" and _NUMBER.fullmatch(self._text[-1:])):
            return None
        return self._close(end)

    def _token(self, kind: str, token: str) -> bool:
        if kind == "blank":
            self._out.append(token)
            self._blank = True
            return True
        if kind == "note":
            self._blank = True
            return True
        if token not in ("}", "]"):
            self._comma = -1
        taken = self._mark(token) if kind == "mark" else self._scalar(kind, token)
        self._blank = False
        self._last = kind
        return taken

    def _mark(self, mark: str) -> bool:
        if mark in "{[":
            if not self._value_may_come("mark") or len(self._open) >= MAX_NESTING:
                return False
            self._open.append(mark)
            self._state = _NAMING if mark == "{" else _VALUE
        elif mark == ",":
            if self._state != _NEXT:
                return False
            self._comma = len(self._out)
            self._state = _NAMING if self._open[-1] == "{" else _VALUE
        elif mark == ":":
            if self._state != _COLON:
                return False
            self._state = _OWED
        else:
            if self._open[-1:] != ["{" if mark == "}" else "["] or not self._may_close():
                return False
            self._open.pop()
            self._state = _NEXT if self._open else _DONE
        self._out.append(mark)
        return True

    def _may_close(self) -> bool:
        """Whether the innermost container may end here; a comma that nothing followed goes."""
        if self._state in (_OWED, _COLON):
            return False
        if self._state != _NEXT and self._comma >= 0:
            self._out[self._comma] = ""
            self._comma = -1
        return True

    def _value_may_come(self, kind: str) -> bool:
        """Whether a value may stand here, or a name; where only a comma is missing it is put there."""
        if self._state == _NEXT and self._blank and not self._inner and not kind == self._last == "word":
            self._out.append(",")
            self._state = _NAMING if self._open[-1] == "{" else _VALUE
        return self._state in (_OWED, _VALUE)

    def _scalar(self, kind: str, token: str) -> bool:
        value = self._value_may_come(kind)
        if self._state == _NAMING:
            if kind == "begun" or (kind == "word" and not _NAME.fullmatch(token)):
                return False
            self._state = _COLON
            self._out.append('"' + token + '"' if kind == "word" else _quoted(token[1:-1]))
            return True
        if not value:
            return False
        self._state = _NEXT
        if kind == "word":
            known = _WORDS.get(token) or (token if _NUMBER.fullmatch(token) else "")
            self._out.append(known)
            return bool(known)
        if kind == "begun":
            if self._inner:
                return False
            self._cut = True
            whole = _WHOLE.match(token, 1)
            token = token[: whole.end() if whole else 1] + token[0]
            if token[:-1].rstrip()[-1:] in ("}", "]"):  # its quote was forgotten: where, nobody knows
                return False
        self._out.append(_quoted(token[1:-1]))
        return True

    def _close(self, end: int) -> Mended | None:
        """The text ended first: only what closes is added."""
        while self._open:
            if not self._may_close():
                return None
            self._out.append("}" if self._open.pop() == "{" else "]")
            self._state = _NEXT
        return Mended("".join(self._out), end, closed=True, cut=self._cut)


def _quoted(content: str) -> str:
    """A text in quotes; what is escaped already stays as it is."""
    return '"' + (_ODD.sub(_escaped, content) if _ODD.search(content) else content) + '"'


def _escaped(found: re.Match[str]) -> str:
    return _SPELLED.get(found[0], found[0])


_SPELLED: Final = {"\\'": "'", **{one: json.dumps(one)[1:-1] for one in ['"', *map(chr, range(32))]}}
