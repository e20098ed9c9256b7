"""The schema of an answer is the declared one where a name is given, else the one that the request brings."""

from __future__ import annotations

import json

import pytest

from guardproxy.core.values import Call
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.openai.schemas import ANY_OBJECT, Misplaced, Schemas, declare
from guardproxy.openai.shelf import Order
from tests.flow.playbook import SCHEMA, House

TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}


def call(doc, **headers):
    got = House().read(json.dumps({"model": "llama", **doc}).encode(), headers=[*headers.items()])
    assert isinstance(got, Call)
    return got


def schemas():
    return Schemas({"brief": declare("brief", SCHEMA, {"x": 7})})


def of(doc, wants=""):
    got = call(doc)
    got.wants_schema = wants
    return schemas().of(got, CHAT, Order(0.0))


def test_where_it_comes_from():
    """The name given beside the request, else the request's own fields; and what engines are told of it."""
    guided = {"guided_json": {"type": "array"}}
    named = of(guided, "brief")
    assert named is not None
    assert (named.name, named.source, named.fallback) == ("brief", SCHEMA, b'{"x":7}')
    own = of(guided)
    assert own is not None
    assert (own.name, own.source, own.text, own.fallback) == ("guided_json", {"type": "array"}, True, None)
    assert of({"response_format": {"type": "json_object"}}) is ANY_OBJECT
    assert of({}) is None


def test_tools_are_judged_beside_the_text():
    """With a schema of its own the text is judged too; without one only what tools are given."""
    alone = of({"tools": [TOOL]})
    assert alone is not None
    assert (alone.text, set(alone.tools), alone.source) == (False, {"f"}, None)
    both = of({"tools": [TOOL], "guided_json": SCHEMA})
    assert both is not None
    assert (both.text, set(both.tools), both.source) == (True, {"f"}, SCHEMA)


@pytest.mark.parametrize(
    "doc, wants, param",
    [
        ({}, "nobody", None),
        ({"guided_json": {"type": "nonsense"}}, "", "guided_json"),
        ({"tools": [{"function": {"name": "f", "parameters": {"type": 3}}}]}, "", "tools"),
    ],
)
def test_none_there(doc, wants, param):
    """What is no schema, or is not there, says so and where."""
    with pytest.raises(Misplaced) as wrong:
        of(doc, wants)
    assert (wrong.value.code, wrong.value.param) == ("invalid_schema", param)


def test_what_is_declared_is_ready():
    """A request that brings the declared schema under its name is judged by it, however large it is."""
    asked = {"type": "json_schema", "json_schema": {"name": "brief", "schema": SCHEMA}}
    got, all_of_them = call({"response_format": asked}), schemas()
    named = all_of_them.of(got, CHAT, Order(0.0, room=0))
    assert named is not None
    assert (named.check, named.fallback) == (all_of_them.declared["brief"].check, b'{"x":7}')
