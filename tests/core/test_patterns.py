"""What a pattern takes is seen before it is made ready."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.jsonschema import InvalidSchema
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.patterns import look, plain


@pytest.mark.parametrize(
    "pattern, turns, backtracks",
    [
        (r"^arn:.{16,2044}$", 2050, False),
        (r"((.{1,100}){1,100}){1,10}", 100_000, False),
        (r"^(a|aa)+\1$", 7, True),
        (r"(?<n>a{3})\k<n>", 7, True),
        (r"^(?=(a|b)*$)(a|aa)+$", 10, False),
        (r"(?:(?!x)(a|aa))+b", 6, True),
        (r"^(?!\s*$).+", 4, False),
        (r"^(a+)+$", 3, False),
        (r"[a-z\]{2}]{3}", 3, False),
        (r"[]a]{4}", 4, False),
        (r"\\{3}", 3, False),
        (r"(?:ab){2,}", 4, False),
        (r"(?i:a){3}?", 3, False),
        (r"a{99999999999999}", 999_999_999, False),
        ("(", 0, False),
        (")", 1, False),
        ("", 0, False),
    ],
)
def test_turns_and_tries(pattern, turns, backtracks):
    """Counted repetitions multiply where they are nested; classes, escapes and groups are seen as such."""
    assert look(pattern) == (turns, backtracks)


@given(st.text(alphabet=r"ab()[]{}\1?*+|^$!=<,:-", max_size=40))
def test_any_text_can_be_looked_at(text):
    """Whatever it is, and however unlike a pattern."""
    found = look(text)
    assert found.turns >= 0
    plain(text)


@pytest.mark.parametrize("pattern", [r"^arn:.{16,2044}$", r"[\S]{1,2048}", r"(?=.{1,1024}$)(https)://([^/]+)/(.+)"])
def test_long_texts_are_allowed(pattern):
    """As published schemas bound them."""
    assert compile_schema({"pattern": pattern}).heft == 1


@pytest.mark.parametrize("count", [1, 90])
def test_patterns_that_take_seconds_are_refused(count):
    """One, or all together."""
    each = "((.{1,100}){1,100}){1,101}" if count == 1 else ".{1,12000}"
    with pytest.raises(InvalidSchema) as wrong:
        compile_schema({"properties": {str(n): {"pattern": each} for n in range(count)}})
    assert wrong.value.code == "schema_too_deep"


@pytest.mark.parametrize(
    "pattern, fits, fails",
    [
        (r"^[\w-.]+$", "a-b.c", "a b"),
        (r"^[\w-\.\+]+@([\w-]+\.)+[\w-]{2,4}$", "a-b+c@d-e.org", "a@b"),
        (r"^[a-z\s-_()]+$", "a - _ ()", "A"),
        (r"^[.-\w]+$", "a.-b", "a b"),
        (r"^\w-\d$", "a-1", "a1"),
        (r"^[\\w-z]+$", "\\x", "-"),
    ],
)
def test_dashes_that_are_no_range(pattern, fits, fails):
    """They stand for themselves, and the same text matches as elsewhere."""
    validator = compile_schema({"pattern": pattern, "patternProperties": {pattern: {"type": "null"}}})
    assert validator.is_valid(fits)
    assert not validator.is_valid(fails)
    assert not validator.is_valid({fits: 1})
    assert validator.is_valid({fails: 1})


@pytest.mark.parametrize(
    "pattern, fits, fails",
    [
        (r"^(?<y>\d)(?<m>a)\k<m>\k<y>$", "1aa1", "1aa2"),
        (r"^(?P<y>\d)-(?P=y)$", "1-1", "1-2"),
        (r"^(a)?(?P<y>\d)(?P=y)0$", "110", "100"),
        (r"^a\Z", "a", "ab"),
        ("^[^]{2}$", "\n.", "."),
        (r"^a\0$", "a\0", "a0"),
        ("^{a}$", "{a}", "a"),
        (r"^\p{L}{2}[{}]$", "aä}", "a1}"),
        (r"^[\p{L}\p{N}-_]+$", "aä-_1", "a b"),
        (r"^[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF]+$", "a\U0001f600", "a\n"),
        (r"^[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDBFF-\uDC00\uDFFF\r]+$", "aä\r", "a\n"),
        (r"^\uD83D\uDE00$", "\U0001f600", "x"),
        (r"^[{]\{\}$", "{{}", "{}"),
    ],
)
def test_dialects_of_patterns(pattern, fits, fails):
    """What JavaScript, Python or Java write otherwise and nobody means otherwise is taken for what it means."""
    validator = compile_schema({"pattern": pattern})
    assert (validator.is_valid(fits), validator.is_valid(fails)) == (True, False)


@pytest.mark.parametrize("pattern", ["x{,3}", "(a", r"\h", "(?(1)a|b)"])
def test_patterns_of_which_nobody_knows(pattern):
    """What is none, or means one thing to one and another to the next, is refused."""
    with pytest.raises(InvalidSchema, match="regex"):
        compile_schema({"pattern": pattern})
