"""Which upstream and which mode a call is for: the precedence of the contract, row by row."""

from __future__ import annotations

import json

import pytest

from guardproxy.core.values import Call, Reply
from guardproxy.flow.route import Router, Unknown
from tests.flow.playbook import House, code

QWEN, LLAMA, MISTRAL = ("qwen", "fast"), ("llama", "creative"), ("mistral", "balanced")


@pytest.mark.parametrize(
    "target, mode, doc, meant, named, mode_in",
    [
        # the path wins over all
        ("/qwen/v1/chat/completions", None, {}, QWEN, False, ""),
        ("/qwen/v1/chat/completions", "creative", {}, QWEN, False, "header"),
        ("/qwen/v1/chat/completions", None, {"mode": "creative"}, QWEN, False, "field"),
        ("/qwen/v1/chat/completions", None, {"model": "creative"}, QWEN, False, ""),
        ("/qwen/v1/chat/completions", "nobody", {"mode": "nobody", "model": "nobody"}, QWEN, False, "header"),
        # then the mode: header, field, model
        ("/v1/chat/completions", "fast", {"mode": "creative", "model": "mistral"}, QWEN, True, "header"),
        ("/v1/chat/completions", "", {"mode": "fast", "model": "mistral"}, QWEN, True, "field"),
        ("/v1/chat/completions", None, {"mode": "fast", "model": "creative"}, QWEN, True, "field"),
        ("/v1/chat/completions", None, {"mode": None, "model": "fast"}, QWEN, True, "model"),
        ("/v1/chat/completions", None, {"mode": "", "model": "fast"}, QWEN, True, "model"),
        ("/v1/chat/completions", None, {"model": "fast"}, QWEN, True, "model"),
        # then the model: name, id, alias
        ("/v1/chat/completions", None, {"model": "qwen"}, QWEN, False, ""),
        ("/v1/chat/completions", None, {"model": "qwen-id"}, QWEN, False, ""),
        ("/v1/chat/completions", None, {"model": "qwen-alias"}, QWEN, False, ""),
        ("/v1/completions", None, {"model": "llama-id"}, LLAMA, False, ""),
        ("/v1/embeddings/", None, {"model": "mistral"}, MISTRAL, False, ""),
    ],
)
def test_precedence(target, mode, doc, meant, named, mode_in):
    """Path prefix, else mode (header, field, model), else model; a call for an upstream has that upstream's mode."""
    headers = [] if mode is None else [("X-LLM-Mode", mode)]
    call = House().read(json.dumps(doc).encode(), headers=headers, target=target)
    assert isinstance(call, Call)
    assert (call.upstream, call.mode) == meant
    assert call.named_mode is named
    assert call.mode_in == mode_in
    assert not call.path.startswith("/qwen")


@pytest.mark.parametrize(
    "doc, headers, says",
    [
        ({"model": "gpt-4"}, [], "there is no model 'gpt-4'"),
        ({}, [], "the call names no model"),
        ({"model": ""}, [], "the call names no model"),
        ({"mode": "nobody", "model": "qwen"}, [], "there is no mode 'nobody'"),
        ({"model": "qwen"}, [("x-llm-mode", "nobody")], "there is no mode 'nobody'"),
        ({"model": "x" * 9000}, [], "there is no model"),
    ],
)
def test_unknown(doc, headers, says):
    """404 that names those there are, and stays short."""
    reply = House().read(json.dumps(doc).encode(), headers=headers)
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply)) == (404, "model_not_found")
    message = json.loads(reply.body)["error"]["message"]
    assert says in message
    assert "fast" in message
    assert ("qwen" in message) is ("model" in says)
    assert len(message) < 1000


def test_default():
    """`default_upstream` takes what names nobody that is known, but no unknown mode."""
    house = House(default="mistral")
    for doc in ({}, {"model": "gpt-4"}):
        call = house.read(json.dumps(doc).encode())
        assert isinstance(call, Call)
        assert (call.upstream, call.mode, call.named_mode) == ("mistral", "balanced", False)
    reply = house.read(b'{"mode":"nobody"}')
    assert isinstance(reply, Reply)
    call = house.read(b"", target="/v1/files", method="GET")
    assert isinstance(call, Call)
    assert (call.upstream, call.dialect) == ("mistral", None)


def test_names():
    """An upstream's own name beats another's alias; the first of two modes on one upstream is its mode."""
    router = Router({"a": ("m", ("b",)), "b": ("m", ())}, {"high": "a", "low": "a"})
    assert router.find("", "", "b").upstream == "b"
    assert router.find("", "", "m").upstream == "a"
    assert router.find("a", "", "").mode == "high"
    assert router.find("b", "", "").mode is None
    assert router.names() == [("high", "a"), ("low", "a"), ("a", "a"), ("m", "a"), ("b", "b")]
    with pytest.raises(Unknown, match="there are none"):
        Router({"a": ("", ())}, {}).find("", "x", "")
    with pytest.raises(Unknown, match=r"there are a\. Or put"):
        Router({"a": ("", ())}, {}).find("", "", "x")


@pytest.mark.parametrize(
    "path, split",
    [
        ("/a/v1/x", ("a", "/v1/x")),
        ("/a/", ("a", "/")),
        ("/a", ("", "/a")),
        ("/A/v1", ("", "/A/v1")),
        ("/", ("", "/")),
        ("/b/a/x", ("", "/b/a/x")),
    ],
)
def test_prefix(path, split):
    """Only a whole first step is an upstream's name."""
    assert Router({"a": ("", ())}, {}).prefix(path) == split
