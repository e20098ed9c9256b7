"""Everything that shapes an answer is in the key, and so is whoever must not see it."""

from __future__ import annotations

import json
import re
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


WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "strict": True, "parameters": WEATHER}}
WHOLE: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "be brief", "name": "boss"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f", "filename": "a.pdf", "file_data": "JVBERg=="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "audio": {"id": "audio_1"},
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
    ],
    "model": "creative",
    "audio": {"voice": "alloy", "format": "mp3"},
    "frequency_penalty": 0.5,
    "function_call": {"name": "f"},
    "functions": [{"name": "f", "parameters": WEATHER}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 20,
    "max_tokens": 20,
    "metadata": {"team": "a"},
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": [{"type": "text", "text": "a rose"}]},
    "presence_penalty": 0.25,
    "prompt_cache_key": "p",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {"name": "w", "strict": True, "schema": WEATHER}},
    "safety_identifier": "s",
    "seed": 7,
    "service_tier": "flex",
    "stop": ["a", "b"],
    "store": False,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "temperature": 0.75,
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "tools": [
        TOOL,
        {"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": {"syntax": "lark"}}}},
    ],
    "top_logprobs": 3,
    "top_p": 0.5,
    "user": "u",
    "verbosity": "low",
    "web_search_options": {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": {"city": "Paris", "country": "FR"}},
    },
}
"""A request that uses every property of the API, down to the last."""


def _changed(value: Any) -> list[Any]:
    """Everything that *value* could have been with one thing in it changed, left out, put in or moved."""
    if isinstance(value, dict):
        made: list[Any] = [{**value, "x-unknown": 1}]
        for name, inner in value.items():
            made.append({other: one for other, one in value.items() if other != name})
            made += [{**value, name: one} for one in _changed(inner)]
        if len(value) > 1:
            made.append(dict(reversed(value.items())))
        return made
    if isinstance(value, list):
        made = [[*value, "x"], value[1:]]
        if len(value) > 1:
            made.append(value[::-1])
        return made + [[*value[:at], one, *value[at + 1 :]] for at in range(len(value)) for one in _changed(value[at])]
    if isinstance(value, bool):
        return [not value, int(value), None]
    if isinstance(value, int | float):
        return [value + 1, float(value) if isinstance(value, int) else value / 2, str(value), None]
    return ["", 0] if value is None else [f"{value} ", value.upper() if value.islower() else "other", None]


def test_every_property_at_every_depth():
    """Whatever is changed anywhere in the largest request there is, it is another call, or is on the published list."""
    assert WHOLE.keys() == completion_create_params.CompletionCreateParamsStreaming.__annotations__.keys()
    make, call = Identity(VARY), _call(json.dumps(WHOLE).encode())

    def keyed(doc):
        return make(replace(call, doc=doc, body=json.dumps(doc).encode()), TARGET)

    base, seen, changes = keyed(WHOLE), set(), 0
    for name, value in WHOLE.items():
        changed = [{**WHOLE, name: one} for one in _changed(value)]
        changed.append({other: one for other, one in WHOLE.items() if other != name})
        for doc in changed:
            if name in ASIDE:
                assert keyed(doc) == base, doc[name]
            else:
                seen.add(keyed(doc))
                changes += 1
    assert len(seen) == changes > 300
    assert base not in seen


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


def _spelled(value: Any) -> st.SearchStrategy[str]:
    """Every way in which JSON can say *value*, blanks among them."""
    blank = st.sampled_from(["", "", " ", "\n", "\t \r"])
    if isinstance(value, dict):
        pairs = [
            st.tuples(_spelled(name), blank, _spelled(one)).map("{0[0]}{0[1]}:{0[2]}".format)
            for name, one in value.items()
        ]
        return st.tuples(blank, st.tuples(*pairs).map(",".join), blank).map("".join).map("{{{}}}".format)
    if isinstance(value, list):
        return st.tuples(blank, st.tuples(*map(_spelled, value)).map(", ".join)).map("".join).map("[{}]".format)
    if isinstance(value, str):
        escape = [json.dumps(value), json.dumps(value, ensure_ascii=False)]
        return st.sampled_from([*escape, '"' + "".join(f"\\u{ord(letter):04x}" for letter in value) + '"'])
    if isinstance(value, float):
        return st.sampled_from([repr(value), f"{value:.3e}", f"{value}0"] if value else ["0.0", "-0", "0E1", "-0.0"])
    return st.just(json.dumps(value))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.sampled_from([0.0, 0.5, 2.25])
    | st.text(st.sampled_from('a"\\/\n\x1f é{,'), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", 'b"', "{"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
SAID = st.dictionaries(st.sampled_from(["a", "b", "c,", "stream", '"\\']), VALUES, max_size=4)
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+')


def _fields(body: bytes) -> dict[str, bytes]:
    """The fields of a body as they are written, by a reader of another kind: one token after another."""
    fields: dict[str, list[bytes]] = {}
    depth, name, named = 0, "", False
    for token in TOKEN.findall(body):
        depth += (token in b"{[") - (token in b"}]")
        if depth == 1 and token == b",":
            named = False
        elif depth == 1 and token.startswith(b'"') and not named:
            name, named = json.loads(token), True
            fields[name] = []
        elif named and depth:
            fields[name].append(token)
    return {name: b"".join(tokens[1:]) for name, tokens in fields.items()}


def _canonical(body: bytes, aside: frozenset[str] = frozenset()) -> bytes:
    return canonical(body, loads(body), aside)


@given(st.data())
def test_as_it_is_written(data):
    """Two bodies are one saying if and only if every value is written alike, whatever the order at the top."""
    doc = data.draw(SAID)
    one = data.draw(_spelled(doc)).encode()
    other = data.draw(_spelled(dict(reversed(doc.items())))).encode()
    alike = _fields(one) == _fields(other)
    assert (_canonical(one) == _canonical(other)) is alike
    without = [{n: v for n, v in _fields(body).items() if n != "stream"} for body in (one, other)]
    assert (_canonical(one, frozenset({"stream"})) == _canonical(other, frozenset({"stream"}))) is (
        without[0] == without[1]
    )


@given(SAID, st.data())
def test_what_is_canonical_can_be_read(doc, data):
    """It says what the body said, by either way of writing it."""
    assert loads(_canonical(json.dumps(doc).encode())) == doc
    assert loads(_canonical(data.draw(_spelled(doc)).encode())) == loads(json.dumps(doc).encode())


@pytest.mark.parametrize(
    "one, other",
    [
        ("0.7", "0.70"), ("1", "1.0"), ("1.0", "1e0"), ("1e0", "1E0"), ("1e5", "100000.0"), ("0", "-0"),
        ("1e16", "1e+16"), ('"\\""', '"\\u0022"'), ('"\\\\"', '"\\u005c"'), ('{"a":1}', '{"\\u0061":1}'),
        ('"A"', '"\\u0041"'), ('"/"', '"\\/"'), ('"\\n"', '"\\u000a"'), ('"\\u001f"', '"\\u001F"'),
        ('"é"', '"\\u00e9"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ['{"model":"creative","a":%s}', '{"a":{"b":[true,%s,"x"]},"model":"creative"}'])
def test_numbers_and_strings_as_written(one, other, where):
    """What one engine reads alike another may not: another spelling is another call, wherever it stands."""
    assert loads(one.encode()) == loads(other.encode())
    keys = {key((where % said).encode()) for said in (one, other, f" {one} ")}
    assert len(keys) == 2


def test_the_same_bytes_are_not_read_again(monkeypatch):
    """A body that was answered is known by its bytes, in any dialect for itself; a large one is not held on to."""
    make, read = Identity(VARY), []

    def noted(body, doc, aside):
        read.append(doc)
        return canonical(body, doc, aside)

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
