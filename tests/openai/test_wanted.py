"""A schema is found in whichever field an app asks for it, and never where it asks for none."""

from __future__ import annotations

import pytest

from guardproxy.core.asked import Wanted
from guardproxy.openai.wanted import flat_tools, in_format, in_text, tools, wanted

SCHEMA = {"type": "object"}


@pytest.mark.parametrize(
    "doc, found",
    [
        ({"format": "json"}, Wanted("format", "json", any_object=True)),
        ({"format": SCHEMA}, Wanted("format", "", SCHEMA)),
        ({"format": ""}, None),
        ({"format": None}, None),
        ({"format": "xml"}, Wanted("format", "", "xml")),
        ({}, None),
    ],
)
def test_ollamas_format(doc, found):
    """``format`` is the word json, or a schema; anything else is found, so that it is refused as none."""
    assert in_format(doc) == found


@pytest.mark.parametrize(
    "given, found",
    [
        ({"type": "json_schema", "name": "n", "schema": SCHEMA}, Wanted("text.format.schema", "n", SCHEMA)),
        ({"type": "json_schema", "name": 1, "schema": 2}, Wanted("text.format.schema", "", 2)),
        ({"type": "json_schema", "name": "n"}, Wanted("text.format.schema", "n")),
        ({"type": "json_object"}, Wanted("text.format", "json_object", any_object=True)),
        ({"type": "text"}, None),
        (None, None),
        ("json", None),
    ],
)
def test_the_responses_apis_format(given, found):
    """``text.format`` holds side by side what a ``response_format`` nests."""
    assert in_text({"text": {"format": given}}) == found


@pytest.mark.parametrize("doc", [{}, {"text": "json"}, {"text": None}])
def test_a_text_without_a_format_asks_for_nothing(doc):
    assert in_text(doc) is None


def test_the_first_field_counts():
    """Where an app asks in several ways, ``response_format`` goes before all others."""
    doc = {
        "guided_json": {"type": "array"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    }
    assert wanted(doc) == Wanted("response_format.json_schema.schema", "n", SCHEMA)


@pytest.mark.parametrize(
    "doc, place, schema",
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", None),
        ({"response_format": {"type": "json_schema", "schema": SCHEMA}}, "response_format.schema", SCHEMA),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema", None),
        ({"guided_json": "{nope"}, "guided_json", "{nope"),
        ({"guided_json": '{"type": "object"}'}, "guided_json", SCHEMA),
        ({"structured_outputs": {"json": [1]}}, "structured_outputs.json", [1]),
        ({"json_schema": 3}, "json_schema", 3),
    ],
)
def test_what_is_no_schema_is_found_too(doc, place, schema):
    """An app that asks for JSON in a way that nobody understands must hear of it, and not get just anything."""
    assert wanted(doc) == Wanted(place, "", schema)


@pytest.mark.parametrize("doc", [{"guided_json": ""}, {"guided_json": None}, {"structured_outputs": {"regex": "a"}}])
def test_nothing_is_nothing(doc):
    assert wanted(doc) is None


def test_tools_of_both_spellings():
    """Parameters stand in ``function`` in chat, in the tool itself in the Responses API; builtin tools have none."""
    function = {"name": "f", "parameters": SCHEMA}
    nested = [{"type": "function", "function": function}, {"type": "web_search"}, "odd"]
    assert tools({"tools": nested}) == [("f", "tools[0].function.parameters", SCHEMA)]
    flat = [{"type": "web_search"}, {"type": "function", **function}, {"type": "custom", "name": "g", "parameters": {}}]
    assert flat_tools({"tools": flat}) == [("f", "tools[1].parameters", SCHEMA)]
    assert tools({"tools": {}}) == flat_tools({}) == []
