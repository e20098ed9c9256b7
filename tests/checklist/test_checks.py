"""What has to be true before a canary is promoted: each reason not to is found, and said in words."""

from __future__ import annotations

import dataclasses

import pytest

from guardproxy.checklist.ask import render
from guardproxy.checklist.checks import verify
from guardproxy.guards import cache, schema
from guardproxy.openai.schemas import declare

CLOSED = {"qwen": "closed", "llama": "closed"}
WELL = {"qwen": {"status": "healthy"}, "llama": {"status": "healthy"}}


def told(json_guard=None, circuits=CLOSED, kept=None, models=WELL, **more):
    settings = json_guard or schema.Settings()
    return verify(settings, circuits, kept or cache.Settings(), models, 1000.0, digest="0123456789ab", **more)


def reasons(result):
    return [check["detail"] for check in result["checks"] if not check["ok"]]


def test_all_is_well():
    """With every guard on, every circuit closed and every model healthy it is safe."""
    result = told()
    assert result["safe"]
    assert result["config"] == "0123456789ab"
    assert [check["name"] for check in result["checks"]] == [
        "JSON Hard Guard",
        "Circuit Breaker",
        "Cache LRU+TTL",
        "LLM Health Check",
    ]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"enabled": False}, "json_guard.enabled is false"),
        ({"enabled": "shadow"}, "json_guard.enabled is shadow"),
        ({"max_retries": 2}, "json_guard.max_retries is 2"),
    ],
)
def test_json_guard(settings, words):
    """The JSON guard must be on, and ask again three times at the least."""
    (reason,) = reasons(told(json_guard=dataclasses.replace(schema.Settings(), **settings)))
    assert words in reason


def test_a_fallback_that_the_guard_itself_would_refuse():
    """It would be answered all the same: worse than an error."""
    good = declare("good", {"type": "object"}, {"a": 1})
    for broken in (b"[1]", b"{"):
        schemas = {"good": good, "bad": dataclasses.replace(good, fallback=broken)}
        assert reasons(told(schemas=schemas)) == ["the fallback of bad does not satisfy its own schema"]
        assert told(json_guard=schema.Settings(fallback_enabled=False), schemas=schemas)["safe"]
    assert told(schemas={"good": good, "none": declare("none", {}, None)})["safe"]


def test_a_configuration_that_is_not_in_force():
    """What was tested is not what would be promoted; where all is well the list has its four lines."""
    result = told(reloaded=False)
    assert not result["safe"]
    assert result["checks"][4]["name"] == "Configuration"
    assert "0123456789ab from before is in force" in result["checks"][4]["detail"]
    assert len(told()["checks"]) == 4


def test_json_guard_without_fallbacks():
    """Fallbacks may be off: an app may prefer an error; the line says so."""
    result = told(json_guard=schema.Settings(fallback_enabled=False))
    assert result["safe"]
    assert "fallback off" in result["checks"][0]["detail"]


@pytest.mark.parametrize(
    "circuits, words",
    [
        (False, "circuit_breaker.enabled is false"),
        ("shadow", "circuit_breaker.enabled is shadow"),
        ({"qwen": "open", "llama": "closed"}, "qwen is open"),
        ({"qwen": "half_open", "llama": "open"}, "qwen is half-open, llama is open"),
    ],
)
def test_circuits(circuits, words):
    """Every circuit must be closed; half-open is not."""
    assert reasons(told(circuits=circuits)) == [words]


@pytest.mark.parametrize("enabled", [False, "shadow"])
def test_cache_off(enabled):
    """The cache must be on."""
    (reason,) = reasons(told(kept=cache.Settings(enabled=enabled)))
    assert reason.startswith(f"cache.enabled is {str(enabled).lower()}")


@pytest.mark.parametrize("settings", [{"max_size": 1}, {"ttl_seconds": 0.001}, {"ttl_seconds": 1e9}])
def test_cache_of_any_size(settings):
    """An entry is set, found, expired and made anew with whatever settings there are."""
    assert told(kept=dataclasses.replace(cache.Settings(), **settings))["safe"]


def test_models():
    """Every model must be healthy; each that is not is named with its reason."""
    ill = {"qwen": {"status": "unhealthy", "reason": "timeout"}, "llama": {"status": "unhealthy"}}
    assert reasons(told(models=ill)) == ["qwen is unhealthy (timeout); llama is unhealthy (no reason given)"]


def test_render():
    """For people every line has a mark, the failing one says what and where, and the last one decides."""
    lines = render(told(circuits={"qwen": "open"})).splitlines()
    assert lines[2:4] == [
        "1. JSON Hard Guard...    ✓ ENABLED (max retries 3, backoff 1.0 s, fallback on)",
        "2. Circuit Breaker...    ✗ qwen is open",
    ]
    assert lines[-1] == "✗ DO NOT PROMOTE"
    assert "✓ SAFE TO PROMOTE TO PRODUCTION" not in lines
