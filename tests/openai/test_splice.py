"""Fields are changed, and nothing else."""

from __future__ import annotations

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from guardproxy.openai.splice import DROP, splice
from guardproxy.openai.strict import dumps, loads

NAMES = st.sampled_from(["model", "mode", "temperature", "max_tokens", 'mo"del', "modé", "", "a\\b", '"model":"x"'])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | NAMES
    | st.sampled_from(['","model":"x', '\\"model\\":', "é😀\x7f", "\\", '"', "model"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))
STYLES = st.tuples(st.booleans(), st.sampled_from([None, 0, 2]), st.sampled_from([(",", ":"), (" , ", " : ")]))


@given(
    st.dictionaries(NAMES, VALUES, max_size=5),
    st.dictionaries(NAMES, VALUES | st.just(DROP), max_size=4),
    STYLES,
    st.booleans(),
)
def test_splice_is_update(doc, changes, style, padded):
    """However the body was written: decoded, the result is the document with the changes made, and no more."""
    ascii_, indent, separators = style
    body = json.dumps(doc, ensure_ascii=ascii_, indent=indent, separators=separators).encode()
    if padded:
        body = b" \n" + body + b"\t "
    result = splice(body, doc, changes)
    expected = {name: value for name, value in {**doc, **changes}.items() if value is not DROP}
    assert loads(result) == expected
    for name, value in loads(result).items():  # 1 is no true, and 1.0 no 1
        assert type(value) is type(expected[name])
    if all(name in doc and changes[name] is not DROP and same(doc[name], changes[name]) for name in changes):
        assert result is body


def same(one, other):
    return type(one) is type(other) and one == other


def test_the_rest_of_the_bytes_stays():
    """Numbers, escapes, blanks and order of everything else reach the model as the caller wrote them."""
    body = b'{ "seed" : 12345678901234567890123 ,"model" :  "a" , "x":1.50, "y":1E5,"z":"caf\\u00e9 \\ud55c"}'
    changed = splice(body, loads(body), {"model": "b", "mode": "fast"})
    assert changed == b'{"mode":"fast",' + body[1:].replace(b'"a"', b'"b"')


@given(
    st.sampled_from(["content", "model2", "mode"]),
    st.text("az09 \n\t\\/é한😀{}[]:,", max_size=12),
    st.integers(-(10**30), 10**30) | st.text("az\\é한", max_size=5),
)
def test_the_bytes_around_stay(other, text, value):
    """Whatever stands before and behind the changed value is there afterwards, byte for byte."""
    written = json.dumps(text, ensure_ascii=False)
    head = f'{{"{other}" : [{written}, 1.0], "model"  :\t'.encode()
    tail = b' ,"last":1E2 }'
    for old in (b'"a"', b"-1.5e3", b"true", b"null", b'"\\"}{"', b'""'):
        body = head + old + tail
        if loads(old) != value:
            assert splice(body, loads(body), {"model": value}) == head + dumps(value) + tail


@pytest.mark.parametrize(
    "body, field",
    [
        (b'{"a":{"model":"inner"},"model":"outer"}', "outer"),
        (b'{"a":"\\"model\\":1","model":"outer"}', "outer"),
        (b'{"mod\\u0065l":"outer"}', "outer"),
        (b'{"mod\\u0065l":"outer","a":{"model":"inner"}}', "outer"),
        (b'{"a\\"model":"decoy","mod\\u0065l":"outer"}', "outer"),
        (b'{"a\\"model":"decoy","model":"outer"}', "outer"),
        (b'{"a":"model","model":"outer"}', "outer"),
        (b'{"model":["outer"]}', ["outer"]),
        (b'{"model":{"model":"outer"}}', {"model": "outer"}),
    ],
)
def test_the_right_one_of_those_that_look_alike(body, field):
    """Nested, escaped and quoted namesakes are not taken for the field at the top."""
    doc = loads(body)
    assert doc["model"] == field
    assert loads(splice(body, doc, {"model": "new"})) == {**doc, "model": "new"}
    assert loads(splice(body, doc, {"model": DROP})) == {k: v for k, v in doc.items() if k != "model"}


def test_an_infinite_number_survives():
    """A body that is written anew never holds what JSON cannot say."""
    body = b'{"x":1e999,"model":["a"]}'
    changed = splice(body, loads(body), {"model": "b"})
    assert loads(changed) == {"x": 10**400, "model": "b"}
    assert repr(DROP) == "DROP"
