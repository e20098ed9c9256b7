"""The beginning of a readable text can be completed to a readable one, whatever it ends in."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.unfinished import Unfinished
from guardproxy.openai.strict import loads
from tests.core.schemas import document, spelled


@pytest.mark.parametrize(
    "text, completed, depth, last",
    [
        ("{", "{}", 1, "closed"),
        ('{"a', "{}", 1, "closed"),
        ('{"a\\"', "{}", 1, "closed"),
        ('{"a"', '{"a":0}', 1, "unknown"),
        ('{"a" :', '{"a" :0}', 1, "unknown"),
        ('{"a": -1.', '{"a": 0}', 1, "number"),
        ('{"a": 12 ', '{"a": 12 }', 1, "closed"),
        ('{"a": 12,', '{"a": 12}', 1, "closed"),
        ('{"a": 12, "b', '{"a": 12}', 1, "closed"),
        ('{"a": t', '{"a": true}', 1, "closed"),
        ('{"a": fals', '{"a": false}', 1, "closed"),
        ('{"a": "x', '{"a": "x"}', 1, "text"),
        ('{"a": "x\\', '{"a": "x"}', 1, "text"),
        ('{"a": "x\\\\', '{"a": "x\\\\"}', 1, "text"),
        ('{"a": "x\\u00', '{"a": "x"}', 1, "text"),
        ('{"a": "x\\ud83d', '{"a": "x"}', 1, "text"),
        ('{"a": "x\\ud83d\\ude0', '{"a": "x"}', 1, "text"),
        ('{"a": "x\\ud83d\\ude00', '{"a": "x\\ud83d\\ude00"}', 1, "text"),
        ('{"a": "x\\\\ud83d', '{"a": "x\\\\ud83d"}', 1, "text"),
        ('["}", [{"a": [', '["}", [{"a": []}]]', 4, "closed"),
        ("[ ", "[ ]", 1, "closed"),
        ("[[1],", "[[1]]", 1, "closed"),
        ("12", "0", 0, "number"),
        ('"a', '"a"', 0, "text"),
        ("nul", "null", 0, "closed"),
    ],
)
def test_what_is_added_depends_on_the_end(text, completed, depth, last):
    made = Unfinished().complete(text)
    assert (made.text, made.depth, made.last, made.end) == (completed, depth, last, -1)
    loads(made.text.encode())


@pytest.mark.parametrize("text", ['{"a": [1]}', "[]", '"a"', '{"a": "]}"}'])
def test_the_end_of_a_document_is_found(text):
    assert Unfinished().complete(text).end == len(text)
    assert text[0] == '"' or Unfinished().complete(text + " and [more]").end == len(text)


@given(st.integers(0, 1 << 32))
def test_each_beginning_is_readable_however_it_was_cut(seed):
    """Looking at a text in pieces gives what looking at it whole gives, and never a text that cannot be read."""
    dice = random.Random(seed)
    value = document(dice, 3)
    text = spelled(value, dice)
    pieces, end = Unfinished(), 0
    while end < len(text):
        end = min(len(text), end + dice.randrange(1, 9))
        made = pieces.complete(text[:end])
        assert made == Unfinished().complete(text[:end])
        loads(made.text.encode())
        if made.end >= 0:
            assert json.loads(text[: made.end]) == value
            break


@given(st.text('{}[]",:\\ 1.-etrufalsnx\n$', max_size=40), st.lists(st.integers(0, 40)))
def test_no_text_is_too_odd(text, cuts):
    pieces = Unfinished()
    for cut in sorted(cuts):
        pieces.complete(text[:cut])
