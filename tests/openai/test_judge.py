"""A text is the JSON that it has to be, or there are words for why not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.asked import Schema
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.openai.judge import FINE, Judged, Question, arguments, judge, texts
from guardproxy.openai.strict import finite, is_finite, loads

POINT = compile_schema({"type": "object", "required": ["x"], "additionalProperties": {"type": "number"}})
FENCED = '```json\n{"x": 1}\n```'


def doc(*contents, tools=(), **more):
    calls = [{"function": {"name": name, "arguments": given}} for name, given in tools]
    return {"choices": [{"message": {"content": one, "tool_calls": calls, **more}} for one in contents]}


@pytest.mark.parametrize("mend", [True, False])
def test_right_as_it_is(mend):
    """Nothing is to be said, and nothing to be changed."""
    assert judge(Question('{"x": 1}', POINT), mend=mend) is FINE
    assert judge(Question("{}", None), mend=mend) is FINE


def test_mended_only_where_that_is_allowed():
    """What can be mended without a guess is; where it may not be, it is wrong."""
    assert judge(Question(FENCED, POINT), mend=True) == Judged(mended='{"x": 1}')
    assert judge(Question(FENCED, POINT), mend=False).parsed is False


@pytest.mark.parametrize(
    "text, problem, parsed",
    [
        ("{", "is not valid JSON", False),
        ('{"x": 1, "x": 1}', "is not valid JSON", False),
        ('{"x": NaN}', "is not valid JSON", False),
        ('{"x": Infinity}', "is not valid JSON", False),
        ('{"x": "\\ud800"}', "is not valid JSON", False),
        ('{"x": "\ud800"}', "is not valid JSON", False),
        ('{"x": 1e999}', "out of range", False),
        ("[" * 100_000, "is not valid JSON", False),
        ("[" * 100_000 + "]" * 100_000, "is not valid JSON", False),
        ('{"x": ' + "9" * 5_000 + "}", "is not valid JSON", False),
        ('{"x": "1"}', "does not satisfy the schema: x: expected a number", True),
        ("3", "does not satisfy the schema", True),
        ("", "is not valid JSON", False),
    ],
)
def test_wrong(text, problem, parsed):
    """Each of what strict readers do not take is wrong, with words, and never an exception."""
    found = judge(Question(text, POINT, "the thing"), mend=True)
    assert (found.parsed, found.mended) == (parsed, None)
    assert found.problem.startswith("the thing ")
    assert problem in found.problem


def test_any_object_is_an_object():
    assert "not a JSON object but list" in judge(Question("[]", None), mend=False).problem


def test_every_choice_and_every_tool():
    """A choice that says nothing by design is not asked about; a tool without parameters may be given any object."""
    schema = Schema("s", POINT, b"", tools={"f": POINT})
    answer = doc(None, tools=[("f", ""), ("g", "x")])
    assert texts(schema, CHAT, answer, mend=True) == [None]
    assert arguments(schema, CHAT, answer) == [
        Question("{}", POINT, "what is given to the tool f"),
        Question("x", None, "what is given to the tool g"),
    ]
    assert texts(Schema("s", None, b"", text=False), CHAT, answer, mend=True) == []
    assert arguments(Schema("s", POINT, b""), CHAT, doc("x")) == []


@pytest.mark.parametrize("mend", [True, False])
def test_words_beside_a_call(mend):
    """Where tools are offered what is said beside a call of one is not the answer yet; where none are it is."""
    beside, alone = doc("I will look", tools=[("f", '{"x": 1}')]), doc("I will look")
    both = {"choices": [*beside["choices"], *alone["choices"]]}
    offering = Schema("s", POINT, b"", tools={"f": POINT}, offers=True)
    said = Question("I will look", POINT)
    assert texts(offering, CHAT, both, mend=mend) == [None, said]
    assert texts(Schema("s", POINT, b""), CHAT, both, mend=mend) == [said, said]
    assert len(arguments(offering, CHAT, both)) == 1


def test_what_was_said_beside_an_empty_text():
    """JSON in the reasoning field is judged in place of an empty content, if mending is allowed, and counts as that."""
    schema = Schema("s", POINT, b"")
    answer = doc("", reasoning_content='{"x": 1}')
    (asked,) = texts(schema, CHAT, answer, mend=True)
    assert asked == Question('{"x": 1}', POINT, aside=True)
    assert judge(asked, mend=True) == Judged(mended='{"x": 1}')
    assert texts(schema, CHAT, answer, mend=False) == [Question("", POINT)]


def test_weight():
    """How much work it is: the text, times what the schema makes of it."""
    heavy = compile_schema({"items": {"pattern": r"^(a|aa)+\1$"}})
    assert Question("12345", None).weight == 5
    assert Question("12345", heavy).weight == 5 * heavy.heft


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just("null"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("null"), inner),
)


@given(JSON, st.booleans())
def test_infinity_is_found(value, ascii_only):
    """Whether every number is one that JSON can say is told from how it is written, and never wrongly."""
    text = json.dumps(value, ensure_ascii=ascii_only).replace("Infinity", "1e999")
    try:
        data = text.encode()
        read = loads(data)
    except ValueError:
        return
    assert finite(data, read) == is_finite(read)


def test_infinity_between_nulls():
    """Also where null stands beside it, is spelled with an escape, or a number is beyond 64 bits."""
    for text, there in [
        (r'["nu\u006cl", 1]', True),
        (r'["nu\u006cl", 1e999]', False),
        ("[null, -1e999]", False),
        ("[null, 123456789012345678901234567890]", True),
        ("[123456789012345678901234567890, 1e999]", False),
    ]:
        assert finite(text.encode(), loads(text.encode())) is there


@pytest.mark.parametrize("wrong, said", [(3, 3), (20, 20), (30, 20)])
def test_all_that_is_wrong_is_said(wrong, said):
    """Once each, up to a number that a model can still heed; and that there is more."""
    found = judge(Question(json.dumps({f"k{n}": "x" for n in range(wrong)} | {"x": 1}), POINT), mend=False)
    assert found.problem.count("expected a number") == said
    assert found.problem.endswith("and more of the kind") is (wrong > said)
