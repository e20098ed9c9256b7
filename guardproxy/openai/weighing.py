"""Judging texts in another process: the questions and answers that go between the two, as bytes.

Here belongs what is written and read on either side, and the judging on the far one.  The process itself, its limits
and its end are `net.scales`'s.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, final

from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai.judge import Judged, Question, judge
from guardproxy.openai.strict import dumps, exact, loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.jsonschema import Validator

KEPT = 32
"""Schemas that the far side keeps compiled."""
ASKED: Final = struct.Struct("!dI")
"""What comes before a question: the seconds it may take, and its length."""
SAID: Final = struct.Struct("!I")
"""What comes before an answer: its length."""


def ask(questions: Sequence[Question], *, mend: bool) -> bytes:
    """Write *questions* down."""
    asked = [
        [one.text, None if one.check is None else exact(one.check.schema).decode(), one.what, one.aside]
        for one in questions
    ]
    return dumps([mend, asked])


def read(answer: bytes) -> list[Judged]:
    """What was found out, in the order of the questions."""
    return [Judged(problem, parsed, mended) for problem, parsed, mended in loads(answer)]


@final
class Weighing:
    """The far side."""

    __slots__ = ("_validators",)

    def __init__(self) -> None:
        self._validators: OrderedDict[str, Validator] = OrderedDict()

    def __call__(self, asked: bytes) -> bytes:
        """Answer what `ask` has written."""
        mend, questions = loads(asked)
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
            found = self._validators[schema] = compile_schema(loads(schema.encode()))
            if len(self._validators) > KEPT:
                self._validators.popitem(last=False)
        return found
