"""A model that has called a tool in a wrong way is shown its call, and what is wrong with it, as the API has it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from guardproxy.core.asked import Wrong
from guardproxy.core.values import Answer, Call
from guardproxy.dialects.anthropic import SPEC as ANTHROPIC
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.dialects.ollama import SPEC as OLLAMA
from guardproxy.dialects.responses import SPEC as RESPONSES
from tests.flow.playbook import House

ASKED = {"role": "user", "content": "hi"}
WHY = "x: expected a number"
ERROR = f"error: {WHY}; call it again"
UNMADE = "error: this call was not made, since another one beside it was wrong; make both again"


def again(dialect, doc, *problems, **fields):
    """The fields with which a model that answered *doc* is asked again."""
    call = House().read(json.dumps({"model": "creative"}).encode())
    assert isinstance(call, Call)
    given = {"model": "m", **fields}
    call = replace(call, doc=given, body=json.dumps(given).encode(), dialect=dialect)
    wrong = Wrong(WHY, tools=problems or ("", WHY))
    after = dialect.again(call, Answer(0.0, 200, [], b"", doc=doc), wrong)
    assert json.loads(after.body) == after.doc
    return after.doc


def called(ident, arguments):
    return {"id": ident, "type": "function", "function": {"name": "f", "arguments": arguments}}


def chosen(*calls, content=None):
    return {"message": {"role": "assistant", "content": content, "tool_calls": list(calls), "audio": None}}


def test_in_chat():
    """The turn as it came, and a result for each of its calls; other choices are not shown."""
    good, first, bad = called("a", '{"x":1}'), called("b", '{"x":2}'), called("c", '{"x":"y"}')
    doc = {"choices": [chosen(good), chosen(first, bad, content="so")]}
    after = again(CHAT, doc, "", "", WHY, messages=[ASKED], seed=3)
    assert after["seed"] == 4
    assert after["messages"] == [
        ASKED,
        {"role": "assistant", "content": "so", "tool_calls": [first, bad]},
        {"role": "tool", "tool_call_id": "b", "content": UNMADE},
        {"role": "tool", "tool_call_id": "c", "content": ERROR},
    ]


@pytest.mark.parametrize(
    "bad", [called("c", "{nope"), called("c", "[1]"), called(None, "{}"), called("c", "1" * 20_000)]
)
def test_what_an_engine_would_refuse_is_shown_as_text(bad):
    """Arguments that are no object, or a call without an id, would have the whole request refused."""
    doc = {"choices": [chosen(called("a", "{}"), bad)]}
    said = bad["function"]["arguments"][:16_000]
    assert again(CHAT, doc, messages=[ASKED])["messages"][1:] == [
        {"role": "assistant", "content": said},
        {"role": "user", "content": WHY},
    ]


def test_in_responses():
    """The calls, and an output for each."""
    calls = [
        {"type": "function_call", "id": "fc", "call_id": ident, "name": "f", "arguments": given, "status": "completed"}
        for ident, given in (("a", "{}"), ("b", '{"x":"y"}'))
    ]
    doc = {"output": [{"type": "reasoning", "summary": []}, *calls]}
    assert again(RESPONSES, doc, input="hi")["input"] == [
        ASKED,
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": '{"x":"y"}'},
        {"type": "function_call_output", "call_id": "a", "output": UNMADE},
        {"type": "function_call_output", "call_id": "b", "output": ERROR},
    ]
    calls[0].pop("call_id")
    assert again(RESPONSES, doc, input="hi")["input"][1:] == [
        {"type": "message", "role": "assistant", "content": '{"x":"y"}'},
        {"role": "user", "content": WHY},
    ]


def test_in_messages():
    """The content as it came, but for empty texts, which are refused, and a result for each call."""
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    calls = [{"type": "tool_use", "id": i, "name": "f", "input": given} for i, given in (("a", {}), ("b", {"x": "y"}))]
    doc = {"content": [thought, {"type": "text", "text": " "}, *calls]}
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": UNMADE, "is_error": False},
        {"type": "tool_result", "tool_use_id": "b", "content": ERROR, "is_error": True},
    ]
    assert again(ANTHROPIC, doc, messages=[ASKED])["messages"] == [
        ASKED,
        {"role": "assistant", "content": [thought, *calls]},
        {"role": "user", "content": results},
    ]
    calls[1]["input"] = "{nope"
    turns = again(ANTHROPIC, doc, messages=[ASKED])["messages"]
    assert [turn["content"] for turn in turns[1:]] == ["{nope", WHY]


def test_in_ollama():
    """Calls have no ids there, and results the name of the tool."""
    calls = [{"function": {"name": "f", "arguments": given}} for given in ({}, {"x": "y"})]
    doc = {"message": {"role": "assistant", "content": "", "tool_calls": calls}}
    assert again(OLLAMA, doc, messages=[ASKED])["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "tool_name": "f", "content": UNMADE},
        {"role": "tool", "tool_name": "f", "content": ERROR},
    ]
    calls[1]["function"]["arguments"] = "{nope"
    assert again(OLLAMA, doc, messages=[ASKED])["messages"][1:] == [
        {"role": "assistant", "content": "{nope"},
        {"role": "user", "content": WHY},
    ]


@pytest.mark.parametrize(
    "wrong, shown",
    [
        (Wrong("w", 1), "b"),
        (Wrong("w", 2), "a"),
        (Wrong("w", 9), "a"),
        (Wrong("w", tools=("", "p")), "{2}"),
        (Wrong("w"), "a"),
    ],
)
def test_what_is_shown_is_what_is_wrong(wrong, shown):
    """The choice, or the arguments, that the note is about; where that said nothing, whatever was said."""
    assert wrong.shown(["a", "b", None], [("f", "{1}"), ("g", "{2}")]) == shown
