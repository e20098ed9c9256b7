"""No invalid document passes, and no valid one is refused: by the corpus, by a second engine, in every draft."""

from __future__ import annotations

import json
import random

import jsonschema  # type: ignore[import-untyped,unused-ignore]
import pytest

from guardproxy.core.jsonschema import InvalidSchema
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai.judge import FINE, Question, judge
from tests.core.public import published, spoiled
from tests.core.schemas import DRAFTS, corpus, pair, spelled

SCHEMAS = 400
"""Schemas that are thrown of each kind; both engines together take some seconds for them."""
ENGINES = {
    "http://json-schema.org/draft-04/schema#": jsonschema.Draft4Validator,
    "http://json-schema.org/draft-06/schema#": jsonschema.Draft6Validator,
    "http://json-schema.org/draft-07/schema#": jsonschema.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema.Draft201909Validator,
    None: jsonschema.Draft202012Validator,
}
OPEN = {"uri", "email", "hostname", "regex"}
"""Formats of which the second engine's opinion is a guess: it leaves them unchecked, or checks them loosely."""


def right(schema, text):
    """Whether the guard lets *text* pass as it is."""
    return judge(Question(text, compile_schema(schema)), mend=False) is FINE


@pytest.mark.parametrize("case", corpus(), ids=lambda case: case["name"])
def test_the_corpus_by_hand(case):
    """Each document of the corpus is judged as it was meant, however it is spelled."""
    dice = random.Random(7)
    validator = compile_schema(case["schema"])
    for documents, valid in ((case["valid"], True), (case["invalid"], False)):
        for document in documents:
            found = judge(Question(spelled(document, dice), validator), mend=False)
            assert (found is FINE) is valid, (document, found)
            assert found.parsed


def second(schema):
    """The other engine, formats aside that it does not know as well."""
    kind = ENGINES.get(schema.get("$schema"), jsonschema.Draft202012Validator)
    return kind(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)  # every format in every draft


def uses(schema, names):
    """Whether a format of *names* is asked for anywhere in *schema*."""
    text = json.dumps(schema)
    return any(f'"format": "{name}"' in text for name in names)


def test_what_is_published():
    """A document made for its schema is valid; one that was spoiled is what another engine takes it for."""
    dice = random.Random(20_24)
    valid = invalid = 0
    for _ in range(SCHEMAS):
        schema, value = published(dice)
        validator, other = compile_schema(schema), second(schema)
        for document in (value, *(spoiled(value, dice) for _ in range(4))):
            meant = other.is_valid(document)
            if document is value:
                assert meant, (schema, value)
            elif uses(schema, OPEN):
                continue
            found = judge(Question(spelled(document, dice), validator), mend=False)
            assert (found is FINE) is meant, (schema, document, found)
            valid, invalid = valid + meant, invalid + (not meant)
    assert valid > SCHEMAS
    assert invalid > SCHEMAS // 2


def test_what_nobody_has_thought_of():
    """So it is with schemas out of every keyword, as far as both engines read them alike."""
    dice = random.Random(20_25)
    seen = refused = 0
    for _ in range(SCHEMAS):
        schema, value = pair(dice)
        try:
            validator = compile_schema(schema)
        except InvalidSchema:
            refused += 1
            continue
        for document in (value, spoiled(value, dice)):
            try:
                meant = second(schema).is_valid(document)
            except (RecursionError, jsonschema.exceptions._WrappedReferencingError):
                continue
            found = judge(Question(spelled(document, dice), validator), mend=False)
            assert (found is FINE) is meant, (schema, document, found)
            seen += 1
    assert seen > SCHEMAS
    assert refused < SCHEMAS / 10


FORMATS = {
    "date": ("2024-02-29", "2023-02-29"),
    "date-time": ("2024-02-29T12:30:00Z", "2024-02-29 12:30"),
    "time": ("12:30:00Z", "25:00:00Z"),
    "duration": ("P1DT2H", "1 day"),
    "email": ("a@example.com", "a@"),
    "idn-email": ("ü@example.com", "ü@"),
    "hostname": ("example.com", "-bad-"),
    "idn-hostname": ("例え.jp", "-ü-"),
    "ipv4": ("127.0.0.1", "127.0.0.256"),
    "ipv6": ("::1", ":::1"),
    "uri": ("https://example.com/", "/relative"),
    "uri-reference": ("/relative", "\\"),
    "iri": ("https://example.com/ü", "/ü"),
    "iri-reference": ("/ü", "\\"),
    "uuid": ("123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456"),
    "uri-template": ("/a/{b}", "/a/{b"),
    "json-pointer": ("/a/b", "a/b"),
    "relative-json-pointer": ("0/a", "/a"),
    "regex": ("^a$", "("),
}


@pytest.mark.parametrize("draft", [None, *DRAFTS])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_in_every_draft(name, draft):
    """A format is checked whether the draft defines it or not: whoever writes one means it. What is no text fits."""
    schema = {"format": name, **({"$schema": draft} if draft else {})}
    good, bad = FORMATS[name]
    assert right(schema, json.dumps(good))
    assert not right(schema, json.dumps(bad))
    for other in ("1", "null", "[]", "{}", "true"):
        assert right(schema, other)


KEYWORDS = [
    ("type", "string", "x", 1),
    ("enum", [1, "a"], 1, 2),
    ("multipleOf", 0.1, 0.3, 0.35),
    ("maximum", 3, 3, 3.1),
    ("minimum", 3, 3, 2.9),
    ("maxLength", 2, "😀😀", "abc"),
    ("minLength", 2, "ab", "😀"),
    ("pattern", "b+", "abc", "ac"),
    ("items", {"type": "null"}, [None], [None, 1]),
    ("maxItems", 1, [1], [1, 2]),
    ("minItems", 1, [1], []),
    ("uniqueItems", True, [1, True, "1"], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
    ("maxProperties", 1, {}, {"a": 1, "b": 2}),
    ("minProperties", 1, {"a": 1}, {}),
    ("required", ["a"], {"a": None}, {}),
    ("properties", {"a": {"type": "null"}}, {"a": None}, {"a": 1}),
    ("patternProperties", {"^a": {"type": "null"}}, {"ab": None, "b": 1}, {"ab": 1}),
    ("additionalProperties", {"type": "null"}, {"a": None}, {"a": 1}),
    ("allOf", [{"minimum": 1}, {"maximum": 2}], 1, 3),
    ("anyOf", [{"type": "null"}, {"minimum": 2}], None, 1),
    ("oneOf", [{"minimum": 1}, {"maximum": 2}], 3, 2),
    ("not", {"type": "null"}, 1, None),
    ("const", {"a": [1]}, {"a": [1.0]}, {"a": [2]}),
    ("contains", {"type": "null"}, [1, None], [1]),
    ("propertyNames", {"maxLength": 1}, {"a": 1}, {"ab": 1}),
    ("exclusiveMaximum", 3, 2.9, 3),
    ("exclusiveMinimum", 3, 3.1, 3),
    ("dependencies", {"a": ["b"]}, {"b": 1}, {"a": 1}),
    ("dependentRequired", {"a": ["b"]}, {"a": 1, "b": 1}, {"a": 1}),
    ("dependentSchemas", {"a": {"required": ["b"]}}, {"b": 1}, {"a": 1}),
    ("prefixItems", [{"type": "null"}], [None, 1], [1]),
    ("unevaluatedProperties", False, {}, {"a": 1}),
    ("unevaluatedItems", False, [], [1]),
    ("additionalItems", False, [1], None),
]
SINCE = {
    "const": 6,
    "contains": 6,
    "propertyNames": 6,
    "exclusiveMaximum": 6,
    "exclusiveMinimum": 6,
    "dependentRequired": 2019,
    "dependentSchemas": 2019,
    "prefixItems": 2020,
    "unevaluatedProperties": 2019,
    "unevaluatedItems": 2019,
}
UNTIL = {"dependencies": 7, "additionalItems": 2019}
NUMBERS = dict(zip(DRAFTS, (4, 6, 7, 2019, 2020), strict=True))


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("keyword, given, good, bad", KEYWORDS, ids=[one[0] for one in KEYWORDS])
def test_every_keyword_in_every_draft(keyword, given, good, bad, draft):
    """Each keyword holds in each draft that has it, and means nothing before; `dependencies` was never taken back."""
    if draft == DRAFTS[0] and keyword.startswith("exclusive"):
        return  # a flag there: see below
    schema = {"$schema": draft, keyword: given}
    assert right(schema, json.dumps(good))
    known = SINCE.get(keyword, 4) <= NUMBERS[draft] <= UNTIL.get(keyword, 9999)
    if bad is not None and keyword not in UNTIL:
        assert right(schema, json.dumps(bad)) is not known
    elif bad is not None and known:
        assert not right(schema, json.dumps(bad))


@pytest.mark.parametrize("draft", DRAFTS)
def test_conditions_and_items_as_each_draft_has_them(draft):
    """`if` from draft 7 on, a list of `items` until 2019, `exclusiveMinimum` a flag in 4, `$ref` alone until 7."""
    number = NUMBERS[draft]
    condition = {"$schema": draft, "if": {"type": "integer"}, "then": {"minimum": 5}, "else": {"type": "null"}}
    assert [right(condition, one) for one in ("5", "4", "null", '"x"')] == [True, number < 7, True, number < 7]
    if number < 2020:
        listed = {"$schema": draft, "items": [{"type": "null"}], "additionalItems": {"type": "integer"}}
        assert [right(listed, one) for one in ("[null, 1]", "[1]", '[null, "x"]')] == [True, False, False]
    if number == 4:
        assert not right({"$schema": draft, "minimum": 3, "exclusiveMinimum": True}, "3")
    beside = {
        "$schema": draft,
        "definitions": {"a": {"type": "integer"}},
        "properties": {"x": {"$ref": "#/definitions/a", "minimum": 5}},
    }
    assert right(beside, '{"x": 4}') is (number <= 7)
    assert not right(beside, '{"x": "4"}')


def test_numbers_as_the_standard_has_them():
    """1.0 is whole, true is no number, and whole numbers beyond a double stay themselves."""
    assert right({"type": "integer"}, "1.0")
    assert right({"type": "integer"}, "1e2")
    assert not right({"type": "integer"}, "1.5")
    assert not right({"enum": [1]}, "true")
    assert not right({"const": 0}, "false")
    assert right({"const": 9007199254740993}, "9007199254740993")
    assert not right({"const": 9007199254740993}, "9007199254740992")
    assert not right({"maximum": 18446744073709551615}, "18446744073709551616")
    assert right({"multipleOf": 0.01}, "19.99")
    assert right({"uniqueItems": True}, "[1, true, 0, false]")
    assert not right({"uniqueItems": True}, "[1, 1.0]")
