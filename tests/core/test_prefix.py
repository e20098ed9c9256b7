"""An answer is given up while it is written only if nothing that may still come can save it."""

import contextlib
import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.core import prefix as module
from guardproxy.core.jsonschema import InvalidSchema
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import MAX_BLANK, MAX_JUDGED, MAX_PROSE, Prefix
from guardproxy.openai.strict import loads
from tests.core.public import published
from tests.core.schemas import corpus, pair, spelled

CASES = corpus()
GIVEN_UP = [case["name"] for case in CASES if case["name"].startswith("given up")]


@pytest.fixture
def always(monkeypatch):
    """Look after every character."""
    monkeypatch.setattr(module, "FIRST", 1)
    monkeypatch.setattr(module, "GROWTH", 1.0)


def watch(schema, **how):
    made = Prefix.of(compile_schema(schema), **how)
    assert made is not None
    return made


def stopped(prefix, text):
    """The shortest beginning of *text* that is called hopeless, and why."""
    for end, one in enumerate(text, 1):
        if reason := prefix.feed(one):
            return text[:end], reason
    return None


def survives(prefix, text):
    assert stopped(prefix, text) is None, stopped(prefix.again(), text)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
@pytest.mark.parametrize("strict", [True, False])
def test_each_beginning_of_each_valid_document_survives(case, strict):
    first = Prefix.of(compile_schema(case["schema"]), strict=strict)
    if case["name"] in GIVEN_UP:
        assert first is None
        return
    assert first is not None
    dice = random.Random(4)
    for document in case["valid"]:
        for text in [json.dumps(document), *(spelled(document, dice) for _ in range(3))]:
            prefix = first.again()
            survives(prefix, text)
            assert prefix.done or json.dumps(document)[0] not in '{["'


@pytest.mark.usefixtures("always")
def test_each_beginning_of_what_is_published_survives():
    """So it is with schemas as people publish them, however the document is spelled."""
    dice = random.Random(20_26)
    judged = 0
    for _ in range(300):
        schema, document = published(dice)
        prefix = Prefix.of(compile_schema(schema), strict=dice.random() < 0.5)
        if prefix is not None:
            judged += 1
            survives(prefix, spelled(document, dice))
    assert judged > 250


@pytest.mark.usefixtures("always")
@given(st.integers(0, 1 << 32))
@settings(max_examples=100)
def test_each_beginning_survives_under_any_schema(seed):
    """Soundness: whatever the keywords, what the engine calls valid in the end was possible all the time."""
    dice = random.Random(seed)
    for _ in range(20):
        schema, document = pair(dice)
        with contextlib.suppress(InvalidSchema):
            validator = compile_schema(schema)
            prefix = Prefix.of(validator, strict=True) if validator.is_valid(document) else None
            if prefix is not None:
                survives(prefix, spelled(document, dice))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "case", [case for case in CASES if case["name"] not in GIVEN_UP], ids=lambda case: case["name"]
)
def test_what_is_wrong_is_seen_by_its_last_character(case):
    """A number alone may go on, so it is never wrong before the text has ended."""
    first = watch(case["schema"])
    for document in case["invalid"]:
        found = stopped(first.again(), json.dumps(document))
        assert found or not isinstance(document, dict | list | str)
        assert not found or ("\0" not in found[1] and "u0000" not in found[1])


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "begun, reason",
    [
        ('{"name": t', "name: expected text, got true"),
        ('{"name": "Wilhelmin', 'name: expected at most 8 characters, got "Wilhelmin"'),
        ('{"kind": "appx', 'kind: expected one of "apple", "pear", got "appx"'),
        ('{"kind": {', 'kind: expected one of "apple", "pear", got {}'),
        ('{"n": 4,', "n: expected at least 5, got 4"),
        ('{"n": "', 'n: expected a whole number, got ""'),
        ('{"xs": [{"kids": [{}', 'xs[0].kids[0]: "id" is missing'),
        ('{"xs": [{"id": 1}, {"id": 2}, {', "xs: expected at most 2 items, got 3"),
        ('{"name": "x", "size"', '(top): "size" is not allowed'),
        ('{"name": "x"}', '(top): "n" is missing'),
        ('{"name": "x", "name"', '(top): it is not valid JSON (Detected duplicate key "name" at line 1 column 22)'),
        ("S", "(top): it is not valid JSON (expected value at line 1 column 1)"),
        ('{"name": "x", "n": 5} I', '(top): "I" behind the document'),
    ],
)  # fmt: skip
def test_the_reason_names_the_place_what_was_expected_and_what_came(begun, reason):
    x = {"type": "object", "properties": {"id": {"type": "integer"}, "kids": {"items": {"$ref": "#/$defs/x"}}}}
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "kind": {"enum": ["apple", "pear"]},
            "n": {"type": "integer", "minimum": 5},
            "xs": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/x"}},
        },
        "required": ["name", "n"],
        "additionalProperties": False,
        "$defs": {"x": {**x, "required": ["id"]}},
    }
    found = stopped(watch(schema, strict=True), begun)
    assert found is not None
    assert begun.startswith(found[0])
    assert found[0] == begun
    assert found[1].split("; ")[0] == reason


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "lead",
    ["", " \n", "\ufeff", "```json\n", "```\n", "<think>{no}\n</think>\n", "Okay, [1]…</think>",
     "<think></think>```json\n"],
)  # fmt: skip
def test_a_document_is_judged_behind_thoughts_and_the_opening_of_a_fence(lead):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    survives(watch(schema), lead + '{"a": 1}\n```\nThat is it.')
    found = stopped(watch(schema), lead + '{"a": "x", "b": 2}')
    assert found
    assert found[0] == lead + '{"a": "'


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    "text",
    ['Here it is: {"a": "x"}', "{'a': \"x\"}", '{"a": 1 "b": 2}', "1. First", "the", "no", "```js\nlet a = [",
     "<b>", "<think>{"],
)  # fmt: skip
def test_what_a_repair_may_mend_is_not_judged(text):
    survives(watch({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}), text)


def test_a_name_that_comes_twice_is_not_mended():
    found = stopped(watch({"type": "object"}), '{"a": 1, "b": 2, "a": 3, "c": "and so on, and so on"}')
    assert found
    assert "duplicate key" in found[1]


def test_prose_without_a_bracket_is_waited_for_only_so_long():
    essay = "The quick brown fox jumps over it. "
    found = stopped(watch({"type": "object"}), essay * 400)
    assert found
    assert MAX_PROSE < len(found[0]) < MAX_PROSE * 1.4
    assert "no JSON" in found[1]
    survives(watch({"type": "object"}).again(terse=False), essay * 400)
    survives(watch({"type": "object"}), "See [1]. " + essay * 400)


@pytest.mark.parametrize("before", ["", '{"a": 1,', "{", "<think>", "Well"])
def test_endless_white_space_is_hopeless_outside_a_text(before):
    found = stopped(watch({} | {"type": "object"}), before + " \n" * 800)
    assert found
    assert len(found[0]) == len(before) + MAX_BLANK + 1


@pytest.mark.parametrize("before", ['{"a": "', '{"', '{"a": 1}'])
def test_white_space_in_a_text_or_behind_the_document_is_not(before):
    survives(watch({"type": "object"}), before + " " * 3000)


def test_a_whole_document_is_told():
    prefix = watch({"type": "object"})
    prefix.feed('{"a": [1, 2, "and some more text"')
    assert not prefix.done
    prefix.feed("]}" + " " * 40)
    assert prefix.done
    assert repr(prefix) == "<Prefix of 75 characters, behind the document>"


def test_a_verdict_stands():
    prefix = watch({"type": "array"})
    reason = prefix.feed('{"a": "some text that is long enough"}')
    assert reason == prefix.feed("x") == prefix.feed("y" * 1000)
    assert prefix.again().feed("[") is None


def test_wrappers_cannot_be_forged():
    r"""Only ``\u0000`` spells their names, and a text with that is not judged."""
    survives(watch({"type": "object"}), r'{"a": {"\u0000open": 1, "\u0000mark": 1}, "b": {"\u0000mark": 2}}')
    survives(
        watch({"additionalProperties": {"type": "integer"}}), r'{"\u0000open": "x", "and": "so on, and so on, and on"}'
    )


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_it_reads_as_strictly_as_the_judge(value):
    """The floor below has its own reading: it must not drift from `openai.strict`."""
    for text in (json.dumps(value), json.dumps(value) + "x", f'{{"a": 1, "a": {json.dumps(value)}}}'):
        results = []
        for read in (loads, module._read):
            try:
                results.append(repr(read(text.encode())))
            except ValueError as error:
                results.append(str(error))
        assert results[0] == results[1]


def test_all_looks_together_read_a_small_multiple_of_the_text(monkeypatch):
    read: list[int] = []
    real = module._read

    def counted(text: bytes) -> object:
        read.append(len(text))
        return real(text)

    monkeypatch.setattr(module, "_read", counted)
    text = json.dumps({"items": [{"name": "a text of some length", "n": n} for n in range(800)]})
    prefix = watch({"type": "object"})
    for start in range(0, len(text), 4):
        prefix.feed(text[start : start + 4])
    assert sum(read) < 9 * len(text)
    assert len(read) < 60


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "' + '\\"' * 60_000,
        "[" * 100_000,
        '{"a":' * 20_000,
        '"' * 100_000,
        '{"a": "' + "\\" * 100_000,
        "[1" + ",1" * 50_000,
        "<think>" * 15_000,
        "</think>" * 15_000,
        "x" * 500_000,
        '{"a": "' + "x " * MAX_JUDGED,
        '{"a": "' + " " * MAX_JUDGED,
    ],
    ids=lambda text: text[:12],
)
@pytest.mark.parametrize("size", [4, 100_000])
def test_no_text_takes_long(text, size):
    """Milliseconds; a second is for machines that do something else at the time."""
    prefix = watch(
        {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"items": {"type": "integer"}}]}}
    )
    begun = time.thread_time()
    for start in range(0, len(text), size):
        prefix.feed(text[start : start + size])
    assert time.thread_time() - begun < 1 + len(text) / size * 2e-5
