"""What is generated from the settings is current, and what is documented is all there is."""

import json
from pathlib import Path

import fastjsonschema
import pytest
import yaml

from guardproxy.config import publish, reference
from guardproxy.config.decode import names
from guardproxy.config.fields import fields
from guardproxy.config.rules import RULES
from guardproxy.config.settings import Config

ROOT = Path(__file__).parents[2]


def test_the_published_schema_is_current():
    """`python -m guardproxy.config.publish > config/guardproxy.schema.json`"""
    assert (ROOT / "config" / "guardproxy.schema.json").read_text("utf-8") == publish.text()


def test_the_reference_is_current():
    """`python -m guardproxy.config.reference > docs/configuration.md`"""
    assert (ROOT / "docs" / "configuration.md").read_text("utf-8") == reference.text()


def test_the_shipped_file_satisfies_the_published_schema():
    validate = fastjsonschema.compile(publish.schema())
    validate(yaml.safe_load((ROOT / "config" / "guardproxy.yaml").read_text("utf-8")))
    validate({})


@pytest.mark.parametrize("data", [{"cash": 1}, {"cache": {"max_size": 0}}, {"upstreams": {"v1": {"url": "http://h"}}}])
def test_the_published_schema_refuses(data):
    with pytest.raises(fastjsonschema.JsonSchemaException):
        fastjsonschema.compile(publish.schema())(data)


def test_every_setting_is_documented():
    """Each field has its text, and stands on the page."""
    page = reference.text()
    for title, record in reference._sections(Config, ""):
        for field in fields(record):
            assert field.doc.endswith("."), (title, field.name)
            assert f"| `{field.name}` |" in page


def test_every_rule_is_of_a_setting():
    """A rule for a setting that is gone, or misspelt, would protect nothing."""
    for record, name in RULES:
        assert name in names(record), (record, name)


def test_descriptions_are_in_the_schema():
    made = publish.schema()["properties"]["cache"]["properties"]["ttl_seconds"]
    assert made["description"] == "Seconds that an entry is fresh."
    assert json.dumps(made["default"]) in ("600", "600.0")
