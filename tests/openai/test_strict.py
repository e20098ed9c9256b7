"""JSON that means the same to every reader, or none."""

from __future__ import annotations

import json
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.openai.strict import dumps, exact, is_finite, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('aé\x00"', max_size=3), inner, max_size=4),
    max_leaves=15,
)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{} {}",
        b'{"a":1,}',
        b"[1,]",
        b"01",
        b"1.",
        b".5",
        b"'a'",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"b":1}}',
        b'{"a":1,"\\u0061":2}',
        b'"\\ud800"',
        b'"\\udc00x"',
        b'{"\\ud800":1}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\x00"',
        b"\xef\xbb\xbf{}",
        b"[" * 250 + b"]" * 250,
        b'{"a":' * 100_000,
        b"1" * 5000,
        b"tru",
        b"undefined",
    ],
)
def test_refused(text):
    """What two readers could understand in two ways, and what could take one of them down."""
    with pytest.raises(ValueError, match=r"line \d+ column"):
        loads(text)


@pytest.mark.parametrize(
    "text, value",
    [
        (b'{"a":[1,2.5,null,true,"x"]}', {"a": [1, 2.5, None, True, "x"]}),
        (b" \t\r\n1 ", 1),
        (b'"\\ud83d\\ude00"', "😀"),
        (b'"\\u0000"', "\0"),
        (b"12345678901234567890123", 12345678901234567890123),
        (b"9007199254740993", 9007199254740993),
        (b"1E5", 100000.0),
        (b"[" * 200 + b"]" * 200, eval("[" * 199 + "[]" + "]" * 199)),  # noqa: S307 -- 200 brackets
    ],
)
def test_read(text, value):
    """What is JSON is read, whole numbers exactly."""
    assert loads(text) == value


@given(VALUES)
def test_what_is_read_can_be_written(value):
    """Whatever the standard library writes is read as the same, and written as the same."""
    if is_finite(value):
        text = json.dumps(value).encode()
        assert loads(text) == value
        assert loads(dumps(value)) == value
        assert loads(exact(value)) == value
    else:
        assert loads(exact(value)) is not None


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data):
    """A `ValueError` or a value: nothing that anybody sends is a 500."""
    try:
        value = loads(data)
    except ValueError:
        return
    assert loads(exact(value)) == value


def test_numbers_beyond_every_double():
    """1e999 is infinite to all readers; written again it is still, and never the word Infinity."""
    value = loads(b'{"a":[1e999,-1e999]}')
    assert value == {"a": [math.inf, -math.inf]}
    assert not is_finite(value)
    assert b"nf" not in exact(value)
    assert [float(str(number) + ".0") for number in json.loads(exact(value))["a"]] == [math.inf, -math.inf]
