"""Everything that shapes an answer is in the key, and so is whoever must not see it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import completion_create_params

from guardproxy.config import registry
from guardproxy.core.values import Call, Schema, Target
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.openai import identity
from guardproxy.openai.identity import Identity, canonical
from guardproxy.openai.strict import loads
from tests.flow.playbook import House

BODY = b'{"model":"creative","messages":[]}'
VARY = ("authorization", "x-api-key", "api-key", "openai-organization", "openai-project", "cookie")


def _call(body: bytes = BODY) -> Call:
    call = House().read(body)
    assert isinstance(call, Call)
    return call


def key(body: bytes | dict[str, Any], target: Target | None = None) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Identity(VARY)(_call(text), target or TARGET)


CALL = _call()
TARGET = Target("llama", "llama-id", "creative")
VARIANTS: list[tuple[Call, Target]] = [
    (CALL, TARGET),
    (replace(CALL, path="/v1/completions"), TARGET),
    (replace(CALL, query="a=1"), TARGET),
    (_call(BODY.replace(b"[]", b"[1]")), TARGET),
    (_call(BODY.replace(b"[]", b"null")), TARGET),
    (replace(CALL, schema=Schema("s", None, b"1")), TARGET),
    (replace(CALL, schema=Schema("s", None, b"2")), TARGET),
    *[
        (replace(CALL, headers=[(name, value)]), TARGET)
        for name in (b"Authorization", b"X-Api-Key", b"api-key", b"OpenAI-Organization", b"OpenAI-Project", b"Cookie")
        for value in (b"a", b"b")
    ],
    (replace(CALL, headers=[(b"cookie", b"a"), (b"cookie", b"b")]), TARGET),
    (CALL, replace(TARGET, upstream="qwen")),
    (CALL, replace(TARGET, model="other-id")),
    (CALL, replace(TARGET, mode="balanced")),
    (replace(CALL, named_mode=False), TARGET),
    (replace(CALL, path="/v1", query="/chat/completions"), TARGET),
    (replace(CALL, method="PUT"), TARGET),
    (CALL, replace(TARGET, params={"temperature": 1})),
    (CALL, replace(TARGET, caps={"temperature": 1})),
]


def test_every_difference_is_another_entry():
    """Path, query, body, tenant, schema, upstream, model, mode: no two of them share an answer."""
    key = Identity(VARY)
    for one, other in combinations(VARIANTS, 2):
        assert key(*one) != key(*other), (one, other)


def test_what_is_no_difference():
    """Header fields that tell no tenants apart, and why a call was moved, are no part of the key."""
    key = Identity(VARY)
    same = replace(CALL, id="other", headers=[(b"User-Agent", b"x"), (b"X-Request-Id", b"y")])
    assert key(same, TARGET) == key(CALL, TARGET)
    moved = replace(TARGET, moved_from="high", reason="a")
    assert key(CALL, moved) == key(CALL, replace(moved, reason="b"))
    assert Identity(())(*VARIANTS[7]) == Identity(())(*VARIANTS[8])
    assert isinstance(key(replace(CALL, query="\udcff"), TARGET), bytes)


@given(
    st.lists(st.tuples(st.sampled_from([b"cookie", b"api-key"]), st.binary(max_size=3)), max_size=3),
    st.lists(st.tuples(st.sampled_from([b"cookie", b"api-key"]), st.binary(max_size=3)), max_size=3),
)
def test_no_two_lists_of_tenant_fields_read_the_same(one, other):
    """However the bytes are shared out among fields, other fields are another tenant."""
    key = Identity(VARY)
    keys = [key(replace(CALL, headers=headers), TARGET) for headers in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)


def test_another_server_under_the_same_name():
    """What a model at another address said is not what this one would say: sidecars may share what they keep."""
    one, other = Identity(VARY, {"llama": "http://a"}), Identity(VARY, {"llama": "http://b"})
    assert one(CALL, TARGET) != other(CALL, TARGET)


# -- the body

CHANGES: dict[str, list[Any]] = {
    "model": ["llama-alias"],
    "messages": [[{"role": "user", "content": "x"}], None],
    "stream": [True, False],
    "stream_options": [{"include_usage": True}],
    "response_format": [{"type": "text"}],
    "n": [1, 2],
}
"""Values for properties that may not have just any."""
DOCS_ = Path(__file__).parents[2] / "docs"
ASIDE = CHAT.aside | {"model"}


def test_every_property_of_the_public_request():
    """Each property of the chat request that the OpenAI SDK knows changes the key, or is on the published list."""
    properties = set(completion_create_params.CompletionCreateParamsStreaming.__annotations__)
    assert len(properties) > 30
    assert properties >= {"messages", "tools", "response_format", "seed", "user", "stop", "logprobs"}
    doc = {"model": "llama", "messages": []}
    base = key(doc)
    for name in properties:
        values = CHANGES.get(name, ["a", 1, None])
        keys = {key({**doc, name: value}) for value in values}
        assert len(keys) == (1 if name in ASIDE else len(values)), name
        assert (base in keys) is (name in ASIDE), name


def test_the_list_is_published():
    """docs/cache.md names every field that is left out, and no other."""
    text = (DOCS_ / "cache.md").read_text()
    listed = text.split("<!-- aside -->")[1]
    for dialect in registry.dialects():
        for name in dialect.aside:
            assert f"`{name}`" in listed, (dialect.name, name)


def test_what_is_never_on_it():
    """Who is asking, and what makes a server keep something apart, is never left out."""
    assert ASIDE.isdisjoint({"user", "safety_identifier", "prompt_cache_key", "cache_salt", "seed", "n", "tools"})


@pytest.mark.parametrize(
    "one, other",
    [
        (b'{"model":"creative","seed":9007199254740992}', b'{"model":"creative","seed":9007199254740993}'),
        (b'{"model":"creative","seed":18446744073709551616}', b'{"model":"creative","seed":18446744073709551617}'),
        (b'{"model":"creative","seed":1}', b'{"model":"creative","seed":1.0}'),
        (b'{"model":"creative","seed":1}', b'{"model":"creative","seed":"1"}'),
        (b'{"model":"creative","seed":0}', b'{"model":"creative","seed":-0.0}'),
        (b'{"model":"creative","seed":true}', b'{"model":"creative","seed":1}'),
        (b'{"model":"creative","seed":null}', b'{"model":"creative","seed":1e999}'),
        (b'{"model":"creative","seed":null}', b'{"model":"creative"}'),
        (b'{"model":"creative","stop":"a"}', b'{"model":"creative","stop":"a "}'),
        (b'{"model":"creative","stop":"\xc3\xa9"}', b'{"model":"creative","stop":"e\xcc\x81"}'),
        (b'{"model":"creative","tools":[{"a":1,"b":2}]}', b'{"model":"creative","tools":[{"b":2,"a":1}]}'),
        (b'{"model":"creative","stop":["a","b"]}', b'{"model":"creative","stop":["b","a"]}'),
        (b'{"model":"creative","x":{"stream":true}}', b'{"model":"creative","x":{}}'),
    ],
)
def test_what_is_not_made_alike(one, other):
    """Numbers of any size, kinds of values, text, and every order below the top."""
    assert key(one) != key(other)


@pytest.mark.parametrize(
    "other",
    [
        b'{"seed":1,"messages":[],"model":"creative"}',
        b'{ "model" : "creative",\n"messages":[ ], "seed":1}',
        b'{"model":"creative","messages":[],"seed":1,"stream":true,"stream_options":{"include_usage":true}}',
        b'{"model":"creative","messages":[],"seed":1,"stream":false,"metadata":{"a":"b"},"store":false}',
        b'{"mod\\u0065l":"creative","messages":[],"seed":1}',
    ],
)
def test_what_is_the_same_saying(other):
    """The order of the fields, blanks between them, and what cannot shape the answer."""
    assert key(b'{"model":"creative","messages":[],"seed":1}') == key(other)


def test_the_name_by_which_the_model_was_called():
    """An alias and the model's id are one call where the target says which model it is; else the name counts."""
    one, other = _call(b'{"model":"llama"}'), _call(b'{"model":"llama-alias"}')
    make = Identity(VARY)
    assert make(one, TARGET) == make(other, TARGET)
    assert make(one, replace(TARGET, model="")) != make(other, replace(TARGET, model=""))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
DOCS = st.dictionaries(st.text(max_size=2), JSON, max_size=4)


def _text(value: Any) -> str:
    """All that counts of a value, in words of Python's own."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{name!r}:{_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return f"{type(value).__name__} {value!r}"


@given(DOCS, DOCS)
def test_the_same_text_is_the_same_saying(one, other):
    """Two bodies read alike if and only if every value is alike, whatever the order at the top."""
    alike = {name: _text(value) for name, value in one.items()} == {n: _text(v) for n, v in other.items()}
    assert (canonical(one, frozenset()) == canonical(other, frozenset())) is alike
    assert canonical(one, frozenset()) == canonical(dict(reversed(one.items())), frozenset())


@given(DOCS)
def test_what_is_canonical_can_be_read(doc):
    """It says what the body said."""
    again = loads(canonical(doc, frozenset()))
    assert {n: _text(v) for n, v in again.items()} == {n: _text(v) for n, v in doc.items()} or "inf" in _text(doc)


def test_the_same_bytes_are_not_read_again(monkeypatch):
    """A body that was answered is known by its bytes, in any dialect for itself; a large one is not held on to."""
    make, read = Identity(VARY), []

    def noted(doc, aside):
        read.append(doc)
        return canonical(doc, aside)

    monkeypatch.setattr(identity, "canonical", noted)
    for _ in range(3):
        make.remember(make(_call(), TARGET))
    assert len(read) == 1
    make(replace(_call(), dialect=None), TARGET)
    make(_call(), replace(TARGET, model=""))
    assert len(read) == 3
    large = b'{"model":"creative","x":"%b"}' % (b"x" * identity.SMALL)
    for _ in range(2):
        make.remember(make(_call(large), TARGET))
    assert len(read) == 5


def test_only_the_key_that_was_made_last_is_remembered():
    """Or the bytes of one call would lead to the answer of another."""
    make = Identity(VARY)
    one, other = make(_call(), TARGET), make(_call(), replace(TARGET, mode="fast"))
    make.remember(one)
    assert make(_call(), replace(TARGET, mode="fast")) == other != one
    assert make(_call(), TARGET) == one


def test_what_is_remembered_is_bounded():
    """However many bodies come, and however many names of header fields."""
    make = Identity(VARY)
    for seed in range(2000):
        make.remember(make(_call(b'{"model":"creative","seed":%d,"x":"%b"}' % (seed, b"x" * 4000)), TARGET))
        make(replace(CALL, headers=[(b"X-%d" % seed, b"")]), TARGET)
    assert sum(len(which[0]) for which in {**make._young, **make._seen}) < 2 * identity.REMEMBERED
    assert len(make._others) == identity._NAMES


def test_what_is_of_use_again_and_again_is_remembered_once():
    """However often one answer is shown, it does not push the others out."""
    make = Identity(VARY)
    first = make(_call(), TARGET)
    for _ in range(3):
        make.remember(make(_call(), TARGET))
    assert (make._size, len(make._young)) == (len(BODY) + len(next(iter(make._young))[1]) + identity._EACH, 1)
    assert make(_call(), TARGET) == first
