"""What a schema costs is known before an answer meets it."""

from __future__ import annotations

import pytest

from guardproxy.core.heft import LIGHT
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import Prefix


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"type": "object", "properties": {str(n): {"type": "string", "enum": ["a", "b", 3]} for n in range(1000)}},
        {"items": {"pattern": r"^(?!\s*$).+"}},
        {"items": {"pattern": r"^(a+)+$"}},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"properties": {"pattern": {"type": "string"}, "enum": {"const": [{}]}}},
        {"patternProperties": {"^x-": True}},
        {"$defs": {"t": {"properties": {"t": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"},
    ],
)
def test_ordinary_schemas(schema):
    """What most schemas are made of counts once, however large they are."""
    assert compile_schema(schema).heft == 1


@pytest.mark.parametrize(
    "schema, least",
    [
        ({"items": {"pattern": r"^(a|aa)+\1$"}}, 80),
        ({"items": {"pattern": r"^(?:(?!b)(a|aa))+$"}}, 80),
        ({"items": {"patternProperties": {r"^(a|aa)+\1$": {}}}}, 80),
        ({"items": {"enum": [{"a": n} for n in range(1000)]}}, 100),
        ({"patternProperties": {f"^{n}": {} for n in range(200)}}, 10),
        ({"items": {"anyOf": [{"minLength": n} for n in range(2000)]}}, 100),
        ({"anyOf": [{"anyOf": [{"minLength": n} for n in range(40)]} for _ in range(40)]}, 80),
    ],
)
def test_schemas_that_make_much_work(schema, least):
    """Each kind of work that was measured is counted; answers to such schemas are judged elsewhere sooner."""
    validator = compile_schema(schema)
    assert validator.heft >= least
    assert LIGHT // validator.heft < 1000
    assert (Prefix.of(validator) is None) is (validator.heft > 20)
