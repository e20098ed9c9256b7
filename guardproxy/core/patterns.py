r"""Regular expressions in schemas: what it takes to make one ready, and whether it may try over and over.

Here belongs one look at a pattern without understanding it: groups, what is repeated, and how often.  What may be too
much is said by `core.schema_bounds` and `core.heft`.

Counted repetitions are written out by the engine: ``.{1,2048}`` takes 12 ms and 5 MB to make ready, 6 µs a turn, and
what is nested multiplies.  It backtracks only where a back-reference, or look-around inside of something that is
repeated, needs it; everything else is matched in one pass.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple, final

_ATOM: Final = re.compile(
    r"\\[1-9k](?P<again>)|(?:\\[pP](?:\{[^}]*\})?|\[\^?(?:[^\]\\]|\\[^pP])*\\[pP](?:[^\]\\]|\\.)*\])(?P<large>)|"
    r"\\.|\[\^?\]?(?:[^\]\\]|\\.)*\]|(?P<open>\((?:\?(?:(?P<look><?[=!])|[^)]*?[:>])?)?)|(?P<close>\))|.",
    re.DOTALL,
)
_TIMES: Final = re.compile(r"(?:[*+]|\{(\d+)(?:,(\d*))?\}(?P<counted>)|\?)[?+]?")


_LARGE: Final = 65
"""What ``\\p{L}`` and its like are written out to: 400 µs, each time."""

_DASH_BEHIND: Final = re.compile(r"((?<!\\)(?:\\\\)*\\(?:[wWdDsS]|[pP]\{[^}]*\}))-(?!\])")
_DASH_BEFORE: Final = re.compile(r"(?<![\\\[])-(\\[wWdDsSpP])")


@final
class Look(NamedTuple):
    """What was seen of a pattern."""

    turns: int
    """How many single steps it is written out to."""
    backtracks: bool
    """Whether it may try the same text in many ways."""


@lru_cache(maxsize=1024)
def look(pattern: str) -> Look:
    """Look at *pattern*; one that is none is as good as any: the engine says so."""
    turns, looks, again = [0], [False], False
    tries = False
    position = 0
    while position < len(pattern):
        atom = _ATOM.match(pattern, position)
        if atom is None:
            break
        position = atom.end()
        if atom["open"] is not None:
            turns.append(0)
            looks.append(atom["look"] is not None)
            continue
        size, looking = 1, False
        if atom["large"] is not None:
            size = _LARGE * (atom[0].count("\\p") + atom[0].count("\\P"))
        if atom["close"] is not None and len(turns) > 1:
            size, looking = max(turns.pop(), 1), looks.pop()
        again = again or atom["again"] is not None
        times = _TIMES.match(pattern, position)
        if times is not None:
            position = times.end()
            if times["counted"] is not None:
                size *= max(int(times[1][:9]), int((times[2] or "0")[:9]), 1)
            tries = tries or (looking and times[0] != "?")
        turns[-1] += size
        looks[-1] = looks[-1] or looking
    return Look(sum(turns), again or tries)


def plain(pattern: str) -> str:
    r"""*pattern* with everything written as the engine takes it that means the same to everybody.

    Dashes are escaped that stand beside ``\w`` or its like in a class and can be no range there: JavaScript reads
    ``[\w-.]`` so (ECMA 262, annex B), and so do people.  ``[^]`` and ``\0`` are JavaScript's; named groups and ``\Z``
    come from Python and Java, and mean nothing else to anybody; a brace that counts nothing is one.  Two halves of a
    surrogate pair are the character that they are in JavaScript, and one half in a class is in no text.
    """
    pattern = _PAIR.sub(_paired, pattern)
    pattern = _HALF.sub("", pattern)
    return _DASH_BEHIND.sub(r"\1\-", _DASH_BEFORE.sub(r"\-\1", _numbered(_OTHERWISE.sub(_meant, pattern))))


_PAIR: Final = re.compile(r"\\u([dD][89abAB]\w\w)\\u([dD][c-fC-F]\w\w)")
_HALF: Final = re.compile(r"(?<=[^\\])\\u[dD][89a-fA-F]\w\w(?:-\\u[dD][89a-fA-F]\w\w)?(?=[^\[]*\])")


def _paired(pair: re.Match[str]) -> str:
    return rf"\u{{{0x10000 + ((int(pair[1], 16) - 0xD800) << 10) + int(pair[2], 16) - 0xDC00:X}}}"


_OTHERWISE: Final = re.compile(
    r"\\(?:Z|0(?!\d)|[pP]\{[^}]*\}|[xu]\{[^}]*\}|k<\w+>|.)|\(\?P<|\(\?P=(\w+)\)|\[\^\]|"
    r"\[\^?(?:[^\]\\]|\\.)+\]|\{(?!\d*,?\d*\})",
    re.DOTALL,
)
_WRITTEN: Final = {r"\Z": r"\z", r"\0": r"\x00", "[^]": r"[\s\S]", "(?P<": "(?<", "{": r"\{"}
_NAME: Final = re.compile(r"\(\?<(\w+)>|\\k<(\w+)>|\\.|\[(?:[^\]\\]|\\.)*\]|\((?!\?)", re.DOTALL)


def _meant(odd: re.Match[str]) -> str:
    return rf"\k<{odd[1]}>" if odd[1] else _WRITTEN.get(odd[0], odd[0])


def _numbered(pattern: str) -> str:
    """*pattern* with every reference to a group by its name made one by its number."""
    numbers: dict[str, int] = {}
    count = 0
    for found in _NAME.finditer(pattern):
        if found[1] or found[0] == "(":
            count += 1
            numbers[found[1] or ""] = count
    return _NAME.sub(lambda one: rf"(?:\{numbers[one[2]]})" if one[2] in numbers else one[0], pattern)
