"""What is judged in another process is judged as it would be here."""

from __future__ import annotations

import pytest

from guardproxy.core.heft import LIGHT
from guardproxy.core.jsonschema import Distant
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai import weighing
from guardproxy.openai.judge import Question, judge
from guardproxy.openai.weighing import KEPT, KEPT_CHARACTERS, Weighing

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


def test_what_is_found_out_about_schemas():
    """For each one, in their order: how much work it makes, or why it is none and where."""
    found = weighing.read_about(
        Weighing()(weighing.ask_about([b'{"type":"string","pattern":"a{7}"}', b'{"items":{"type":3}}', b"true", b"[]"]))
    )
    assert found[0] == weighing.Found(1, 15)
    assert (found[1].heft, found[1].place, found[1].code) == (0, "/items/type", "invalid_schema")
    assert found[2] == weighing.Found(1)
    assert "object, true or false" in found[3].reason


def test_by_a_distant_schema_it_is_judged_there_alone():
    """Whatever the length of the text: its schema is not ready here."""
    distant = Distant(b'{"type":"object"}')
    for text in ("", "[]"):
        question = Question(text, distant)
        assert question.weight > LIGHT
        assert weighing.read(Weighing()(weighing.ask([question], mend=True)))[0].problem
        with pytest.raises(TypeError):
            judge(question, mend=True)


def test_large_schemas_do_not_fill_the_memory():
    """They are kept within a bound on their size."""
    far = Weighing()
    for number in range(4):
        schema = Distant(b'{"const":"%d%s"}' % (number, b"x" * (KEPT_CHARACTERS // 2 - 100)))
        far(weighing.ask([Question("1", schema)], mend=False))
    assert len(far._validators) == 2


def test_schemas_are_kept_for_a_while():
    """The last schemas stay compiled, and no more than those."""
    far = Weighing()
    for number in range(KEPT + 5):
        far(weighing.ask([Question("1", compile_schema({"const": number}))], mend=False))
    assert len(far._validators) == KEPT
