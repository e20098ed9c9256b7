"""Ollama's own API: lines of JSON, which stream unless told not to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from guardproxy.core.asked import Schema, Wrong
from guardproxy.core.values import Kind, Target
from guardproxy.dialects.ollama import SPEC as OLLAMA
from guardproxy.dialects.ollama_embed import SPEC as EMBED
from guardproxy.flow.aim import more_room
from tests.dialects.conversations import bad, call, cut_anywhere, good, streamed, unfinished, whole

SCHEMA = {"type": "object", "required": ["x"]}
TOOL = {"function": {"name": "look", "arguments": {"x": 1}}}
HEAD = {"model": "llama3.2", "created_at": "2025-10-17T23:14:07.414671Z"}
END = {"done": True, "done_reason": "stop", "total_duration": 1, "prompt_eval_count": 11, "eval_count": 18}
# as https://docs.ollama.com/api shows them
CHAT = [
    {**HEAD, "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": "The "}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": "sky é"}, "done": False},
    {**HEAD, "message": {"role": "assistant", "content": ""}, **END},
]
GENERATE = [
    {**HEAD, "response": "The ", "done": False},
    {**HEAD, "response": "sky é", "done": False},
    {**HEAD, "response": "", "context": [1, 2], **END},
]


def lines(docs: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(doc, ensure_ascii=False).encode() + b"\n" for doc in docs)


@pytest.mark.parametrize("docs", [CHAT, GENERATE], ids=["chat", "generate"])
def test_a_stream_cut_anywhere(docs):
    """Wherever it is cut it tells the same, and nothing but all of it is an answer."""
    body = lines(docs)
    count, error, usage, complete, keepable, done = cut_anywhere(OLLAMA, body)
    assert (count, error, complete, keepable, done) == (len(docs), None, True, True, True)
    assert usage == {"prompt_tokens": 11, "completion_tokens": 18}
    unfinished(OLLAMA, body, body.index(b'"done": true'))
    found = good(OLLAMA.examine(call(OLLAMA), streamed(OLLAMA, body)))
    assert (OLLAMA.texts(found.doc), found.keepable) == (["The sky é"], True)
    assert OLLAMA.usage(found.doc) == usage
    deltas = [piece for doc in docs for _, piece in OLLAMA.deltas(doc)]
    assert "".join(deltas) == "The sky é"
    assert bad(OLLAMA.examine(call(OLLAMA), streamed(OLLAMA, lines(docs[:-1])))).code == "upstream_reset"


def test_it_streams_by_default():
    """Only ``false`` says otherwise."""
    assert OLLAMA.streams({})
    assert OLLAMA.streams({"stream": None})
    assert not OLLAMA.streams({"stream": False})
    assert not EMBED.streams({})
    assert OLLAMA.is_stream([(b"content-type", b"application/x-ndjson")])
    assert not OLLAMA.is_stream([(b"content-type", b"application/json; charset=utf-8")])


@pytest.mark.parametrize(
    "doc, texts",
    [
        ({"message": {"content": "a"}}, ["a"]),
        ({"message": {"content": "", "tool_calls": [TOOL]}}, [None]),
        ({"message": {"content": "a", "tool_calls": [TOOL]}}, ["a"]),
        ({"message": {}}, [""]),
        ({"response": "a"}, ["a"]),
        ({"response": 3}, [""]),
    ],
)
def test_what_it_says(doc, texts):
    """One text, of a chat or of a generation."""
    assert OLLAMA.texts(doc) == texts


@pytest.mark.parametrize(
    "doc, says", [([], "no object"), ({}, "without message"), ({"response": 3}, "without message")]
)
def test_200_and_no_answer(doc, says):
    """It counts against the upstream."""
    assert says in bad(OLLAMA.examine(call(OLLAMA), whole(doc))).message


def test_why_it_ended():
    """Cut at its length it is not kept; older servers say no reason."""
    assert OLLAMA.cut({"done_reason": "length"})
    assert not good(
        OLLAMA.examine(call(OLLAMA), whole({"response": "a", "done": True, "done_reason": "length"}))
    ).keepable
    assert good(OLLAMA.examine(call(OLLAMA), whole({"response": "a", "done": True}))).keepable
    assert OLLAMA.usage([]) is OLLAMA.usage({}) is None


def test_errors_are_texts():
    """Its own pass as they came, also in the middle; those of other servers are put into its words."""
    found = good(OLLAMA.examine(call(OLLAMA), whole({"error": "model 'x' not found"}, 404)))
    assert json.loads(found.body) == {"error": "model 'x' not found"}
    found = good(OLLAMA.examine(call(OLLAMA), whole({"error": {"message": "m", "code": "c"}}, 400)))
    assert json.loads(found.body) == {"error": "m", "code": "c", "param": None}
    body = lines([CHAT[1], {"error": "died"}])
    scan = OLLAMA.scan(call(OLLAMA))
    scan.feed(body)
    assert scan.error == {"message": "died"}
    assert not scan.complete()
    found = good(OLLAMA.examine(call(OLLAMA), streamed(OLLAMA, body)))
    assert (found.status, found.kind, json.loads(found.body)) == (502, Kind.FAILURE, {"error": "died"})
    assert OLLAMA.told(OLLAMA.error(502, "c", "m")) == b'{"error":"m","code":"c","param":null}\n'
    assert not OLLAMA.comment
    odd = OLLAMA.scan(call(OLLAMA))
    odd.feed(lines([{"error": {"code": 429}}]))
    assert odd.error == {"code": 429}


def test_schemas_are_asked_for_in_format():
    """And tools as the OpenAI family has them; their arguments are objects."""
    wanted = OLLAMA.wanted({"format": SCHEMA})
    assert wanted is not None
    assert wanted.schema == SCHEMA
    assert (
        OLLAMA.parameters({"tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}]})[0][0]
        == "f"
    )
    assert OLLAMA.tools({"message": {"tool_calls": [TOOL, 3, {}]}}) == [("look", '{"x":1}')]
    assert OLLAMA.tools({"response": "x"}) == []
    assert OLLAMA.asides({"message": {"content": "", "thinking": '{"x":1}'}}) == ['{"x":1}']
    assert OLLAMA.asides({"response": "", "thinking": '{"x":1}'}) == ['{"x":1}']


def test_it_goes_on():
    """As two more turns, or behind the prompt; the dice stand in the options."""
    chat = call(OLLAMA, messages=[{"role": "user", "content": "hi"}], options={"seed": 1, "temperature": 1, "top_k": 3})
    again = OLLAMA.again(chat, whole({"message": {"content": "bad"}}), Wrong("why"))
    assert [turn["content"] for turn in again.doc["messages"]] == ["hi", "bad", "why"]
    assert again.doc["options"] == {"seed": 2, "temperature": 0.5, "top_k": 3}
    assert json.loads(again.body) == again.doc
    again = OLLAMA.again(call(OLLAMA, prompt="p"), whole({"response": "bad"}), Wrong("why"))
    assert again.doc == {"prompt": "p\nbad\n\nwhy\n"}


def test_more_room():
    """In the options, up to the limit."""
    longer = more_room(call(OLLAMA, options={"num_predict": 10, "seed": 1}), Target("u"), 30)
    assert longer is not None
    assert longer.doc["options"] == {"num_predict": 30, "seed": 1}
    assert more_room(call(OLLAMA, options={"num_predict": -1}), Target("u"), 30) is None
    assert more_room(call(OLLAMA), Target("u"), 30) is None


@pytest.mark.parametrize("stream", [False, True])
def test_mended(stream):
    """Other words and other arguments in the same answer, as the caller wants it sent."""
    doc = {**HEAD, "message": {"role": "assistant", "content": "bad", "tool_calls": [TOOL, TOOL]}, **END}
    asked = call(OLLAMA, stream=stream)
    mended = OLLAMA.mend(asked, whole(doc), ["good"], ['{"x":2}', None])
    again = OLLAMA.assemble(mended.body) if stream else json.loads(mended.body)
    assert again == mended.doc
    assert (OLLAMA.texts(again), OLLAMA.tools(again)) == (["good"], [("look", '{"x":2}'), ("look", '{"x":1}')])
    assert OLLAMA.is_stream(mended.headers) is stream
    other = OLLAMA.mend(asked, whole({"response": "bad", **END}), ["good"])
    assert OLLAMA.texts(other.doc) == ["good"]
    assert OLLAMA.mend(asked, whole(doc), [None]).doc == doc


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", OLLAMA.paths)
def test_an_answer_of_ours(path, stream):
    """A fallback is a whole answer of the path's kind."""
    body = OLLAMA.compose(call(OLLAMA, path, stream=stream), '{"x":1}', 1700000000)
    answer = streamed(OLLAMA, body) if stream else whole(json.loads(body))
    found = good(OLLAMA.examine(call(OLLAMA), answer))
    assert (OLLAMA.texts(found.doc), found.keepable) == (['{"x":1}'], True)
    assert ("response" in found.doc) is (path == "/api/generate")
    assert found.doc["created_at"] == "2023-11-14T22:13:20Z"


def test_tools_come_in_pieces():
    """Each line may bring some; what is not text is the last word."""
    pieces: list[Any] = [
        {"message": {"tool_calls": [TOOL], "content": None}},
        3,
        {"message": {"tool_calls": [TOOL]}, **END},
    ]
    doc = OLLAMA.assemble(lines(pieces))
    assert len(OLLAMA.tools(doc)) == 2
    assert OLLAMA.assemble(b"\n") is None
    assert OLLAMA.so_far(b'{"response":"a"}\n{"respon') == {"response": "a"}
    assert OLLAMA.so_far(b"{\n") == {}


def test_embeddings():
    """Vectors of either path, or a fault; their errors are Ollama's."""
    for doc in ({"embeddings": [[0.1]]}, {"embedding": [0.1]}):
        assert good(EMBED.examine(call(EMBED), whole(doc))).keepable
    assert "without vectors" in bad(EMBED.examine(call(EMBED), whole({"embeddings": []}))).message
    assert json.loads(EMBED.error(503, "circuit_open", "m"))["error"] == "m"
    assert EMBED.readable({"error": "m"})


def test_an_engine_is_told_of_a_schema():
    """In ``format``, unless the app uses it itself, or in the conversation."""
    schema = Schema("x", None, b"", source=SCHEMA)
    assert OLLAMA.enforced({}, schema, "response_format") == {"format": SCHEMA}
    assert OLLAMA.enforced({}, Schema("x", None, b""), "format") == {"format": "json"}
    assert OLLAMA.enforced({"format": "json"}, schema, "format") == {}
    assert len(OLLAMA.enforced({"messages": [{"role": "user", "content": "x"}]}, schema, "prompt")["messages"]) == 2
    assert OLLAMA.enforced({"prompt": "p"}, schema, "prompt")["prompt"].startswith("p\n\n")
    assert OLLAMA.enforced({}, schema, "prompt") == {}
