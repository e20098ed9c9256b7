"""A reference finds what it names, however it is written."""

from __future__ import annotations

from typing import Any

import pytest

from guardproxy.core.jsonschema import InvalidSchema, why
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import Prefix
from guardproxy.core.references import escaped
from tests.core.schemas import DRAFTS

NAMES = ["a b", "List<String>", "A[B]", "A{B}", "a|b", "ü", "中文", 'a"b', "a`b", "a^b", "a\\b", "100%", "a#b", "a%b"]


@pytest.mark.parametrize("name", NAMES)
def test_names_as_generators_write_them(name):
    """What may not stand in a URI is taken for what it plainly means: by the judge, its words, and who reads along."""
    validator = compile_schema({"$defs": {name: {"type": "integer"}}, "properties": {"x": {"$ref": f"#/$defs/{name}"}}})
    assert validator.is_valid({"x": 1})
    assert why(validator, {"x": "s"}) == ['x: expected a whole number, got "s"']
    prefix = Prefix.of(validator)
    assert prefix is not None
    assert "x: expected a whole number" in str(prefix.feed('{"x": "and so on and so on'))


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("keyword", ["items", "additionalProperties", "not"])
def test_wherever_they_stand(keyword, draft):
    """In every draft, also where its own schema has alternatives for what may stand there."""
    schema = {"$schema": draft, "definitions": {"ü <x>": {"type": "integer"}}, keyword: {"$ref": "#/definitions/ü <x>"}}
    assert compile_schema(schema).is_valid([1] if keyword == "items" else {"a": 1} if keyword != "not" else "x")


def test_what_is_escaped_already_stays():
    """Escapes keep their meaning, and so does everything that is no reference."""
    schema: dict[str, Any] = {
        "$ref": "#/$defs/a%20b~1c",
        "properties": {"$ref": {"enum": [{"$ref": "a b"}]}, "x": [{"$ref": "other.json#/ü"}, 3, None]},
        "const": {"$ref": "#/a b"},
    }
    made = escaped(schema)
    assert made["properties"]["x"][0] == {"$ref": "other.json#/%C3%BC"}
    made["properties"]["x"][0] = schema["properties"]["x"][0]
    assert made == schema


def test_what_names_nothing_is_refused():
    """Escaping makes no definition."""
    with pytest.raises(InvalidSchema) as wrong:
        compile_schema({"properties": {"x": {"$ref": "#/$defs/a b"}}})
    assert wrong.value.place == "/properties/x/$ref"


def test_identifiers_as_people_write_them():
    """A name with a blank in it is no URI, and nobody cares."""
    schema = {"$id": "my schema", "$defs": {"a": {"type": "integer"}}, "properties": {"x": {"$ref": "#/$defs/a"}}}
    assert compile_schema(schema).is_valid({"x": 1})
    assert not compile_schema(schema).is_valid({"x": "1"})
    whole = {"$id": "http://x.y/a b", "$defs": {"a": {"type": "integer"}}, "$ref": "http://x.y/a b#/$defs/a"}
    assert [compile_schema(whole).is_valid(value) for value in (1, "1")] == [True, False]
