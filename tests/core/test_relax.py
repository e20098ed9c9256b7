"""The relaxed twin of a schema takes every value that is still growing towards a valid one."""

import pytest

from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.relax import MARK, MAX_BEGINNINGS, MAX_PARTS, OPEN, relax


def grows(value):
    return {OPEN: value, MARK: 1}


def twin(schema):
    made = relax(compile_schema(schema))
    assert made is not None
    return made.is_valid


@pytest.mark.parametrize(
    "schema",
    [
        {"required": ["a"]}, {"minItems": 2}, {"minProperties": 2}, {"minLength": 9}, {"pattern": "z$"},
        {"format": "date"}, {"minimum": 5}, {"maximum": -5}, {"multipleOf": 7}, {"not": {}},
        {"contains": {"const": "z"}}, {"dependentRequired": {"a": ["b"]}}, {"unevaluatedProperties": False},
        {"unevaluatedItems": False}, {"if": True, "then": {"required": ["z"]}}, {"oneOf": [{}, {}]},
    ],
    ids=lambda schema: next(iter(schema)),
)  # fmt: skip
@pytest.mark.parametrize("value", [{"a": 1}, ["a"], "a", 0])
def test_what_only_the_end_can_tell_is_dropped(schema, value):
    assert twin(schema)(grows(value))


@pytest.mark.parametrize(
    "schema, possible, hopeless",
    [
        ({"type": "array"}, [], {}),
        ({"maxItems": 1}, [1], [1, 2]),
        ({"maxProperties": 1}, {"a": 1}, {"a": 1, "b": 2}),
        ({"maxLength": 2}, "ab", "abc"),
        ({"uniqueItems": True}, [1, grows([])], [1, 1]),
        ({"enum": ["abc", "ax"]}, "ab", "b"),
        ({"const": "abc"}, "", "abcd"),
        ({"enum": ["x", {}]}, {}, []),
        ({"properties": {"a": False}}, {"b": 1}, {"a": 1}),
        ({"additionalProperties": False, "patternProperties": {"^a": {}}}, {"ab": 1}, {"b": 1}),
        ({"propertyNames": {"minLength": 2}}, {"ab": 1}, {"a": 1}),
        ({"anyOf": [{"type": "array"}, {"maxLength": 1, "type": "string"}]}, "a", "ab"),
        ({"allOf": [{"maxLength": 2}, {"type": "string"}]}, "ab", "abc"),
        ({"dependentSchemas": {"a": {"maxProperties": 1}}}, {"b": 1, "c": 2}, {"a": 1, "b": 2}),
        ({"if": {"type": "array"}, "then": {"maxItems": 0}, "else": {"maxLength": 1}}, "a", "ab"),
    ],
)
def test_what_can_only_get_worse_is_kept(schema, possible, hopeless):
    judge = twin(schema)
    assert judge(grows(possible))
    assert not judge(grows(hopeless))


def test_what_is_closed_is_judged_as_it_was_written():
    judge = twin({"items": {"type": "object", "required": ["a"], "properties": {"a": {"minimum": 3}}}})
    assert judge(grows([{"a": 3}, grows({})]))
    assert judge(grows([{"a": 3}, grows({"a": grows(0)})]))
    assert not judge(grows([{}, grows({})]))
    assert not judge(grows([{"a": 3}, grows({"a": 2})]))


def test_a_value_of_which_nothing_is_known_may_become_anything_but_what_is_forbidden():
    judge = twin({"properties": {"a": {"type": "string"}, "b": False}})
    assert judge(grows({"a": {MARK: 1}}))
    assert not judge(grows({"b": {MARK: 1}}))


@pytest.mark.parametrize("draft", ["04", "06", "07"])
def test_keywords_that_a_draft_does_not_know_mean_nothing_in_its_twin_either(draft):
    judge = twin(
        {
            "$schema": f"http://json-schema.org/draft-{draft}/schema#",
            "properties": {"a": {"$ref": "#/definitions/i", "maxLength": 1}, "c": {"const": "x"}},
            "if": {"type": "object"}, "then": {}, "else": {"type": "array"},
            "dependentSchemas": {"a": {"maxProperties": 0}}, "prefixItems": [{"type": "string"}],
            "definitions": {"i": {"type": "string"}},
        }
    )  # fmt: skip
    assert judge(grows({"a": grows("long"), "b": 1}))
    assert judge(grows([1]))
    assert judge(grows({"c": grows("y")})) == (draft == "04")
    assert judge(grows("text")) == (draft != "07")


def test_many_long_texts_are_not_spelled_out():
    long = "x" * (MAX_BEGINNINGS // 50)
    assert twin({"enum": [long]})(grows("y")) is True
    assert twin({"enum": ["y" + long[:100]]})(grows("z")) is False


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {"$ref": "#a", "$defs": {"x": {"$anchor": "a"}}},
        {"$id": "https://example.com/a", "$ref": "https://example.com/a#/$defs/x", "$defs": {"x": {}}},
        {"items": {"$dynamicRef": "#"}},
        {"$schema": "https://json-schema.org/draft/2019-09/schema", "items": {"$recursiveRef": "#"}},
        {"properties": {"a": {"$id": "https://example.com/b", "type": "string"}}},
        {"prefixItems": [{"items": {"type": "string", "enum": ["a"]}} for _ in range(MAX_PARTS)]},
    ],
    ids=["true", "anchor", "address", "dynamic", "recursive", "identifier", "large"],
)
def test_a_schema_is_given_up_where_its_twin_would_not_be_exact(schema):
    assert relax(compile_schema(schema)) is None


def test_nothing_is_possible_where_nothing_is_allowed():
    assert not twin(False)(grows({}))


def test_what_is_never_used_is_not_translated():
    judge = twin(
        {"type": "object", "$defs": {"unused": {"$dynamicRef": "#x"}}} | {"$defs": {"x": {"$dynamicAnchor": "x"}}}
    )
    assert judge(grows({}))
