"""What is asked of another process, as bytes: to judge texts, or to find out whether schemas are some.

Here belongs what is written and read on either side, and the judging on the far one.  The process itself, its limits
and its end are `net.scales`'s.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.core.jsonschema import Bound, Distant, InvalidSchema, measured
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai.judge import Judged, Question, judge
from guardproxy.openai.strict import dumps, exact, loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.jsonschema import Validator

KEPT = 32
"""Schemas that the far side keeps compiled."""
KEPT_CHARACTERS: Final = 2 << 20
"""What they may be long together, within the memory that such a process may take."""
_BOUNDED: Final = Bound("", 1)
"""Whoever asks has found out already that a schema is not too much."""
ASKED: Final = struct.Struct("!dI")
"""What comes before a question: the seconds of the processor's time that it may take, and its length."""
BY_THE_CLOCK: Final = 4
"""How many times as many seconds a question may take by the clock as of the processor's time: machines are shared."""
SAID: Final = struct.Struct("!I")
"""What comes before an answer: its length."""


def ask(questions: Sequence[Question], *, mend: bool) -> bytes:
    """Write *questions* down."""
    return dumps([mend, [[one.text, _written(one.check), one.what, one.aside] for one in questions]])


def _written(check: Validator | Distant | None) -> str | None:
    if check is None:
        return None
    return (check.text if type(check) is Distant else exact(check.schema)).decode()


def read(answer: bytes) -> list[Judged]:
    """What was found out, in the order of the questions."""
    return [Judged(problem, parsed, mended) for problem, parsed, mended in loads(answer)]


@final
@dataclass(slots=True, frozen=True)
class Found:
    """What was found out about a schema."""

    heft: int = 0
    """How many times as much work as an ordinary one it makes; 0: it is none."""
    turns: int = 0
    """Steps to which its patterns are written out."""
    place: str = ""
    """Where it is none: where in it, why, and the code of the error."""
    reason: str = ""
    code: str = ""


def ask_about(schemas: Sequence[bytes]) -> bytes:
    """Write down the question whether *schemas* are some."""
    return b'{"schemas":[' + b",".join(schemas) + b"]}"


def read_about(answer: bytes) -> list[Found]:
    """What was found out about each of them."""
    return [Found(*one) for one in loads(answer)]


@final
class Weighing:
    """The far side."""

    __slots__ = ("_characters", "_validators")

    def __init__(self) -> None:
        self._validators: OrderedDict[str, Validator] = OrderedDict()
        self._characters = 0

    def __call__(self, asked: bytes) -> bytes:
        """Answer what `ask` or `ask_about` has written."""
        question = loads(asked)
        if type(question) is dict:
            found = [_looked_at(schema) for schema in question["schemas"]]
            return dumps([[one.heft, one.turns, one.place, one.reason, one.code] for one in found])
        return self._judged(*question)

    def _judged(self, mend: bool, questions: list[Any]) -> bytes:
        found = [
            judge(Question(text, self._validator(schema), what, aside), mend=mend)
            for text, schema, what, aside in questions
        ]
        return dumps([[one.problem, one.parsed, one.mended] for one in found])

    def _validator(self, schema: str | None) -> Validator | None:
        if schema is None:
            return None
        found = self._validators.get(schema)
        if found is None:
            found = self._validators[schema] = compile_schema(loads(schema.encode()), _BOUNDED, thorough=True)
            self._characters += len(schema)
            while len(self._validators) > KEPT or (self._characters > KEPT_CHARACTERS and len(self._validators) > 1):
                self._characters -= len(self._validators.popitem(last=False)[0])
        return found


def _looked_at(schema: Any) -> Found:
    try:
        bound = measured(schema)
        compile_schema(schema, bound)
    except InvalidSchema as wrong:
        return Found(place=wrong.place, reason=wrong.reason, code=wrong.code)
    return Found(bound.heft, bound.turns)
