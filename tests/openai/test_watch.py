"""What is written is read along: the text of each choice, and what each tool is given."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import Prefix
from guardproxy.dialects.anthropic import SPEC as ANTHROPIC
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.dialects.responses import SPEC as RESPONSES
from guardproxy.openai.watch import Reading
from tests.core.public import published, spoiled

POINT = compile_schema(
    {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False}
)
WRONG = '{"x": "and so on and so on and so on and so on"}'
RIGHT = '{"x": 1234567}'


def chat(calls, size=5):
    """The events of a stream in which tools are called, one piece of each after the other."""
    for at, (name, _) in enumerate(calls):
        function = {"name": name, "arguments": ""}
        yield {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": at, "id": "c", "function": function}]}}]}
    longest = max(len(text) for _, text in calls)
    for start in range(0, longest, size):
        for at, (_, text) in enumerate(calls):
            if piece := text[start : start + size]:
                delta = {"tool_calls": [{"index": at, "function": {"arguments": piece}}]}
                yield {"choices": [{"index": 0, "delta": delta}]}


def responses(calls, size=5):
    for at, (name, text) in enumerate(calls):
        item = {"type": "function_call", "id": f"fc_{at}", "name": name, "arguments": ""}
        yield {"type": "response.output_item.added", "output_index": at, "item": item}
        for start in range(0, len(text), size):
            piece = text[start : start + size]
            yield {"type": "response.function_call_arguments.delta", "item_id": f"fc_{at}", "delta": piece}


def anthropic(calls, size=5):
    for at, (name, text) in enumerate(calls):
        block = {"type": "tool_use", "id": "t", "name": name, "input": {}}
        yield {"type": "content_block_start", "index": at, "content_block": block}
        for start in range(0, len(text), size):
            delta = {"type": "input_json_delta", "partial_json": text[start : start + size]}
            yield {"type": "content_block_delta", "index": at, "delta": delta}


WAYS = [(CHAT, chat), (RESPONSES, responses), (ANTHROPIC, anthropic)]


def read(dialect, events, tools, **how):
    reading = Reading(dialect, None, tools, **how)
    for event in events:
        if (reason := reading(event)) is not None:
            return reason
    return None


@pytest.mark.parametrize("dialect, events", WAYS)
def test_arguments_that_can_no_longer_be_right(dialect, events):
    """Of whichever of several calls; it says which tool, and what was wrong."""
    reason = read(dialect, events([("f", RIGHT), ("g", WRONG)]), {"f": POINT, "g": POINT})
    assert reason is not None
    assert reason.startswith("what is given to the tool g: x: expected a whole number")
    assert read(dialect, events([("f", RIGHT), ("g", RIGHT)]), {"f": POINT, "g": POINT}) is None


@pytest.mark.parametrize("dialect, events", WAYS)
def test_what_is_not_judged_is_not_read(dialect, events):
    """A tool that has declared nothing may be given anything; so may one that is named anew on its way."""
    assert read(dialect, events([("h", WRONG)]), {"f": POINT}) is None
    assert read(dialect, [*events([("h", "{")]), *events([("f", WRONG)])], {"f": POINT}) is None


@pytest.mark.parametrize("dialect, _", WAYS)
@pytest.mark.parametrize(
    "chunk",
    [
        None,
        [],
        {},
        {"choices": 3},
        {"choices": [3, {"delta": 3}, {"delta": {"tool_calls": 3}}, {"delta": {"tool_calls": [3, {"function": 3}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": WRONG}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": 3, "arguments": {}}}]}}]},
        {"choices": [{"index": {}, "delta": {"tool_calls": [{"index": 0, "function": {"name": "h"}}]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": {}, "function": {"name": "f", "arguments": WRONG}}]}}]},
        {"type": "response.output_item.added", "item": {"type": "function_call", "id": [], "name": "h"}},
        {"type": "content_block_start", "index": {}, "content_block": {"type": "tool_use", "name": "h"}},
        {"type": "response.output_item.added", "item": 3},
        {"type": "response.output_item.added", "item": {"type": "message", "id": "m"}},
        {"type": "response.function_call_arguments.delta", "item_id": "?", "delta": WRONG},
        {"type": "response.function_call_arguments.delta", "delta": 3},
        {"type": "content_block_start", "content_block": 3},
        {"type": "content_block_start", "content_block": {"type": "tool_use", "name": 3}},
        {"type": "content_block_delta", "delta": 3},
        {"type": "content_block_delta", "index": 7, "delta": {"partial_json": WRONG}},
    ],
)
def test_odd_events(dialect, _, chunk):
    """Whatever an engine sends, nobody stumbles, and nothing is hung up on that cannot be told."""
    assert read(dialect, [chunk], {"f": POINT}) is None


def test_text_and_tools_are_read_along_together():
    """Each by its own schema."""
    first = Prefix.of(POINT)
    reading = Reading(CHAT, first, {"f": POINT})
    assert [reading(event) for event in chat([("f", RIGHT)])] == [None] * 4
    assert reading({"choices": [{"index": 1, "delta": {"content": RIGHT}}]}) is None
    reason = reading({"choices": [{"index": 0, "delta": {"content": WRONG}}]})
    assert reason is not None
    assert reason.startswith("x: expected a whole number")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_no_valid_arguments_are_hung_up_on(seed):
    """Property: whatever pieces they come in, however many calls at once, in every language of events."""
    dice = random.Random(seed)
    schema, value = published(dice)
    validator = compile_schema(schema)
    text = json.dumps(value, ensure_ascii=dice.random() < 0.5, indent=dice.choice([None, 1]))
    if dice.random() < 0.2:
        text = f"```json\n{text}\n```"
    if not validator.is_valid(value):
        return
    calls = [("f", text)] * dice.randint(1, 3)
    for dialect, events in WAYS:
        assert read(dialect, events(calls, dice.randint(1, 9)), {"f": validator}) is None
        spoilt = json.dumps(spoiled(value, dice))
        if read(dialect, events([("f", spoilt)]), {"f": validator}, strict=True) is not None:
            assert not validator.is_valid(json.loads(spoilt))
