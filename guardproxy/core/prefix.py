"""Whether a text that a model is still writing can become a document that satisfies its schema.

Here belongs when such a text is looked at, where in it the document begins, and the verdict.  Not here: how
it is read (`core.unfinished`), the schema it is judged by (`core.relax`), what follows from a verdict.

**Sound**: no text is called hopeless of which some continuation is a document that `openai.strict` reads and
the schema accepts, alone or after a closed ``<think>`` or the opening of a code fence.  Two bounds are the
exception: `MAX_BLANK` characters of white space outside a text, and `MAX_PROSE` of prose without any bracket,
for those who are known to come to the document at once.  Not sound, on purpose, is what only a repair could still
save: a wrong document with a right one behind it.

A look costs about as much as reading and judging what has come, so looks are taken at growing distances:
all together cost a small multiple of the last (`GROWTH`).  A lax syntax is not judged unless asked for: a
missing comma can be mended.
"""

from __future__ import annotations

import re
from typing import Any, Final, Self, final

import jiter

from guardproxy.core.jsonschema import Validator, why
from guardproxy.core.relax import MARK, OPEN, relax
from guardproxy.core.schema_words import shown
from guardproxy.core.unfinished import CLOSED, TEXT, UNKNOWN, Unfinished

FIRST: Final = 16
"""Characters before the first look, and between two at the least: a look at a short text takes about 10 µs."""
GROWTH: Final = 1.15
"""How much longer a long text is at the next look; all looks cost 1.15 / 0.15 = 7.7 times the last at the most."""
MAX_BLANK: Final = 256
"""Characters of white space in a row, outside a text, that are no longer taken for layout: 60 levels of it are."""
MAX_PROSE: Final = 320
"""Characters of prose without a bracket: a sentence or two, as models put before what they were asked for."""
MAX_HEFT: Final = 20
"""How many times as much work as an ordinary schema one may make that is asked again and again (`core.heft`)."""
MAX_JUDGED: Final = 128 * 1024
"""Characters of a document that is looked at; a longer one would hold the process for milliseconds a look."""

_FENCE: Final = re.compile(r"```[\w+.-]*\s*")
_VALUE: Final = ("{", "[", '"')
"""How a document begins that is judged.  ``12`` and ``the`` may be prose, which a repair looks into."""
_WRAPPED: Final = re.compile(r"\.?\x00open\b")
_GOT: Final = re.compile(r", got [^;]*\\u0000.*")
_GOT_SOME: Final = re.compile(_GOT.pattern + "|, got 0$")
"""What must not be quoted: wrappers, and the stand-in for a number that is not whole."""
_PLACE: Final = re.compile(r" at #/definitions/\w+")
_BLANK: Final = " \t\n\r\f\v\xa0\ufeff\u200b"

_THINK, _THOUGHT = "<think>", "</think>"
_LEAD, _DOCUMENT, _PROSE, _DONE, _BLIND = range(5)


@final
class Prefix:
    """A growing answer, and the schema that it has to satisfy in the end."""

    __slots__ = (
        "_blank",
        "_end",
        "_length",
        "_next",
        "_parts",
        "_reason",
        "_relaxed",
        "_start",
        "_state",
        "_strict",
        "_terse",
        "_validator",
    )

    def __init__(self, validator: Validator, relaxed: Validator, *, strict: bool, terse: bool) -> None:
        self._validator = validator
        self._relaxed = relaxed
        self._strict = strict
        self._terse = terse
        self._parts: list[str] = []
        self._length = 0
        self._next = FIRST
        self._blank = 0
        self._state = _DOCUMENT if strict else _LEAD
        self._start = 0
        self._end = Unfinished()
        self._reason: str | None = None

    @classmethod
    def of(cls, validator: Validator, *, strict: bool = False) -> Self | None:
        """What watches an answer that has to satisfy *validator*; None: this schema is given up.

        With *strict* nothing will be repaired: what stands around the document, or is no JSON, is hopeless at
        once.  Made once per schema (it compiles another one, see `core.relax`); `again` makes the next from it at
        no cost.
        """
        relaxed = relax(validator) if validator.heft <= MAX_HEFT else None
        return None if relaxed is None else cls(validator, relaxed, strict=strict, terse=True)

    def again(self, *, terse: bool | None = None) -> Self:
        """The same for another answer, from its beginning; unless *terse* prose is waited for however long it is."""
        terse = self._terse if terse is None else terse
        return type(self)(self._validator, self._relaxed, strict=self._strict, terse=terse)

    def __repr__(self) -> str:
        state = ("before the document", "in the document", "in prose", "behind the document", "not judged")[self._state]
        return f"<Prefix of {self._length} characters, {self._reason or state}>"

    @property
    def done(self) -> bool:
        """Whether a whole document that satisfies the schema has come; what follows it is not judged."""
        return self._state == _DONE

    def feed(self, delta: str) -> str | None:
        """Take what has come; None: all is possible, else why no continuation is valid: ``path: what is wrong``."""
        self._parts.append(delta)
        self._length += len(delta)
        if delta[-1:].isspace():
            kept = len(delta.rstrip())
            self._blank = len(delta) - kept + (0 if kept else self._blank)
            if self._blank > MAX_BLANK:
                return self._look()
        else:
            self._blank = 0
        return self._reason if self._length < self._next else self._look()

    def _look(self) -> str | None:
        text = "".join(self._parts)
        self._parts = [text]
        self._next = max(self._length + FIRST, int(self._length * GROWTH))
        if self._reason is None and self._state == _LEAD:
            self._begin(text)
        if self._reason is None and self._state == _PROSE:
            self._ramble(text)
        if self._reason is None and self._state == _DOCUMENT:
            self._judge(text[self._start :])
        if self._reason is None and self._state == _DONE and self._strict:
            self._follow(text[self._start :])
        if self._reason is None and self._blank > MAX_BLANK and self._state not in (_DONE, _BLIND):
            self._reason = f"(top): {self._blank} characters of white space in a row"
        return self._reason

    def _begin(self, text: str) -> None:
        """Find where the document begins, behind thoughts and the opening of a fence."""
        rest = text[self._start :].lstrip(_BLANK)
        while rest.startswith(_THINK):
            rest = rest.partition(_THOUGHT)[2].lstrip(_BLANK)
        if not rest or _THINK.startswith(rest[: len(_THINK)]):
            return
        if "```".startswith(rest[:3]):
            fence = _FENCE.match(rest)
            rest = rest[fence.end() :] if fence else ""
            if not rest:
                return
        self._start = len(text) - len(rest)
        self._state = _DOCUMENT if rest.startswith(_VALUE) else _PROSE

    def _ramble(self, text: str) -> None:
        """What came is no JSON: there may be some in it, or behind it, until it gets too long."""
        thought = text.rfind(_THOUGHT)
        if thought >= self._start and text[self._start] not in "{[":
            self._start, self._state, self._end = thought + len(_THOUGHT), _LEAD, Unfinished()
            self._begin(text)
        elif self._terse and self._length > MAX_PROSE and "{" not in text and "[" not in text:
            self._reason = f"(top): {self._length} characters and no JSON, only {shown(text[self._start :][:40])}"

    def _judge(self, text: str) -> None:
        if self._length * self._validator.heft > MAX_JUDGED or r"\u0000" in text:
            self._state = _BLIND
            return
        if not text.strip(_BLANK):
            return
        completed = self._end.complete(text)
        if completed.quoted:  # it is no layout: the next look for the sake of blanks is as far away as any other
            self._blank = -int(self._length * (GROWTH - 1))
        try:
            value = _read(completed.text.encode())
            if completed.end >= 0:
                self._finish(value, completed.end)
                return
            if not self._relaxed.is_valid(_wrap(value, completed.depth, completed.last)):
                self._reason = self._words(completed.text.encode(), completed.depth, completed.last)
        except ValueError as error:
            if self._strict or "duplicate key" in str(error):  # the one fault that nothing mends
                self._reason = f"(top): it is not valid JSON ({error})"
            self._state = _PROSE

    def _finish(self, value: Any, end: int) -> None:
        if self._validator.is_valid(value):
            self._state = _DONE
            self._start += end
        else:
            self._reason = "; ".join(why(self._validator, value))

    def _follow(self, rest: str) -> None:
        if rest := rest.strip(" \t\r\n"):
            self._reason = f"(top): {shown(rest[:40])} behind the document"

    def _words(self, text: bytes, depth: int, last: str) -> str:
        """Why it is hopeless.  An open text is to blame only where nothing else is."""
        value = _wrap(_read(text), depth, UNKNOWN if last == TEXT else last)
        if last == TEXT and self._relaxed.is_valid(value):
            value = _wrap(_read(text), depth, CLOSED)
        hidden = _GOT if last in (CLOSED, TEXT) else _GOT_SOME
        said = [
            _PLACE.sub("", hidden.sub("", _WRAPPED.sub("", line)).removeprefix("."))
            for line in why(self._relaxed, value)
        ]
        return "; ".join("(top)" + line if line.startswith(":") else line for line in dict.fromkeys(said))


def _read(text: bytes) -> Any:
    """Read JSON exactly as `openai.strict` does, which stands a floor higher; a test compares them."""
    return jiter.from_json(text, allow_inf_nan=False, cache_mode="keys", catch_duplicate_keys=True)


def _wrap(value: Any, depth: int, last: str) -> Any:
    """*value* with everything wrapped that is still growing: its *depth* outermost containers, and its *last*."""
    way: list[Any] = []
    for _ in range(depth):
        way.append(value)
        value = _last_child(value)
    made: Any = None
    if last != CLOSED:
        made = {MARK: 1} if last == UNKNOWN else {OPEN: value, MARK: 1}
    elif not depth:
        return value
    for container in reversed(way):
        if made is not None:
            container[next(reversed(container)) if type(container) is dict else -1] = made
        made = {OPEN: container, MARK: 1}
    return made


def _last_child(value: Any) -> Any:
    if not value:
        return None
    return value[next(reversed(value)) if type(value) is dict else -1]
