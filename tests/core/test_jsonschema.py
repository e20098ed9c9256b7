"""Schemas come from apps and text from models: neither may make the proxy fetch, freeze or grow."""

import contextlib
import time
import tracemalloc
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core import jsonschema
from guardproxy.core.jsonschema import InvalidSchema
from guardproxy.core.schema_bounds import MAX_JUDGEMENTS

DRAFTS = [
    "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-06/schema#",
    "http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema",
    "https://json-schema.org/draft/2020-12/schema",
]  # fmt: skip


def doubling(levels, wrap=lambda ref: ref):
    """Definitions of which each names the one below twice."""
    parts: dict[str, object] = {"d0": {"type": "string"}}
    for i in range(1, levels + 1):
        parts[f"d{i}"] = {"anyOf": [wrap({"$ref": f"#/$defs/d{i - 1}"}), wrap({"$ref": f"#/$defs/d{i - 1}"})]}
    return {"$defs": parts, "$ref": f"#/$defs/d{levels}"}


def nested(levels):
    schema: dict[str, object] = {"type": "string"}
    for _ in range(levels):
        schema = {"anyOf": [schema, {"type": "array"}]}
    return schema


def refused(schema):
    with pytest.raises(InvalidSchema) as caught:
        jsonschema.compile(schema)
    return caught.value


@pytest.mark.parametrize(
    "schema, code, place",
    [
        (None, "invalid_schema", ""),
        ([], "invalid_schema", ""),
        ("{}", "invalid_schema", ""),
        ({1: 2}, "invalid_schema", ""),
        ({"enum": ["\ud800"]}, "invalid_schema", ""),
        ({"type": "foo"}, "invalid_schema", "/type"),
        ({"properties": {"a/b": {"minimum": "x"}}}, "invalid_schema", "/properties/a~1b/minimum"),
        ({"pattern": "("}, "invalid_schema", "/pattern"),
        ({"$schema": None}, "invalid_schema", "/$schema"),
        ({"$schema": 5}, "invalid_schema", "/$schema"),
        ({"$ref": "http://example.com/s.json"}, "invalid_schema", "/$ref"),
        ({"items": {"$ref": "file:///etc/passwd"}}, "invalid_schema", "/items/$ref"),
        ({"$id": "http://example.com/a", "$ref": "b"}, "invalid_schema", "/$ref"),
        ({"$ref": "#/$defs/no"}, "invalid_schema", "/$ref"),
        ({"$ref": "#"}, "schema_too_deep", ""),
        ({"allOf": [{"$ref": "#"}]}, "schema_too_deep", ""),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
         "schema_too_deep", "/$defs/a"),
        (nested(101), "schema_too_deep", None),
        (doubling(12), "schema_too_deep", None),
        (doubling(60), "schema_too_deep", None),
        (doubling(14, lambda ref: {"items": ref}), "schema_too_deep", None),
        (doubling(14, lambda ref: {"properties": {"a": ref}}), "schema_too_deep", None),
        (doubling(14, lambda ref: {"additionalProperties": ref}), "schema_too_deep", None),
    ],
)  # fmt: skip
def test_what_is_no_usable_schema(schema, code, place):
    """Refused with the code of the envelope, the place and a short reason; nothing is fetched."""
    error = refused(schema)
    assert error.code == code
    assert place is None or error.place == place
    assert 0 < len(error.reason) <= 300


@pytest.mark.parametrize(
    "name",
    [
        "http://json-schema.org/schema#",
        "https://json-schema.org/draft/2020-12/schema#",
    ],
)
def test_names_of_the_latest_draft(name):
    """Each of its names is known, and none is looked for."""
    validator = jsonschema.compile({"$schema": name, "prefixItems": [{"type": "null"}], "items": {"format": "uuid"}})
    assert validator.is_valid([None])
    assert jsonschema.why(validator, [1]) == ["[0]: expected null, got 1"]
    assert not validator.is_valid([None, "x"])


def test_the_size_of_a_schema_is_bounded():
    """One that would hold the loop for seconds while it is made ready is refused before that."""
    assert refused({"properties": {f"p{i}": {} for i in range(60_000)}}).code == "schema_too_deep"


def test_a_chain_of_references_is_bounded():
    parts = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(150)} | {"d150": {}}
    assert refused({"$defs": parts, "$ref": "#/$defs/d0"}).code == "schema_too_deep"


@pytest.mark.parametrize(
    "schema",
    [
        True,
        False,
        {},
        {"items": {"$ref": "#"}},
        {"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"},
        {"$id": "http://e.x/r.json", "properties": {"a": {"$ref": "#/$defs/z"}}, "$defs": {"z": {"type": "integer"}}},
        {"$anchor": "top", "items": {"$ref": "#top"}},
        {"$dynamicAnchor": "n", "items": {"$dynamicRef": "#n"}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        {"properties": {f"p{i}": {"$ref": "#/$defs/d"} for i in range(2000)}, "$defs": {"d": nested(20)}},
        {"definitions": {"a b": {"type": "string"}}, "$ref": "#/definitions/a%20b"},
    ],
)
def test_what_is_a_usable_schema(schema):
    """Recursion through the value's own structure is no circle; many members do not add up."""
    assert "Validator" in repr(jsonschema.compile(schema))


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize(
    "name, bad", [("uuid", "x"), ("iri", "\\"), ("duration", "x"), ("date-time", "x"), ("email", "x")]
)
def test_known_formats_are_checked_in_every_draft(draft, name, bad):
    """Schemas use formats that their draft does not define, and mean them."""
    assert not jsonschema.compile({"$schema": draft, "format": name}).is_valid(bad)


def test_formats_do_not_refuse_what_is_right():
    for draft in DRAFTS:
        assert jsonschema.compile({"$schema": draft, "format": "uuid"}).is_valid(str(uuid.uuid4()))
        assert jsonschema.compile({"$schema": draft, "format": "uuid"}).is_valid(5)
        assert jsonschema.compile({"$schema": draft, "format": "never-heard-of"}).is_valid("x")


@pytest.mark.parametrize(
    "schema", [nested(20), doubling(11), doubling(20), doubling(12, lambda ref: {"items": ref, "type": "array"})]
)
def test_nested_alternatives_cost_neither_time_nor_memory(schema):
    """Within 50 ms and 50 MB, words and all: the engine's own messages took minutes and gigabytes."""
    tracemalloc.start()
    began = time.thread_time()
    with contextlib.suppress(InvalidSchema):  # refused, which has to be as quick
        assert jsonschema.why(jsonschema.compile(schema), {"a": [[[[5]]]]})
    took = time.thread_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert took < 0.05 * 4  # four times, for machines that are slow or busy
    assert peak < 50e6


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+\\1$", "^(?=(a+)+$)a*b", "(x+x+)+y"])
def test_patterns_do_not_block(pattern):
    validator = jsonschema.compile({"pattern": pattern})
    began = time.thread_time()
    assert not validator.is_valid("a" * 100_000 + "!")
    assert time.thread_time() - began < 0.5


def test_the_bound_is_where_the_engine_is_still_quick():
    """At the bound a judgement takes a fraction of a millisecond."""
    validator = jsonschema.compile(doubling(MAX_JUDGEMENTS.bit_length() - 3))
    began = time.thread_time()
    assert not validator.is_valid(5)
    assert time.thread_time() - began < 0.5


BRIEF = {
    "type": "object",
    "properties": {
        "notes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "intensity": {"type": "integer", "minimum": 0, "maximum": 100},
        "longevity": {"enum": ["short", "long"]},
        "a/b %": {"type": "integer"},
        "choice": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/choice"}]},
    },
    "required": ["notes"],
    "additionalProperties": False,
    "$defs": {"choice": {"type": "object", "properties": {"k": {"type": "integer"}}}},
}


@pytest.mark.parametrize(
    "instance, said",
    [
        ({"notes": ["a"]}, []),
        ({}, ['(top): "notes" is missing']),
        ([], ["(top): expected an object, got []"]),
        ({"notes": []}, ["notes: expected at least 1 items, got 0"]),
        ({"notes": ["a", 1, None]}, ["notes[1]: expected text, got 1", "notes[2]: expected text, got null"]),
        ({"notes": ["a"], "intensity": 101}, ["intensity: expected at most 100, got 101"]),
        ({"notes": ["a"], "longevity": "x" * 99}, [f'longevity: expected one of "short", "long", got "{"x" * 58}…']),
        ({"notes": ["a"], "a/b %": ""}, ['a/b %: expected a whole number, got ""']),
        ({"notes": ["a"], "choice": {"k": "s"}}, ['choice.k: expected a whole number, got "s"']),
        ({"notes": ["a"], "other": 1}, ['(top): "other" is not allowed']),
    ],
)
def test_words_say_what_is_wrong(instance, said):
    assert jsonschema.why(jsonschema.compile(BRIEF), instance) == said


@pytest.mark.parametrize(
    "schema, instance, said",
    [
        (False, 5, "(top): is not allowed"),
        ({"const": {"a": 1}}, 5, '(top): expected {"a": 1}, got 5'),
        ({"not": {}}, 5, "(top): does not satisfy the schema at #"),
        ({"allOf": [{"minimum": 6}]}, 5, "(top): expected at least 6, got 5"),
        ({"oneOf": [{}, {}]}, 5, "(top): fits 2 of 2 alternatives, where it has to fit one"),
        ({"if": {"type": "integer"}, "then": {"minimum": 6}}, 5, "(top): expected at least 6, got 5"),
        ({"prefixItems": [{}, {"type": "null"}], "items": False}, [1, 2], "[1]: expected null, got 2"),
        ({"items": {"$ref": "#"}, "type": "array"}, [[5]], "[0][0]: expected an array, got 5"),
        ({"$schema": DRAFTS[0], "minimum": 3, "exclusiveMinimum": True}, 3, "(top): expected at least 3, got 3"),
        ({"$schema": DRAFTS[2], "$ref": "#/definitions/a", "minimum": 9, "definitions": {"a": {"type": "string"}}}, 5,
         "(top): expected text, got 5"),
        ({"additionalProperties": {"type": "null"}}, {"a": 5}, "a: expected null, got 5"),
    ],
)  # fmt: skip
def test_words_for_each_keyword(schema, instance, said):
    assert jsonschema.why(jsonschema.compile(schema), instance) == [said]


def test_words_are_few():
    validator = jsonschema.compile({"items": {"type": "string"}})
    assert len(jsonschema.why(validator, list(range(100_000)))) == 5
    assert len(jsonschema.why(validator, [1, 2, 3], limit=2)) == 2


def test_what_is_no_json_is_said_and_not_raised():
    assert jsonschema.why(jsonschema.compile({}), {1: 2})
    assert jsonschema.why(jsonschema.compile({"type": "string"}), "\ud800")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from(
    [
        "type",
        "items",
        "properties",
        "anyOf",
        "allOf",
        "not",
        "$ref",
        "required",
        "enum",
        "minimum",
        "const",
        "$defs",
        "a",
        "pattern",
        "if",
        "then",
        "$id",
        "$anchor",
        "dependentSchemas",
    ]
)
schemas = st.recursive(
    st.booleans() | st.sampled_from(["string", "#", "#/$defs/a", "#a", "object", "http://e.x/", 3]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=20,
)


@given(schemas, values)
def test_any_schema_compiles_or_is_refused(schema, value):
    """Nothing but `InvalidSchema`, and words exactly where the value breaks the schema."""
    try:
        validator = jsonschema.compile(schema)
    except InvalidSchema:
        return
    assert bool(jsonschema.why(validator, value)) is not validator.is_valid(value)


@pytest.mark.parametrize("length", [500, 5_000])
def test_a_long_way_of_definitions(length):
    """Definitions of which each names the next for a member of the value are no trouble, however many there are."""
    parts: dict[str, object] = {"d0": {"type": "string"}}
    for i in range(1, length + 1):
        parts[f"d{i}"] = {"properties": {"next": {"$ref": f"#/$defs/d{i - 1}"}}}
    check = jsonschema.compile({"$defs": parts, "$ref": f"#/$defs/d{length}"})
    assert check.is_valid({"next": {"next": {}}})
