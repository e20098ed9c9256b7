"""Schemas are compiled and fallbacks checked before anything starts: what is wrong then would be wrong too late."""

import json

import pytest

from guardproxy.config.load import Invalid, load, loads

OBJECT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def config(tmp_path, text, **files):
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "g.yaml").write_text(text)
    return load(str(tmp_path / "g.yaml"), env={})


def only(tmp_path, text, **files):
    with pytest.raises(Invalid) as caught:
        config(tmp_path, text, **files)
    (problem,) = caught.value.problems
    return f"{problem.line}: {problem.path}: {problem.message}"


def test_a_schemas_file_stands_beside_the_configuration(tmp_path, monkeypatch):
    """Relative to the configuration's folder, wherever the proxy is started."""
    monkeypatch.chdir("/")
    loaded = config(tmp_path, "json_guard: {schemas: {s: {file: s.json, fallback: {n: 1}}}}", s=OBJECT)
    declared = loaded.config.json_guard.schemas["s"]
    assert declared.schema == OBJECT
    assert declared.fallback == {"n": 1}
    assert loaded.origins["json_guard.schemas.s.schema"] == "s.json"


def test_certificates_are_found_beside_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    loaded = config(tmp_path, "upstreams: {q: {url: https://h, ca_file: ca.json}}", ca="x")
    assert loaded.config.upstreams["q"].ca_file == str(tmp_path / "ca.json")


@pytest.mark.parametrize(
    "declared, said",
    [
        ("{}", "1: json_guard.schemas.s: needs either `file` or `schema`, and has neither"),
        ("{file: s.json, schema: {}}", "needs either `file` or `schema`, and has both"),
        ("{file: gone.json}", "cannot be read: no such file"),
        ("{file: .}", "json_guard.schemas.s.file: "),
        ("{schema: [1]}", "json_guard.schemas.s.schema: expected a mapping, got a list"),
        ("{schema: {type: foo}}", "json_guard.schemas.s.schema: not a usable JSON Schema at #/type: "),
        ("{schema: {$ref: 'http://h/s'}}", "not a usable JSON Schema at #/$ref: Resource 'http://h/s' is not in this"),
        ("{schema: {$ref: '#'}}", "refers to itself without moving on"),
        ("{schema: {const: 2024-01-01}, fallback: no}", 'fallback: breaks its schema: (top): expected "2024-01-01"'),
        ("{file: s.json, fallback: {n: x}}", 'fallback: breaks its schema: n: expected a whole number, got "x"'),
        ("{file: s.json, fallback: {}}", 'fallback: breaks its schema: (top): "n" is missing'),
    ],
)
def test_what_is_wrong_with_a_declared_schema(tmp_path, declared, said):
    assert said in only(tmp_path, f"json_guard: {{schemas: {{s: {declared}}}}}", s=OBJECT)


def test_everything_wrong_with_a_fallback_is_said():
    with pytest.raises(Invalid) as caught:
        loads("json_guard: {schemas: {s: {schema: {required: [a, b]}, fallback: {}}}}", env={})
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("content", ["{", '{"a": 1, "a": 2}', '{"minimum": NaN}', "\xff", ""])
def test_a_schemas_file_is_strict_json(tmp_path, content):
    (tmp_path / "s.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(Invalid, match="is not JSON"):
        config(tmp_path, "json_guard: {schemas: {s: {file: s.json}}}")


def test_a_schema_may_be_true(tmp_path):
    """`true` is a JSON Schema too."""
    config(tmp_path, "json_guard: {schemas: {s: {file: s.json}}}", s=True)
