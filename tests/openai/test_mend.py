"""What is mended says what was written: no word more, none less, none elsewhere."""

import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardproxy.openai.mend import mend
from guardproxy.openai.strict import loads
from tests.core.schemas import document

STRICT = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')
BETWEEN = re.compile(r"(?:[\s\ufeff,:{}\[\]\"'\\]|//[^\n]*|#[^\n]*|/\*.*?\*/)*", re.DOTALL)


@pytest.mark.parametrize(
    "text, mended",
    [
        ("{'a': 'x'}", '{"a": "x"}'),
        ("{'a': 'it\\'s \"x\"'}", '{"a": "it\'s \\"x\\""}'),
        ('{"a": "it\\\'s"}', '{"a": "it\'s"}'),
        ("{a: 1, b-c: 2}", '{"a": 1, "b-c": 2}'),
        ('{"a": "x\ny\t"}', '{"a": "x\\ny\\t"}'),
        ("[True, False, None]", "[true, false, null]"),
        ("[1, 2,]", "[1, 2]"),
        ('{"a": 1,\n}', '{"a": 1\n}'),
        ("[1, // one\n 2 /* two */, # three\n]", "[1, \n 2  \n]"),
        ('{"a": 1\n "b": 2}', '{"a": 1\n ,"b": 2}'),
        ('["a" "b" {}]', '["a" ,"b" ,{}]'),
        ('{"a": "he said "hi" there", "b": "x, "y" z"}', '{"a": "he said \\"hi\\" there", "b": "x, \\"y\\" z"}'),
        ('{"a": 1} and more', '{"a": 1}'),
    ],
)
def test_what_can_have_been_meant_only_one_way_is_mended(text, mended):
    made = mend(text, 0)
    assert made is not None
    assert (made.text, made.closed, made.cut) == (mended, False, False)
    loads(made.text.encode())


@pytest.mark.parametrize(
    "text, closed, cut",
    [
        ('{"a": [1, {"b": "c"', '{"a": [1, {"b": "c"}]}', False),
        ('{"a": [', '{"a": []}', False),
        ('{"a": 1,', '{"a": 1}', False),
        ('{"a": 12 ', '{"a": 12 }', False),
        ('{"a": true', '{"a": true}', False),
        ('{"a": "some te', '{"a": "some te"}', True),
        ('{"a": "x\\', '{"a": "x"}', True),
        ('{"a": "x\\u00e', '{"a": "x"}', True),
    ],
)
def test_a_document_that_was_cut_off_is_closed(text, closed, cut):
    made = mend(text, 0)
    assert made is not None
    assert (made.text, made.closed, made.cut, made.end) == (closed, True, cut, len(text))


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 12', '{"a": -', '{"a": tru', '{"a":', '{"a"', '{"a', '{"a": 1, "b', '{"a": "x}', '{"a": "x]} ',  # cut
        "[1,,2]", "[,1]", "{,}", '{"a":,}', '{"a": }', '{"a" 1}', '{"a": 1, 2}', "[1 234]", "[1, 2}", '{"a": [1}]',
        '{"a": undefined}', "[.5]", "[01]", "[+1]", "[0x1F]", "[1,000 x]", "[NaN]", "[yes]", '["a"b]', '["a""b"]',
        '{"a": "b" + "c"}', '{"a": "b" && "c"}', '["b" . "c", 1]', '{"a": "b"+"c"}',
        '{"a": "b" "c"}', '{"a": "say "no", then"}', '{"a": "b": "c"}', "{1: 2}", "[/* x", "]", "[" * 201 + "]" * 201,
    ],
)  # fmt: skip
def test_what_would_have_to_be_guessed_is_not_mended(text):
    assert mend(text, 0) is None


def sloppy(value, dice):
    """*value* in something like JSON, as models write it."""
    blank = dice.choice(["", " ", "\n  ", " // note\n", "/* a, 'b': {1] */", "\t# so\n"])
    if isinstance(value, dict | list):
        inner = list(value.values() if isinstance(value, dict) else value)
        members = [sloppy(one, dice) for one in inner]
        words = any(type(one) in (int, float, bool, type(None)) for one in inner)
        comma = dice.choice([",", ", ", ",", "," if words else " \n"])
        if isinstance(value, dict):
            names = [name(one, dice) for one in value]
            members = [f"{n}{blank}:{blank}{m}" for n, m in zip(names, members, strict=True)]
        end = dice.choice(["", "", ","]) if value else ""
        opened, closed = "{}" if isinstance(value, dict) else "[]"
        return opened + blank + (blank + comma + blank).join(members) + blank + end + blank + closed
    if isinstance(value, str):
        return quoted(value, dice)
    return repr(value) if isinstance(value, bool | None) and dice.random() < 0.5 else json.dumps(value)


def name(one, dice):
    return one if one.isascii() and dice.random() < 0.3 else quoted(one, dice)


def quoted(text, dice):
    mark = dice.choice("\"'")
    written = json.dumps(text, ensure_ascii=dice.random() < 0.5)[1:-1]
    if mark == "'":
        written = written.replace('\\"', '"').replace("'", "\\'")
    return mark + (written.replace("\\n", "\n") if dice.random() < 0.5 and "\\\\" not in written else written) + mark


@given(st.integers(0, 1 << 32))
@settings(max_examples=300)
def test_a_value_written_sloppily_comes_back_as_it_was(seed):
    dice = random.Random(seed)
    value = [document(dice, 3)]
    text = sloppy(value, dice)
    made = mend(text + dice.choice(["", " ", " so it is"]), 0)
    assert made is not None, text
    assert repr(loads(made.text.encode())) == repr(value), text
    assert not made.closed


ODD = st.lists(
    st.sampled_from(
        [*"{}[]:,\"' \n\\", "a", "b c", "12", "3", "-", "true", "None", "//", "#", "/*", "*/", "x\n", '": "']
    ),
    max_size=24,
)


def assert_says_the_same(text, mended):
    """Each scalar of *mended* stands in *text*, in order, and nothing but punctuation stands between."""
    text, positions = text.replace("\\", ""), {0}
    for found in STRICT.finditer(mended):
        word = found[0]
        inner = word[1:-1].replace("\\n", "\n").replace("\\", "") if word[0] == '"' else word
        forms = {inner, {"true": "True", "false": "False", "null": "None"}.get(word, inner)}
        positions = {
            at + len(form)
            for form in forms
            for at in range(len(text) + 1)
            if text.startswith(form, at)
            and any(BETWEEN.fullmatch(text, start, at) for start in positions if start <= at)
        }
        assert positions, (text, mended, word)
    assert any(BETWEEN.fullmatch(text, start) for start in positions), (text, mended)


@given(ODD)
@settings(max_examples=500)
def test_no_scalar_is_invented_or_lost(pieces):
    text = "[" + "".join(pieces)
    made = mend(text, 0)
    if made is not None:
        try:
            loads(made.text.encode())
        except ValueError:
            return
        assert_says_the_same(text[: made.end], made.text)


@given(st.integers(0, 1 << 32))
def test_a_beginning_becomes_a_beginning(seed):
    """However much of a document has come: what is made of it is what had come of it."""
    dice = random.Random(seed)
    value = [document(dice, 3)]
    text = json.dumps(value)
    for end in range(1, len(text)):
        if (made := mend(text[:end], 0)) is not None:
            assert made.closed
            assert begins(loads(made.text.encode()), value, cut=made.cut), text[:end]


def begins(part, whole, *, cut):
    if isinstance(part, str) and isinstance(whole, str):
        return whole.startswith(part) if cut else part == whole
    if type(part) is not type(whole):
        return False
    if isinstance(part, dict):
        if list(part) != list(whole)[: len(part)]:
            return False
        part, whole = list(part.values()), list(whole.values())
    if isinstance(part, list):
        return len(part) <= len(whole) and (
            not part or (part[:-1] == whole[: len(part) - 1] and begins(part[-1], whole[len(part) - 1], cut=cut))
        )
    return part == whole
