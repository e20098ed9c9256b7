"""Which draft a schema is written in, whatever people call it."""

from __future__ import annotations

import pytest

from guardproxy.core.drafts import NAMES, draft_of, metaschemas
from guardproxy.core.jsonschema import InvalidSchema, why
from guardproxy.core.jsonschema import compile as compile_schema

IGLU = "http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#"


@pytest.mark.parametrize(
    "name, draft",
    [
        ("http://json-schema.org/draft-03/schema#", "draft-04"),
        ("http://json-schema.org/draft-04/schema", "draft-04"),
        (" https://json-schema.org/draft-04/schema# ", "draft-04"),
        ("http://json-schema.org/draft-05/schema#", "draft-04"),
        ("http://json-schema.org/draft-06/schema#", "draft-06"),
        ("http://json-schema.org/draft-07/schema/", "draft-07"),
        ("http://json-schema.org/draft-07/hyper-schema#", "draft-07"),
        ("https://json-schema.org/draft/2019-09/schema#", "2019-09"),
        ("https://json-schema.org/draft/2020-12/schema", "2020-12"),
        ("https://json-schema.org/draft/next/schema", "2020-12"),
        ("http://json-schema.org/schema#", "2020-12"),
        (IGLU, "draft-04"),
        ("https://example.com/our-own", "2020-12"),
        ("", "2020-12"),
    ],
)
def test_by_its_name(name, draft):
    """As it is written, as people write it, and the latest where it says nothing that we know."""
    assert draft in NAMES[draft_of({"$schema": name})]
    assert "2020-12" in NAMES[draft_of({})]
    assert "2020-12" in NAMES[draft_of(True)]
    validator = compile_schema({"$schema": name, "type": "object", "properties": {"a": {"type": "integer"}}})
    assert why(validator, {"a": "x"}) == ['a: expected a whole number, got "x"']


@pytest.mark.parametrize(
    "name", ["https://json-schema.org/draft/2099-01/schema", "http://json-schema.org/draft-08/schema#"]
)
def test_a_draft_that_there_is_not(name):
    """It is a mistake, and the error says which there are."""
    with pytest.raises(InvalidSchema, match=r"^/\$schema: there is no draft .*; there are 04, 06, "):
        compile_schema({"$schema": name})


def test_the_keywords_of_the_draft():
    """A bound is excluded by a word in draft 4, and by a number since."""
    old = {"$schema": IGLU, "minimum": 3, "exclusiveMinimum": True}
    assert [compile_schema(old).is_valid(n) for n in (3, 4)] == [False, True]
    with pytest.raises(InvalidSchema):
        compile_schema({**old, "$schema": "https://example.com/our-own"})


@pytest.mark.parametrize("own", NAMES.values())
@pytest.mark.parametrize("other", NAMES.values())
def test_a_reference_to_a_metaschema(own, other):
    """Nothing is fetched for it, in whatever draft it stands; answers have to be schemas then."""
    validator = compile_schema({"$schema": own, "properties": {"schema": {"$ref": other}}})
    assert validator.is_valid({"schema": {"type": "string"}})
    assert not validator.is_valid({"schema": {"type": "nonsense"}})
    assert why(validator, {"schema": {"type": "nonsense"}})


def test_they_are_all_there():
    """Those of all drafts, with the vocabularies of the newer ones."""
    names = [name for name, _ in metaschemas()]
    assert {name.removesuffix("#") for name in NAMES.values()} <= set(names)
    assert "https://json-schema.org/draft/2019-09/meta/applicator" in names
