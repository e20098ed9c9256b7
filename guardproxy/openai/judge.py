"""Whether a text is the JSON it has to be.

Here belongs the judging of one text against one schema, and what a model is told about it.  What follows from a
verdict is the guard's business; how a text is judged that is too much work for the loop is `weighing`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.core.jsonschema import Distant, why
from guardproxy.openai.repair import repair
from guardproxy.openai.strict import finite, loads

if TYPE_CHECKING:
    from guardproxy.core.asked import Schema
    from guardproxy.core.dialect import Dialect
    from guardproxy.core.jsonschema import Validator

MOST: Final = 20
"""Sentences about one text, as many as a model may heed and a person read."""


@final
@dataclass(slots=True, frozen=True)
class Question:
    """One text that has to be judged."""

    text: str
    check: Validator | Distant | None
    """What it has to satisfy; None: any JSON object will do."""
    what: str = "it"
    """What the sentences about it begin with, in the singular."""
    aside: bool = False
    """Whether it was said beside an empty text: where it serves it is what was meant."""

    @property
    def weight(self) -> int:
        """How much work it is, in characters of an ordinary answer (`core.heft.LIGHT` is a lot)."""
        return (len(self.text) or 1) * (1 if self.check is None else self.check.heft)


@final
@dataclass(slots=True, frozen=True)
class Judged:
    """What was found out about one text."""

    problem: str = ""
    """What is wrong with it, in words that the model is told; empty: nothing."""
    parsed: bool = True
    """Whether it was JSON at all."""
    mended: str | None = None
    """The JSON that it held, where it was not JSON as a whole."""


FINE = Judged()


def texts(schema: Schema, dialect: Dialect, doc: Any, *, mend: bool) -> list[Question | None]:
    """A question for each choice of *doc* that says something, or should have."""
    if not schema.text:
        return []
    said = dialect.texts(doc)
    if schema.offers:
        said = [None if calls else text for text, calls in zip(said, dialect.calling(doc), strict=True)]
    if not (mend and "" in said):
        return [None if text is None else Question(text, schema.check) for text in said]
    pairs = zip(said, dialect.asides(doc), strict=True)
    return [
        None if text is None else Question(text or aside or "", schema.check, aside=not text and bool(aside))
        for text, aside in pairs
    ]


def arguments(schema: Schema, dialect: Dialect, doc: Any) -> list[Question | None]:
    """A question for each tool that *doc* calls; one that has declared no parameters may be given any object."""
    return [
        Question(text or "{}", schema.tools.get(name), f"what is given to the tool {name}")
        for name, text in dialect.tools(doc)
    ]


def judge(question: Question, *, mend: bool) -> Judged:
    """Hold a text against its schema; where it breaks it, look for what was meant, if *mend* allows."""
    text, check = question.text, question.check
    if type(check) is Distant:
        raise TypeError("there is no judging by a distant schema here")
    found = _verdict(text, check, question.what)
    if not found.problem:
        return Judged(mended=text) if question.aside else found
    if not mend:
        return found
    repaired = repair(text, _is_object if check is None else check.is_valid)
    # where its end was cut off, some of what was meant is missing: more room is better than a shorter answer
    return found if repaired is None or repaired.cut else Judged(mended=repaired.text)


def _verdict(text: str, check: Validator | None, what: str) -> Judged:
    try:
        data = text.encode()
        value = loads(data)
    except (ValueError, UnicodeEncodeError) as error:
        return Judged(f"{what} is not valid JSON ({error})", parsed=False)
    if not finite(data, value):
        return Judged(f"{what} is not valid JSON (a number in it is out of range)", parsed=False)
    if check is None:
        return FINE if isinstance(value, dict) else Judged(f"{what} is not a JSON object but {type(value).__name__}")
    if check.is_valid(value):
        return FINE
    lines = why(check, value, MOST + 1)
    if len(lines) > MOST:
        lines[MOST:] = ["and more of the kind"]
    return Judged(f"{what} does not satisfy the schema: " + "; ".join(lines))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
