"""What a call needs, and what an upstream says that it can do."""

from __future__ import annotations

import re

import pytest

from guardproxy.openai.needs import PATTERN, check, needs, read, tokens

SHOWS = {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]}


@pytest.mark.parametrize(
    "doc, found",
    [
        ({}, set()),
        ({"tools": [], "functions": None, "messages": None}, set()),
        ({"tools": [{}]}, {"tools"}),
        ({"functions": [{}]}, {"tools"}),
        ({"response_format": {"type": "json_object"}}, set()),
        ({"response_format": {"type": "json_schema"}, "tools": [1]}, {"schema", "tools"}),
        ({"format": "json"}, set()),
        ({"format": {"type": "object"}}, {"schema"}),
        ({"messages": [{"content": "text"}, 3, {"content": [3, {"type": "text"}]}]}, set()),
        ({"text": {"format": {"type": "json_schema"}}}, {"schema"}),
        ({"text": {"format": {"type": "text"}}, "output_config": 3}, set()),
        ({"output_config": {"format": {"type": "json_schema"}}}, {"schema"}),
        ({"output_format": {"type": "json_schema"}}, {"schema"}),
        ({"messages": [SHOWS]}, {"vision"}),
        ({"messages": [{"content": "x", "images": ["aGk="]}]}, {"vision"}),
        ({"input": [{"content": [{"type": "input_image"}]}]}, {"vision"}),
    ],
)
def test_what_a_call_needs(doc, found):
    assert needs(doc) == found
    assert needs(doc, schema=True) == found | {"schema"}


@pytest.mark.parametrize(
    "doc, size, about",
    [
        ({}, 400, 100),
        ({"max_tokens": 50}, 400, 150),
        ({"max_tokens": True}, 4, 1),
        ({"max_completion_tokens": -1}, 4, 1),
    ],
)
def test_about_how_many_tokens(doc, size, about):
    assert tokens(doc, size) == about


def test_what_an_upstream_can_do():
    """Who lists nothing can do everything; room alone says nothing about what else it can."""
    assert read([]) == (None, 0)
    assert read(["context=8192"]) == (None, 8192)
    assert read(["text", "tools", "context=4096"]) == (frozenset(("text", "tools")), 4096)


@pytest.mark.parametrize(
    "word, good",
    [
        ("text", True),
        ("vision", True),
        ("context=1", True),
        ("context=010", True),
        ("context=0", False),
        ("context=", False),
        ("context=-5", False),
        ("context=٣", False),
        ("tool", False),
    ],
)
def test_the_words(word, good):
    """The check and the pattern for editors agree."""
    assert bool(re.search(PATTERN, word)) is good
    if good:
        check(word)
    else:
        with pytest.raises(ValueError, match="is none of text"):
            check(word)
