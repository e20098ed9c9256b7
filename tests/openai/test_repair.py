"""A document that is in an answer is found; a choice between two is never made, and nothing is made up."""

import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.openai.repair import MAX_DOCUMENTS, MAX_TEXT, from_reasoning, repair
from tests.core.schemas import document, spelled

DOC = '{"a": 1.50, "b": ["x", null]}'


def is_object(value):
    return isinstance(value, dict)


@pytest.mark.parametrize(
    "text, how",
    [
        ("\ufeff" + DOC, "prose"),
        ("\u00a0\n" + DOC + "\u200b", "prose"),
        ("```json\n" + DOC + "\n```", "fence"),
        ("Sure!\n\n```\n" + DOC + "\n```\nOf {} nothing is said.", "fence"),
        ("```json\n" + DOC, "fence"),
        ("```js\nlet a = 1\n```\n```json\n" + DOC + "\n```", "fence"),
        ("  ```json\n  " + DOC + "\n  ```", "fence"),
        ('<think>maybe {"a": 2}?</think>\n\n' + DOC, "think"),
        ('No opening, but {"a": 2}.</think>' + DOC, "think"),
        ("<think>a</think>Or<think>{}</think>" + DOC, "think"),
        ("[THINK]{}[/THINK]" + DOC, "think"),
        ("<think>{}</think>```json\n" + DOC + "\n```", "fence"),
        ("Here it is: " + DOC + " Anything else?", "prose"),
        ("Note: ```json " + DOC + "``` as asked", "prose"),
        ("<|channel|>final<|message|>" + DOC + "<|end|>", "prose"),
        ("In {braces}, [1] and [see]: " + DOC + " as in [2].", "prose"),
        (DOC + "\n" + DOC, "prose"),
        (DOC + "}", "prose"),
        ('{"template": <value>} becomes ' + DOC, "prose"),
    ],
)  # fmt: skip
def test_what_stands_around_a_document_is_cut_off_and_the_document_left_as_it_was(text, how):
    assert repair(text, is_object) == (DOC, how, False)


@pytest.mark.parametrize(
    "text, found",
    [
        ("So: {'a': True,} ok", ('{"a": true}', "syntax", False)),
        ("```json\n{'a': 1}\n```", ('{"a": 1}', "syntax", False)),
        ('```json\n{"a": 1\n```', ('{"a": 1\n}', "closed", False)),
        ('Here: {"a": ["x', ('{"a": ["x"]}', "closed", True)),
    ],
)
def test_the_deepest_cut_is_told(text, found):
    assert repair(text, is_object) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "   ", "Sorry.", "[1, 2]", "null", "{", "}", 'text "quoted" {', "<think>" + DOC,
        "<think>" + DOC + "</think>Sorry.",
        DOC + ' no: {"a": 2}',
        DOC + ' no: {"a": oops}',
        DOC + ' no: {"a": {"b": 1}, oops: [',
        '{"a": {"b": 1}, "c": oops}',
        '{"a": [{"b": 1}, {"c": 2}',
        '```\n{"a": 1}\n```\n```\n{"a": 2}\n```',
        '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": 1e999}', '{"a": "\\ud800"}', '{"a": "\ud800"}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        " ".join([DOC] * (MAX_DOCUMENTS + 1)),
        DOC + " " * MAX_TEXT,
    ],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_there_is_no_repair_where_there_is_nothing_or_no_telling_which(text):
    if text == '{"a": [{"b": 1}, {"c": 2}':
        assert repair(text, lambda value: value in ({"b": 1}, {"c": 2})) is None
    else:
        assert repair(text, is_object) is None


def test_only_what_is_accepted_counts():
    text = 'Of {"x": 1} and [1, 2] I made {"a": 1}; see [2].'
    assert repair(text, lambda value: "a" in value) == ('{"a": 1}', "prose", False)
    assert repair('I made {"a": 1} and not {"x": 1}', lambda value: "a" in value) is None
    assert repair("```\n42\n```", lambda value: value == 42) == ("42", "fence", False)
    assert repair('<think>…</think> "yes"', lambda value: value == "yes") == ('"yes"', "think", False)
    assert repair("It is 42.", lambda value: value == 42) is None


def test_true_is_not_one():
    assert repair('{"a": 1} or {"a": true}', is_object) is None
    assert repair('{"a": 1, "b": 2} or {"b": 2, "a": 1}', is_object) == ('{"b": 2, "a": 1}', "prose", False)


def test_a_judge_that_refuses_to_judge_accepts_nothing():
    def judge(_value):
        raise ValueError

    assert repair("x " + DOC, judge) is None


@given(st.integers(0, 1 << 32), st.text("ab .,'`!\n<>/#", max_size=30), st.text("ab .,'`!\n<>/#", max_size=30))
def test_a_document_in_prose_comes_out_byte_for_byte(seed, before, after):
    dice = random.Random(seed)
    value = {"key": document(dice, 3)}
    text = spelled(value, dice)
    found = repair(before + text + after, lambda one: repr(one) == repr(value) or one == value)
    assert found is not None
    assert found.text == text
    assert found.how in ("prose", "fence")


@given(st.text("{}[]\":,`\\ 1.-etrufalsn</think>\n'", max_size=80))
def test_whatever_comes_is_either_accepted_json_or_nothing(text):
    found = repair(text, is_object)
    assert found is None or is_object(json.loads(found.text))


@pytest.mark.parametrize(
    "text",
    [
        "{" * 100_000, "[" * 100_000, '"' * 100_000, '{"' * 50_000, "{'" * 50_000, '{"a":' * 50_000, "[1] " * 100_000,
        '{"a": "' + '\\"' * 100_000, '{"a": "' + "\\" * 100_001, '{"a": "' + 'x"y ' * 40_000 + '"}', '{"a" ' * 50_000,
        "{ " * 100_000, "[1" + "," * 100_000, "{" + "#\n" * 60_000, '{"a": /*' * 20_000, "```\n{\n" * 50_000,
        "</think>" * 50_000, "<think>" * 50_000, "[1, oops] " * 30_000, '{"a": oops} ' * 30_000,
        "{'a': [" + "'hello', " * 100_000 + "1]}", '{"a": "x"' + "\n" * 100_000,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_no_text_takes_long(text):
    """Under 50 ms each; half a second is for machines that do something else at the time."""
    begun = time.thread_time()
    repair(text, is_object)
    assert time.thread_time() - begun < 0.5


@pytest.mark.parametrize(
    "message, text",
    [
        ({"content": None, "reasoning_content": DOC}, DOC),
        ({"content": " \n", "reasoning": "\n" + DOC + "\n"}, DOC),
        ({"reasoning_content": "So it is.</think>\n" + DOC}, DOC),
        (
            {"content": "", "reasoning_content": "", "reasoning": "```json\n" + DOC + "\n```"},
            "```json\n" + DOC + "\n```",
        ),
        ({"content": "x", "reasoning_content": DOC}, None),
        ({"content": None, "reasoning_content": "I could say " + DOC}, None),
        ({"content": None, "reasoning_content": DOC + " or not"}, None),
        ({"content": None, "reasoning_content": DOC, "tool_calls": [{}]}, None),
        ({"content": None, "reasoning_content": DOC, "refusal": "no"}, None),
        ({"content": [{"type": "text", "text": ""}], "reasoning_content": 5}, None),
        ({"content": None, "reasoning": {"text": DOC}}, None),
        ({}, None),
    ],
)
def test_an_answer_in_the_reasoning_field_is_taken_only_if_it_is_nothing_else(message, text):
    assert from_reasoning(message) == text
