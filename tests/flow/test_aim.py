"""Turning a call to where it goes: what is rewritten on the way, and what is not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from guardproxy.core.values import Call, Record, Schema, Target
from guardproxy.flow.aim import Aim, Outfit, more_room
from guardproxy.guards.modes import Mode
from tests.flow.playbook import SCHEMA, House

AIM = Aim({})
FAST = Target("qwen", "qwen-id", "fast", {"temperature": 0.3}, {"max_tokens": 512})


def call(doc: dict | None = None, *headers: tuple[str, str], target: str = "/v1/chat/completions") -> Call:
    got = House().read(json.dumps(doc or {"model": "fast"}).encode(), headers=headers, target=target)
    assert isinstance(got, Call)
    return got


def sent(doc: dict, target: Target = FAST, aim: Aim = AIM) -> dict:
    body = json.loads(aim(call(doc), target).body)
    assert isinstance(body, dict)
    return body


def named(headers: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def test_nothing_to_rewrite():
    """The same bytes go on as the same object."""
    one = call({"model": "qwen-id", "temperature": 1})
    assert AIM(one, Target("qwen", "qwen-id", "fast", FAST.params, FAST.caps)).body is one.body
    one = call({"model": "anything", "mode": "fast"})
    assert AIM(replace(one, mode_in="field", named_mode=False), Target("qwen", mode="fast")).body is one.body


@pytest.mark.parametrize(
    "doc, has, lacks",
    [
        ({"model": "fast"}, {"model": "qwen-id", "temperature": 0.3, "max_tokens": 512}, ()),
        ({"model": "fast", "temperature": 1}, {"temperature": 1}, ()),
        ({"model": "fast", "temperature": 0}, {"temperature": 0}, ()),
        ({"model": "fast", "temperature": None}, {"temperature": 0.3}, ()),
        ({"model": "fast", "max_tokens": 100}, {"max_tokens": 100}, ()),
        ({"model": "fast", "max_tokens": 1000}, {"max_tokens": 512}, ()),
        ({"model": "fast", "max_completion_tokens": 1000}, {"max_completion_tokens": 512}, ("max_tokens",)),
        ({"model": "fast", "max_completion_tokens": 100}, {"max_completion_tokens": 100}, ("max_tokens",)),
        ({"model": "fast", "max_tokens": -1}, {"max_tokens": 512}, ()),
        ({"model": "fast", "max_tokens": 0}, {"max_tokens": 0}, ()),
        ({"model": "fast", "max_completion_tokens": -2}, {"max_completion_tokens": 512}, ("max_tokens",)),
        ({"model": "fast", "max_tokens": None}, {"max_tokens": 512}, ()),
        ({"model": "fast", "max_tokens": True}, {"max_tokens": 512}, ()),
        ({"model": "qwen"}, {"model": "qwen-id"}, ("temperature", "max_tokens")),
    ],
)
def test_params_and_caps(doc, has, lacks):
    """What the caller wrote beats the mode's params, the mode's caps beat what he wrote; an upstream has neither."""
    body = sent(doc)
    assert has.items() <= body.items()
    assert not set(lacks) & set(body)


def test_a_downshift_brings_params_and_caps():
    """A call that is moved to a mode is a call of that mode."""
    assert sent({"model": "llama"}, replace(FAST, moved_from="creative"))["max_tokens"] == 512
    assert sent({"model": "llama"}, replace(FAST, params={"max_tokens": 9000}, moved_from="x"))["max_tokens"] == 512


@pytest.mark.parametrize(
    "target, doc, has",
    [
        ("/v1/responses", {"input": "x"}, {"temperature": 0.3, "max_output_tokens": 512}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 9000}, {"max_output_tokens": 512}),
        ("/v1/messages", {"messages": [], "max_tokens": 9000}, {"temperature": 0.3, "max_tokens": 512}),
        ("/api/chat", {"messages": []}, {"options": {"temperature": 0.3, "num_predict": 512}}),
        ("/api/chat", {"options": {"num_predict": 3}}, {"options": {"temperature": 0.3, "num_predict": 3}}),
        ("/api/generate", {"options": {"num_predict": 999}}, {"options": {"num_predict": 512, "temperature": 0.3}}),
    ],
)
def test_params_by_another_name(target, doc, has):
    """A mode's parameters go where the dialect has its own, under the name that they have there."""
    body = json.loads(AIM(call({"model": "fast", **doc}, target=target), FAST).body)
    assert has.items() <= body.items()
    assert "max_completion_tokens" not in body
    assert ("temperature" in body) is (not target.startswith("/api"))


def test_a_key_in_two_places():
    """Anthropic's servers look for it in a field of their own; the caller's goes nowhere."""
    aim = Aim({"qwen": Outfit(api_key="k")})
    mine = [("x-api-key", "mine"), ("Authorization", "Bearer mine")]
    headers = aim(call({"model": "fast"}, *mine, target="/v1/messages"), FAST).headers
    assert (named(headers, b"x-api-key"), named(headers, b"authorization")) == ([b"k"], [b"Bearer k"])
    headers = aim(call({"model": "fast"}, *mine), FAST).headers
    assert (named(headers, b"x-api-key"), named(headers, b"authorization")) == ([], [b"Bearer k"])


def test_embeddings_have_no_temperature():
    """A mode's params are for models that write: other calls would be refused for fields that they do not know."""
    body = json.loads(AIM(call({"model": "fast", "input": "x"}, target="/v1/embeddings"), FAST).body)
    assert body == {"model": "qwen-id", "input": "x"}


def test_asked_again_with_other_dice():
    """The dice of a mode fall anew each time a model is asked again, as the caller's do; nothing else of it changes."""
    mode = replace(FAST, params={"temperature": 1.0, "seed": 7, "top_p": 0.9}, caps={})
    bodies = [json.loads(AIM(replace(call(), asked_again=times), mode).body) for times in range(3)]
    assert [(body["temperature"], body["seed"], body["top_p"]) for body in bodies] == [
        (1.0, 7, 0.9),
        (0.5, 8, 0.9),
        (0.25, 9, 0.9),
    ]
    once = json.loads(AIM(replace(call({"model": "fast", "seed": 3}), asked_again=1), mode).body)
    assert (once["seed"], once["temperature"]) == (3, 0.5)  # the caller's own has been changed where it stands


@pytest.mark.parametrize(
    "doc, params, caps, room",
    [
        ({"max_tokens": 50}, {}, {}, {"max_tokens": 200}),
        ({"max_completion_tokens": 50, "max_tokens": 9}, {}, {}, {"max_completion_tokens": 200}),
        ({}, {"max_tokens": 50}, {}, {"max_tokens": 200}),
        ({}, {"max_completion_tokens": 50}, {"max_tokens": 120}, {"max_completion_tokens": 120}),
        ({"max_tokens": 50}, {"max_tokens": 9}, {"max_tokens": 100}, {"max_tokens": 100}),
        ({"max_tokens": 500}, {}, {}, {"max_tokens": 1000}),
        ({}, {}, {}, None),
        ({}, {}, {"max_tokens": 512}, None),
        ({"max_tokens": 100}, {}, {"max_tokens": 100}, None),
        ({}, {"max_tokens": 100}, {"max_completion_tokens": 100}, None),
        ({"max_tokens": 1000}, {}, {}, None),
        ({"max_tokens": True}, {}, {}, None),
    ],
)
def test_more_room(doc, params, caps, room):
    """An answer that was cut gets four times the room it had, whoever bounded it; the mode's caps are heeded."""
    mode = replace(FAST, params=params, caps=caps)
    longer = more_room(call({"model": "fast", **doc}), mode, 1000)
    assert (None if longer is None else {name: longer.doc[name] for name in room or ()}) == room
    if longer is not None:
        body = json.loads(AIM(longer, mode).body)
        assert {name: body[name] for name in room or ()} == room


def test_room_of_a_mode_is_only_for_its_calls():
    """Who asks for an upstream by its name is not bounded by a mode, and gets no more than he had."""
    assert more_room(call({"model": "qwen"}), replace(FAST, params={"max_tokens": 50}), 1000) is None


def test_the_model_that_is_served():
    """Its id replaces what the caller wrote, and is put in where he wrote none; none configured, none put in."""
    assert sent({"mode": "fast"})["model"] == "qwen-id"
    assert sent({"model": "fast"}, replace(FAST, model=""))["model"] == "fast"


@pytest.mark.parametrize("forward", [True, False])
def test_the_mode_follows(forward):
    """In the field or the header in which it came: rewritten, or stripped for servers that refuse unknown fields."""
    aim = Aim({}, forward=forward)
    moved = replace(FAST, moved_from="creative")
    body = sent({"mode": "creative"}, moved, aim)
    assert body.get("mode") == ("fast" if forward else None)
    assert ("mode" in body) is forward
    ask = aim(call({"model": "x"}, ("x-llm-mode", "creative")), moved)
    assert named(ask.headers, b"x-llm-mode") == ([b"fast"] if forward else [])
    assert "mode" not in json.loads(ask.body)
    both = aim(call({"model": "x", "mode": "balanced"}, ("X-LLM-Mode", "creative")), moved)
    assert json.loads(both.body).get("mode") == ("fast" if forward else None)
    none = aim(call({"model": "fast", "mode": None}), replace(FAST))
    assert ("mode" in json.loads(none.body)) is forward


def test_an_upstream_without_a_mode():
    """Where there is no mode to write, what the caller wrote stays."""
    plain = Target("qwen", "qwen-id")
    one = call({"model": "x", "mode": "own"}, target="/qwen/v1/chat/completions")
    assert json.loads(AIM(one, plain).body)["mode"] == "own"
    one = call({"model": "x"}, ("X-LLM-Mode", "own"), target="/qwen/v1/chat/completions")
    assert named(AIM(one, plain).headers, b"x-llm-mode") == [b"own"]


def test_credentials():
    """`api_key` replaces the caller's credentials towards that upstream, in every spelling, and nowhere else."""
    aim = Aim({"qwen": Outfit("k2", (("X-Team", "a"),))})
    one = call(None, ("AUTHORIZATION", "Bearer k1"), ("api-key", "k1"), ("X-API-Key", "k1"), ("x-team", "b"))
    headers = aim(one, FAST).headers
    assert named(headers, b"authorization") == [b"Bearer k2"]
    assert named(headers, b"x-team") == [b"a"]
    assert not named(headers, b"api-key") + named(headers, b"x-api-key")
    assert named(aim(one, Target("llama")).headers, b"authorization") == [b"Bearer k1"]
    assert named(one.headers, b"authorization") == [b"Bearer k1"]


def test_every_request_has_its_id_and_asks_for_plain_bytes():
    """What has to be read must not come compressed; the id goes along, once."""
    headers = AIM(call(None, ("Accept-Encoding", "gzip"), ("X-Request-Id", "r1")), FAST).headers
    assert named(headers, b"accept-encoding") == [b"identity"]
    assert named(headers, b"x-request-id") == [b"r1"]


def test_relayed_calls_are_left_alone():
    """Body and encodings of a path that is only relayed are between the caller and the upstream."""
    one = call(None, ("Accept-Encoding", "gzip"), target="/qwen/v1/files")
    ask = AIM(one, Target("qwen", "qwen-id"))
    assert ask.body is one.body
    assert ask.relay
    assert named(ask.headers, b"accept-encoding") == [b"gzip"]


@pytest.mark.parametrize("stream, whole, relay", [(True, False, True), (True, True, False), (False, False, False)])
def test_what_may_be_relayed(stream, whole, relay):
    """Events of a stream that nobody has to judge whole."""
    assert AIM(replace(call(), stream=stream, whole=whole), FAST).relay is relay


def test_a_big_number_and_a_nested_namesake():
    """A seed beyond 2^53 and a tool's own `model` reach the model as they were written."""
    body = b'{"tools":[{"model": "inner"}],"model" : "fast","seed":123456789012345678901}'
    got = House().read(body)
    assert isinstance(got, Call)
    ask = AIM(got, replace(FAST, params={}, caps={}))
    assert json.loads(ask.body) == {**json.loads(body), "model": "qwen-id"}


def test_the_whole_way():
    """From a request that names a mode to what its upstream reads."""
    house = House(mode_of={"one": Mode("llama", {"top_p": 0.5}), "two": Mode("qwen")}, forward=False)
    got = house.admit(Record(0.0), b'{"mode":"one","messages":[]}')
    assert isinstance(got, Call)
    ask = house.rules.aim(got, got.targets[0])
    assert json.loads(ask.body) == {"model": "llama-id", "messages": [], "top_p": 0.5}


def judged(doc: dict, source: object = SCHEMA, *, stream: bool = False) -> Call:
    """A call whose answer has to satisfy a schema."""
    got = call({"model": "fast", **doc, **({"stream": True} if stream else {})})
    return replace(got, schema=Schema("my schema", None, b"1", source=source), whole=True)


class Reader:
    """Somebody who reads along."""

    at = 0

    def __call__(self, event: object) -> None:
        """Say nothing."""

    def heard(self, index: int, text: str) -> None:
        """Nor of this."""


reading = Reader()


def test_streamed_for_a_reader():
    """Somebody reads along: the upstream is asked for events, with the usage that an answer in one piece would have."""
    ask = AIM(judged({}), FAST, reading)
    body = json.loads(ask.body)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert (ask.streams, ask.relay, ask.watch) == (True, False, reading)
    ask = AIM(judged({"stream_options": {"chunk": 1}}, stream=True), FAST, reading)
    assert json.loads(ask.body)["stream_options"] == {"chunk": 1}  # as the caller wrote it: he sees the usage chunk


def test_in_one_piece_for_a_caller_who_streams():
    """`plain`: no events are asked for, nor options for them."""
    ask = AIM(replace(judged({"stream_options": {"include_usage": True}}, stream=True), plain=True), FAST)
    body = json.loads(ask.body)
    assert (body["stream"], "stream_options" in body, ask.streams, ask.relay) == (False, False, False, False)


@pytest.mark.parametrize(
    "way, schema, there",
    [
        ("structured_outputs", SCHEMA, {"json": SCHEMA}),
        ("structured_outputs", None, {"json_object": True}),
        ("guided_json", SCHEMA, SCHEMA),
        ("guided_json", None, {"type": "object"}),
        ("format", SCHEMA, SCHEMA),
        ("format", None, "json"),
        ("response_format", SCHEMA, {"type": "json_schema", "json_schema": {"name": "my_schema", "schema": SCHEMA}}),
        ("response_format", None, {"type": "json_object"}),
    ],
)
def test_the_engine_is_told_of_the_schema(way, schema, there):
    """In the field that this upstream takes; one that the app uses itself stays as it is, and so do others of its."""
    aim = Aim({"qwen": Outfit(structured_output=way)})
    assert json.loads(aim(judged({}, schema), FAST).body)[way] == there
    theirs = {"guided_json": {"type": "array"}, "response_format": {"type": "text"}, way: {"type": "string"}}
    kept = json.loads(aim(judged(theirs, schema), FAST).body)
    assert theirs.items() <= kept.items()
    assert way not in json.loads(aim(call({"model": "fast"}), FAST).body)
    assert way not in json.loads(aim(judged({}, schema), Target("llama")).body)


TURN = {"role": "user", "content": "a rose"}


@pytest.mark.parametrize(
    "messages, place",
    [
        ([{"role": "system", "content": "Be brief."}, TURN], 0),
        ([TURN, {"role": "assistant", "content": "ok"}, TURN, {"role": "assistant", "content": "{"}], 2),
        ([{"role": "user", "content": [{"type": "text", "text": "a rose"}]}], 0),
        ([{"role": "system", "content": [{"type": "text", "text": "x"}]}, TURN], 1),
        ([{"role": "user", "content": None}], 0),
        ([], 0),
        (["odd"], 1),
    ],
)
def test_the_model_is_told_of_the_schema(messages, place):
    """`prompt`: in the words of the system or of the user, so that no template meets a turn it does not know."""
    aim = Aim({"qwen": Outfit(structured_output="prompt")})
    got = json.loads(aim(judged({"messages": messages}), FAST).body)["messages"]
    assert json.dumps(SCHEMA, separators=(",", ":")) in json.dumps(got[place]).replace('\\"', '"')
    assert len(got) == max(len(messages), place + 1)
    assert [one for number, one in enumerate(got) if number != place] == [
        one for number, one in enumerate(messages) if number != place
    ]
    assert "JSON object" in json.dumps(json.loads(aim(judged({"messages": messages}, None), FAST).body)["messages"])


@pytest.mark.parametrize("prompt, told", [("a rose", True), ([1, 2], False), (None, False)])
def test_a_prompt_is_told_of_the_schema(prompt, told):
    """A completion's prompt too, where it is text."""
    aim = Aim({"qwen": Outfit(structured_output="prompt")})
    got = call({"model": "fast", "prompt": prompt}, target="/v1/completions")
    body = json.loads(aim(replace(got, schema=Schema("s", None, b"", source=SCHEMA), whole=True), FAST).body)
    assert ("JSON Schema" in str(body["prompt"])) is told


def test_less_than_nothing_is_a_value_where_it_is_one():
    """A negative number of tokens is no bound, to llama.cpp and Ollama; a negative penalty is a small one."""
    mode = replace(FAST, params={}, caps={"presence_penalty": 0.5, "max_tokens": 9})
    one = call({"model": "fast", "presence_penalty": -1.5, "max_tokens": -1})
    body = json.loads(AIM(one, mode).body)
    assert (body["presence_penalty"], body["max_tokens"]) == (-1.5, 9)
