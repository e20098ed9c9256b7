"""Whether a text is the JSON it has to be.

Here belongs the judging of one text against one schema, and what a model is told about it.  What follows from a
verdict is the guard's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.jsonschema import why
from guardproxy.openai.repair import repair
from guardproxy.openai.strict import is_finite, loads

if TYPE_CHECKING:
    from guardproxy.core.values import Schema


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


def judge_text(text: str, schema: Schema, *, mend: bool) -> Judged:
    """Hold *text* against *schema*; where it breaks it, look for what was meant, if *mend* allows."""
    return _judge(text, schema.check, "it", mend=mend)


def judge_aside(text: str, schema: Schema) -> Judged:
    """Hold against *schema* what was said beside an empty text: where it serves, it is what was meant."""
    found = judge_text(text, schema, mend=True)
    return Judged(mended=text) if found is FINE else found


def judge_arguments(name: str, text: str, schema: Schema, *, mend: bool) -> Judged:
    """Hold the arguments of the tool *name* against its parameters, where it has declared any."""
    if name not in schema.tools:
        return FINE
    return _judge(text or "{}", schema.tools[name], f"what is given to the tool {name}", mend=mend)


def _judge(text: str, check: Any, what: str, *, mend: bool) -> Judged:
    found = _verdict(text, check, what)
    if not (mend and found.problem):
        return found
    repaired = repair(text, _is_object if check is None else check.is_valid)
    # where its end was cut off, some of what was meant is missing: more room is better than a shorter answer
    return found if repaired is None or repaired.cut else Judged(mended=repaired.text)


def _verdict(text: str, check: Any, what: str) -> Judged:
    """*what* is the subject of the sentences, in the singular."""
    try:
        value = loads(text.encode())
    except (ValueError, UnicodeEncodeError) as error:
        return Judged(f"{what} is not valid JSON ({error})", parsed=False)
    if not is_finite(value):
        return Judged(f"{what} is not valid JSON (a number in it is out of range)", parsed=False)
    if check is None:
        return FINE if isinstance(value, dict) else Judged(f"{what} is not a JSON object but {type(value).__name__}")
    if check.is_valid(value):
        return FINE
    return Judged(f"{what} does not satisfy the schema: " + "; ".join(why(check, value)))


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
