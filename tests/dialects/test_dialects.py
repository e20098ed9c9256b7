"""The kinds of inference calls: how each is read, talked back to, mended and spoken."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.values import Answer, Call, Fault, Kind, Wrong
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.dialects.completions import SPEC as COMPLETIONS
from guardproxy.dialects.embeddings import SPEC as EMBEDDINGS
from guardproxy.openai.completion import assemble
from guardproxy.openai.events import event, raw_event
from tests.flow.playbook import completion

ALL = (CHAT, COMPLETIONS, EMBEDDINGS)


def call(dialect, **doc) -> Call:
    body = json.dumps(doc).encode()
    return Call("r1", "POST", dialect.paths[0], "", [], body, doc, dialect, stream=doc.get("stream") is True, model="m")


def answer(doc: object) -> Answer:
    return Answer(1.0, 200, [(b"Content-Type", b"application/json")], json.dumps(doc).encode(), doc=doc)


@pytest.mark.parametrize("dialect", ALL, ids=lambda one: one.name)
def test_the_basics(dialect):
    """Every dialect has a name, paths under /v1, and says errors as SDKs read them."""
    assert dialect.name
    assert all(path.startswith("/v1/") for path in dialect.paths)
    assert json.loads(dialect.error(404, "c", "m", "p"))["error"]["param"] == "p"


@pytest.mark.parametrize(
    "message, text",
    [
        ({"content": "a"}, "a"),
        ({"content": ""}, ""),
        ({"content": None}, ""),
        ({}, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}, 3]}, "ab"),
        ({"content": None, "tool_calls": [{}]}, None),
        ({"content": "", "tool_calls": [{}]}, None),
        ({"content": "a", "tool_calls": [{}]}, "a"),
        ({"content": None, "function_call": {"name": "f"}}, None),
        ({"content": 5}, ""),
        ("nonsense", ""),
        (None, ""),
    ],
)
def test_what_a_message_says(message, text):
    """A message that calls tools says nothing by design; one that is silent says the empty string."""
    assert CHAT.texts({"choices": [{"message": message}, {}]}) == [text, ""]


@pytest.mark.parametrize("choice, text", [({"text": "a"}, "a"), ({"text": None}, ""), ({}, "")])
def test_what_a_completion_says(choice, text):
    """The text, or nothing."""
    assert COMPLETIONS.texts({"choices": [choice]}) == [text]


def test_a_chat_goes_on():
    """The model sees what it said and what is wrong with it; everything else of the call is as it was."""
    first = call(CHAT, messages=[{"role": "user", "content": "hi"}], user=10**30)
    again = CHAT.again(first, answer(completion("bad")), Wrong("not JSON"))
    doc = json.loads(again.body)
    assert doc == again.doc
    assert doc["user"] == 10**30
    assert doc["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "bad"},
        {"role": "user", "content": "not JSON"},
    ]
    assert (again.id, first.doc["messages"]) == ("r1", [{"role": "user", "content": "hi"}])
    assert len(json.loads(CHAT.again(call(CHAT), answer(completion(None)), Wrong("x")).body)["messages"]) == 2


def test_a_completion_goes_on():
    """Text is appended to a prompt of text; a prompt of tokens or of several is asked again as it is."""
    again = COMPLETIONS.again(call(COMPLETIONS, prompt="p"), answer({"choices": [{"text": "bad"}]}), Wrong("why"))
    assert again.doc["prompt"] == "p\nbad\n\nwhy\n"
    many = call(COMPLETIONS, prompt=["a", "b"])
    assert COMPLETIONS.again(many, answer({"choices": [{"text": "bad"}]}), Wrong("why")).body is many.body
    numbers = call(EMBEDDINGS, input="a")
    assert EMBEDDINGS.again(numbers, answer({}), Wrong("why")) is numbers


@pytest.mark.parametrize("stream", [False, True])
def test_mended(stream):
    """Other words in the same answer, for those choices that have any, as the caller wants it sent."""
    doc = completion("bad")
    doc["choices"].append({"index": 1, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"})
    mended = CHAT.mend(call(CHAT, stream=stream, stream_options={"include_usage": True}), answer(doc), ["good", None])
    assert CHAT.texts(mended.doc) == ["good", "fine"]
    again = assemble(mended.body) if stream else json.loads(mended.body)
    assert CHAT.texts(again) == ["good", "fine"]
    assert again is not None
    assert again["usage"] == doc["usage"]
    assert CHAT.texts(doc) == ["bad", "fine"]
    text = COMPLETIONS.mend(call(COMPLETIONS), answer({"choices": [{"text": "bad"}]}), ["good"])
    assert json.loads(text.body)["choices"][0]["text"] == "good"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", [CHAT, COMPLETIONS], ids=lambda one: one.name)
def test_an_answer_of_ours(dialect, stream):
    """A fallback is a whole completion of the kind that the app waits for."""
    body = dialect.compose(call(dialect, stream=stream), '{"x":1}', 1700000000)
    doc: dict[str, Any] = (assemble(body) or {}) if stream else json.loads(body)
    assert dialect.texts(doc) == ['{"x":1}']
    assert doc["created"] == 1700000000
    assert doc["choices"][0]["finish_reason"] == "stop"


def test_streams_end_when_every_choice_has():
    """n choices, for each of several prompts."""
    assert CHAT.scan(call(CHAT, n=2))._choices == 2
    assert COMPLETIONS.scan(call(COMPLETIONS, prompt=["a", "b"], n=2))._choices == 4
    assert COMPLETIONS.scan(call(COMPLETIONS, prompt=[1, 2, 3]))._choices == 1
    assert COMPLETIONS.scan(call(COMPLETIONS, prompt=[[1], [2]]))._choices == 2
    assert EMBEDDINGS.scan(call(EMBEDDINGS, input="a"))._choices == 1


def test_embeddings():
    """Vectors or a fault; they are kept, and never judged."""
    good = EMBEDDINGS.examine(call(EMBEDDINGS), answer({"data": [{"embedding": [0.1]}]}))
    assert isinstance(good, Answer)
    assert (good.kind, good.keepable) == (Kind.SUCCESS, True)
    unusable: list[Any] = [{"data": []}, {}, [], None, {"data": 3}]
    for doc in unusable:
        assert isinstance(EMBEDDINGS.examine(call(EMBEDDINGS), answer(doc)), Fault)
    error = EMBEDDINGS.examine(call(EMBEDDINGS), Answer(1.0, 400, [], b"{}"))
    assert isinstance(error, Answer)
    assert not error.keepable
    assert not EMBEDDINGS.judged
    assert EMBEDDINGS.texts({}) == []
    assert json.loads(EMBEDDINGS.compose(call(EMBEDDINGS), "x", 1))["error"]["code"] == "invalid_model_output"
    assert EMBEDDINGS.mend(call(EMBEDDINGS), good, []) is good
    odd = Answer(1.0, 200, [(b"Content-Type", b"text/event-stream")], event({"data": [1]}) + raw_event(b"[DONE]"))
    assert isinstance(EMBEDDINGS.examine(call(EMBEDDINGS), odd), Answer)


def test_chat_is_examined():
    """An answer without a message is an answer without words, which is for the schema to refuse."""
    found = CHAT.examine(call(CHAT), answer({"choices": [{"finish_reason": "stop"}]}))
    assert isinstance(found, Answer)
    assert CHAT.texts(found.doc) == [""]
