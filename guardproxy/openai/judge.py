"""Whether a text is the JSON it has to be.

Here belongs the judging of one text against one schema, and what a model is told about it.  What follows from a
verdict is the guard's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.jsonschema import why
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


FINE = Judged()


def judge_text(text: str, schema: Schema) -> Judged:
    """Hold *text* against *schema*."""
    return _judge(text, schema.check, "it")


def judge_arguments(name: str, text: str, schema: Schema) -> Judged:
    """Hold the arguments of the tool *name* against its parameters, where it has declared any."""
    if name not in schema.tools:
        return FINE
    return _judge(text or "{}", schema.tools[name], f"what is given to the tool {name}")


def _judge(text: str, check: Any, what: str) -> Judged:
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
