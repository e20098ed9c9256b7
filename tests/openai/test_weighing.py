"""What is judged in another process is judged as it would be here."""

from __future__ import annotations

from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai import weighing
from guardproxy.openai.judge import Question, judge
from guardproxy.openai.weighing import KEPT, Weighing

HUGE = compile_schema({"properties": {"x": {"maximum": 10**30}}})


def test_there_and_back():
    """Each finding comes back as it was made, whatever is in the text and in the schema."""
    questions = [
        Question('{"x": 1}', HUGE),
        Question('{"x": 1e31}', HUGE, "what is given to the tool ü"),
        Question("```\n{}\n```", None),
        Question('{"x": 3}', HUGE, aside=True),
        Question("\N{SNOWMAN}\x00", None),
    ]
    for mend in (True, False):
        said = Weighing()(weighing.ask(questions, mend=mend))
        assert weighing.read(said) == [judge(one, mend=mend) for one in questions]


def test_schemas_are_kept_for_a_while():
    """The last schemas stay compiled, and no more than those."""
    far = Weighing()
    for number in range(KEPT + 5):
        far(weighing.ask([Question("1", compile_schema({"const": number}))], mend=False))
    assert len(far._validators) == KEPT
