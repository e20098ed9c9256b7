"""The benchmark of valid answers compares like with like: the same mistakes, counted alike."""

from __future__ import annotations

import json
from random import Random

import pytest

from bench import erring, valid
from bench.askers import SHAPE, problem
from guardproxy.core.jsonschema import compile as compile_schema

QUESTIONS = range(40)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_right_answer_is_valid(question):
    """It satisfies the schema as it is, and has the length that the page tells."""
    text = erring.right(question)
    assert problem(text) == ""
    assert compile_schema(SHAPE).is_valid(json.loads(text))
    assert 120 < len(erring.tokens(text)) < 220


@pytest.mark.parametrize("way", erring.WAYS)
def test_each_way_is_wrong(way):
    """Whatever is thrown, no wrong answer is valid as it stands."""
    for question in QUESTIONS:
        text = erring.WAYS[way](erring.right(question), Random(question))
        assert problem(text), (question, text)


def test_everybody_meets_the_same_mistakes():
    """What is said depends on the question and the try alone, and is wrong as often as it should be."""
    assert erring.said(3, 1) == erring.said(3, 1)
    wrong = sum(bool(problem(erring.said(question, 1))) for question in range(1_000))
    assert 0.25 < wrong / 1_000 < 0.35
    assert not any(problem(erring.said(question, 1, rate=0.0)) for question in QUESTIONS)


def test_the_table():
    """Shares are those of the loop that asks at the end."""
    floor = sum(len(erring.tokens(erring.right(question))) for question in range(2))
    rows = {
        valid.OURS: valid.row((2, [1.0, 2.0]), floor + 20, 2),
        valid.NAIVE: valid.row((2, [2.0, 4.0]), floor + 100, 2),
    }
    assert rows[valid.OURS].wasted == 10
    told = valid.rows_of(rows, 2)
    assert "| **guardproxy** | 2 of 2 |" in told
    assert "| 10.0 | 0.20 | 2.00 | 2.00 | 0.50 |" in told
