"""Whom a call goes to, in which mode, and what is rewritten on the way."""

from __future__ import annotations

from typing import Any

import pytest

from tests.app.stand import CHAT

HEADER = "X-LLM-Mode"


@pytest.mark.parametrize(
    "path, headers, body, upstream, mode",
    [
        # a path prefix beats all
        ("/qwen" + CHAT, {}, {"model": "llama"}, "qwen", "fast"),
        ("/qwen" + CHAT, {HEADER: "creative"}, {"model": "llama"}, "qwen", "fast"),
        ("/qwen" + CHAT, {}, {"model": "llama", "mode": "creative"}, "qwen", "fast"),
        ("/mistral" + CHAT, {}, {"model": "creative"}, "mistral", "balanced"),
        # else the mode: header, then field, then model
        (CHAT, {HEADER: "creative"}, {"model": "fast", "mode": "balanced"}, "llama", "creative"),
        (CHAT, {}, {"model": "fast", "mode": "balanced"}, "mistral", "balanced"),
        (CHAT, {}, {"model": "qwen", "mode": "creative"}, "llama", "creative"),
        (CHAT, {}, {"model": "fast"}, "qwen", "fast"),
        # else the model: upstream, served id, alias
        (CHAT, {}, {"model": "mistral"}, "mistral", "balanced"),
        (CHAT, {}, {"model": "meta-llama/Meta-Llama-3-8B-Instruct"}, "llama", "creative"),
        (CHAT, {}, {"model": "qwen2.5"}, "qwen", "fast"),
        (CHAT, {}, {"model": "qwen", "mode": None}, "qwen", "fast"),
        (CHAT, {}, {"model": "qwen", "mode": ""}, "qwen", "fast"),
    ],
)
async def test_precedence(stand, path, headers, body, upstream, mode):
    """Path prefix, then mode (header, field, model), then model; the served model id replaces what was written."""
    answer = await stand.chat(path=path, headers=headers, **body)
    assert answer.status == 200
    assert answer.headers["X-Guardproxy-Upstream"] == upstream
    assert answer.headers["X-Guardproxy-Mode"] == mode
    assert stand.asked(upstream) == 1
    assert stand.seen(upstream)["model"] == stand.sims[upstream].model
    assert stand.sims[upstream].memory.requests[-1].target == CHAT


async def test_default_upstream(make):
    """An unknown model goes to `default_upstream`, which then knows it by the id that it serves."""
    stand = await make({"default_upstream": "mistral"})
    assert (await stand.chat(model="gpt-17")).headers["X-Guardproxy-Upstream"] == "mistral"
    assert stand.seen("mistral")["model"] == stand.sims["mistral"].model
    answer = await stand.ask("POST", CHAT, json={"messages": [{"role": "user", "content": "x"}]})
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"


@pytest.mark.parametrize(
    "headers, body", [({}, {"model": "gpt-17"}), ({HEADER: "wild"}, {}), ({}, {"mode": "wild"}), ({}, {"model": ""})]
)
async def test_nobody(stand, headers, body):
    """Who is nobody is 404 `model_not_found`, and the message lists those there are."""
    answer = await stand.chat(headers=headers, **body)
    assert (answer.status, answer.code, answer.error["param"]) == (404, "model_not_found", "model")
    assert "fast" in answer.error["message"]
    assert all(stand.asked(name) == 0 for name in stand.sims)


async def test_params_fill_what_is_open(stand):
    """A named mode's params are set where the caller has left them open; what he wrote wins."""
    for where in ({"model": "creative"}, {"model": "qwen", "mode": "creative"}):
        await stand.chat(**where)
        assert stand.seen("llama")["temperature"] == 1.0
        await stand.chat(**where, temperature=0.2)
        assert stand.seen("llama")["temperature"] == 0.2
    await stand.chat(model="x", headers={HEADER: "balanced"})
    assert stand.seen("mistral")["temperature"] == 0.7


async def test_no_params_for_an_upstream(stand):
    """A call that names an upstream, not a mode, is sent as it was written."""
    ways: tuple[dict[str, Any], ...] = (
        {"model": "qwen"},
        {"model": "qwen", "max_tokens": 9000},
        {"path": "/qwen" + CHAT},
    )
    for number, more in enumerate(ways):
        await stand.chat(f"question {number}", **more)  # the same one would be answered by the cache
        assert "temperature" not in stand.seen("qwen")
        assert stand.seen("qwen").get("max_tokens") == more.get("max_tokens")


async def test_caps_hold(stand):
    """A named mode's caps hold over what the caller wrote, under whichever name he wrote it."""
    await stand.chat(model="fast")
    assert stand.seen("qwen")["max_tokens"] == 512
    await stand.chat(model="fast", max_tokens=9000)
    assert stand.seen("qwen")["max_tokens"] == 512
    await stand.chat(model="fast", max_tokens=20)
    assert stand.seen("qwen")["max_tokens"] == 20
    await stand.chat(model="fast", max_completion_tokens=9000)
    assert stand.seen("qwen")["max_completion_tokens"] == 512
    assert "max_tokens" not in stand.seen("qwen")


async def test_mode_goes_on_rewritten(stand):
    """After a downshift the mode itself is rewritten where it came: in field or header."""
    await stand.put("/guard/breakers/llama", {"state": "open"})
    answer = await stand.chat(mode="creative", model="anything")
    assert answer.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=circuit_open"
    seen = stand.seen("mistral")
    assert (seen["mode"], seen["model"], seen["temperature"]) == ("balanced", stand.sims["mistral"].model, 0.7)
    await stand.chat(headers={HEADER: "creative"}, model="anything")
    visit = stand.sims["mistral"].memory.requests[-1]
    assert visit.headers[HEADER] == "balanced"
    assert "mode" not in visit.body
    await stand.chat(headers={HEADER: "creative"}, model="x", mode="fast")
    visit = stand.sims["mistral"].memory.requests[-1]
    assert (visit.headers[HEADER], visit.body["mode"]) == ("balanced", "balanced")


async def test_an_upstream_may_be_downshifted_too(stand):
    """A path prefix or an upstream's name is moved as well, and then gets the lower mode's params and caps."""
    await stand.put("/guard/breakers/llama", {"state": "open"})
    await stand.put("/guard/breakers/mistral", {"state": "open"})
    for more in ({"path": "/llama" + CHAT}, {"model": "llama", "max_tokens": 9000}):
        answer = await stand.chat(**more)
        assert answer.headers["X-Guardproxy-Mode"] == "fast; from=creative; reason=circuit_open"
        assert stand.seen("qwen")["max_tokens"] == 512
        assert stand.seen("qwen")["temperature"] == 0.3


async def test_forward_false(make):
    """`downshift.forward: false` takes the mode out, for servers that refuse unknown fields; nothing else changes."""
    stand = await make({"downshift": {"forward": False}})
    await stand.chat(mode="fast", headers={HEADER: "creative"})
    visit = stand.sims["llama"].memory.requests[-1]
    assert "mode" not in visit.body
    assert HEADER not in visit.headers
    assert visit.body["temperature"] == 1.0


async def test_forward_false_in_a_prefixed_call(make):
    """A prefix decides whom to ask, but a strict server must not see the mode field all the same."""
    stand = await make({"downshift": {"forward": False}})
    await stand.chat(path="/qwen" + CHAT, mode="fast", headers={HEADER: "creative"})
    visit = stand.sims["qwen"].memory.requests[-1]
    assert "mode" not in visit.body
    assert HEADER not in visit.headers


async def test_another_field(make):
    """`downshift.field` says which field names the mode."""
    stand = await make({"downshift": {"field": "tier"}})
    assert (await stand.chat(tier="balanced")).headers["X-Guardproxy-Upstream"] == "mistral"
    assert stand.seen("mistral")["tier"] == "balanced"
    assert (await stand.chat(mode="balanced")).headers["X-Guardproxy-Upstream"] == "llama"


async def test_embeddings_get_no_params(stand):
    """A temperature means nothing to embeddings: strict servers would refuse it."""
    answer = await stand.ask("POST", "/v1/embeddings", json={"model": "fast", "input": "a rose"})
    assert answer.status == 200
    assert stand.seen("qwen") == {"model": stand.sims["qwen"].model, "input": "a rose"}


async def test_no_modes(make):
    """Without modes there is nothing to move to: every upstream stands for itself."""
    stand = await make({"modes": {}})
    answer = await stand.chat()
    assert answer.status == 200
    assert "X-Guardproxy-Mode" not in answer.headers
    assert (await stand.chat(mode="creative")).status == 404
    await stand.put("/guard/breakers/llama", {"state": "open"})
    assert (await stand.chat("other")).code == "circuit_open"


async def test_routes(make):
    """A route gives calls of a path, model or mode a schema, or takes guards away; the first that fits counts."""
    routes = [
        {"model": "qwen", "cache": False},
        {"mode": "balanced", "guards": ["breaker"]},
        {"path": "/v1/chat/*", "model": "qwen", "cache": True},
    ]
    stand = await make({"routes": routes})
    for model in ("qwen", "qwen2.5", "mistral", "balanced"):
        answer = await stand.chat(model=model)
        assert answer.status == 200
        assert "Cache-Status" not in answer.headers or answer.headers["Cache-Status"] == "guardproxy; fwd=bypass"
    assert (await stand.chat(model="llama")).headers["Cache-Status"] == "guardproxy; fwd=miss; stored"
    assert len(stand.proxy.house.cache.entries) == 1
