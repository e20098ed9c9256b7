"""YAML is read strictly, within bounds, with the line of everything; variables are put in before types are found."""

import pytest

from guardproxy.config import text
from guardproxy.config.load import Invalid, loads
from guardproxy.config.tree import Problems, plain


def read(source, env=None):
    problems = Problems()
    tree = text.parse(source, "f", env or {}, problems)
    problems.check()
    return plain(tree)


def wrong(source, env=None):
    with pytest.raises(Invalid) as caught:
        read(source, env)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "word, value",
    [
        ("1", 1), ("-1", -1), ("1_000", 1000), ("0x1F", 31), ("0o17", 15), ("010", "010"), ("1.5", 1.5),
        (".5", 0.5), ("1.", 1.0), ("true", True), ("Yes", True), ("off", False), ("~", None), ("", None),
        ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("'1'", "1"), ('"true"', "true"),
        ("!!str 1", "1"), (".inf", float("inf")), ("9" * 500, "9" * 500), ("e3", "e3"),
        ("1e3", 1000.0), ("null", None), ("x", "x"),
    ],
)  # fmt: skip
def test_words_have_the_types_of_json(word, value):
    """Dates, times and old octal numbers stay text; `yes` and `off` are truths."""
    got = read(f"a: {word}")["a"]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    "source, said",
    [
        ("a: 1\na: 2", "f:2: a: written twice; first in line 1"),
        ("a: {b: 1, b: 2}", "f:1: a.b: written twice"),
        ("a: 1\n---\nb: 2", "f:2: a second document begins here"),
        ("1: x", "f:1: a key has to be text; put '1' in quotes"),
        ("yes: x", "put 'yes' in quotes"),
        ("[a]: x", "a key has to be text"),
        ("a: &x {b: 1}\nc: {<<: *x}", "merge keys (<<) are not read"),
        ("a: !!python/object:os.system x", "f:1: a: the tag tag:yaml.org,2002:python/object:os.system means nothing"),
        ("a: !thing {}", "the tag !thing means nothing"),
        ("a: *x", "f:1: a: there is no &x before"),
        ("a: &x [*x]", "*x stands inside itself"),
        ("a: [1", "f:1: not YAML"),
        ("a: b: c", "f:1: not YAML"),
        ("a: 1\nb: \x01", "f:2: not YAML"),
        ('a: "\\ud800"', "f:1: a: holds half a character"),
        ('a: "\\UFFFFFFFF"', "not YAML"),
        ('"a\\nb": 1', "a key has to be printable text"),
    ],
)
def test_what_is_refused(source, said):
    assert said in wrong(source)[0]


def test_aliases_repeat_a_value():
    assert read("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_an_alias_bomb_is_refused():
    """A billion laughs are ten lines of text."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "more than 100000 values" in wrong("\n".join(lines))[-1]


def test_nesting_is_bounded():
    assert "more than 100 levels" in wrong("[" * 5000)[-1]
    assert "more than 100 levels" in wrong("a: " + "{a: " * 5000)[-1]


def test_size_is_bounded():
    assert "larger than 4 MiB" in wrong("#" * (5 << 20))[0]


def test_variables_are_put_in_before_types_are_found():
    env = {"N": "7", "T": "true", "EMPTY": "", "S": "a b"}
    assert read("{a: '${N}', b: x}", env) == {"a": "7", "b": "x"}
    assert read("a: ${N}\nb: ${T}\nc: ${EMPTY:-5}\nd: ${NO:-x}\ne: ${NO:-}\nf: <${S}>", env) == {
        "a": 7, "b": True, "c": 5, "d": "x", "e": None, "f": "<a b>",
    }  # fmt: skip


def test_quotes_around_a_variable_do_not_make_a_number_text():
    """Inside `{…}` YAML needs quotes around `${…}`; what the setting wants decides."""
    loaded = loads("health: {rise: '${N}', prompt: '${N}'}\nadmin_token: '${NO:-}'", env={"N": "7"})
    assert loaded.config.health.rise == 7
    assert loaded.config.health.prompt == "7"
    assert loaded.config.admin_token is None


def test_a_variable_without_quotes_may_be_text_of_digits():
    """A token that happens to be a number is still a token."""
    assert loads("admin_token: ${T}", env={"T": "12345"}).config.admin_token == "12345"


def test_dollars_are_escaped():
    assert read("a: $${X}\nb: $5\nc: ${X:-$}", {}) == {"a": "${X}", "b": "$5", "c": "$"}


@pytest.mark.parametrize("word", ["${NO}", "${}", "${1A}", "${A", "${A:-${B}}", "${A-b}"])
def test_what_is_no_variable_is_a_problem(word):
    said = wrong(f"a:\n  - {word}\n")
    assert len(said) == 1
    assert said[0].startswith("f:2: a[0]: ")
    assert "NO is not set" in said[0] or "is no variable" in said[0]
