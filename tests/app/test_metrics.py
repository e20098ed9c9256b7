"""What dashboards rely on: each name, there from the start, moving exactly as documented."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.app.stand import BRIEF, JSON_SCHEMA, NEVER

ALERTS = Path(__file__).parents[2] / "config" / "alerts.yaml"
MODELS = ("qwen", "mistral", "llama")
PER_MODEL = (
    "llm_requests_total",
    "llm_request_failures_total",
    "llm_json_parse_failures_total",
    "llm_json_fallback_used_total",
    "llm_json_retry_count_count",
    "llm_json_retry_count_sum",
    "circuit_breaker_state",
    "llm_health_status",
    "llm_health_check_duration_seconds",
    "llm_health_check_failures_total",
)
PLAIN = (
    "cache_hits_total",
    "cache_misses_total",
    "cache_size",
    "cache_evictions_total",
    "cache_ttl_expirations_total",
)
EXPRESSIONS = (
    "rate(llm_json_parse_failures_total[5m])",
    "histogram_quantile(0.95, rate(llm_json_retry_count_bucket[5m]))",
    "rate(llm_json_fallback_used_total[5m]) / rate(llm_requests_total[5m]) > 0.01",
    'circuit_breaker_state{model="qwen"} == 1',
    'rate(llm_request_failures_total{model="qwen"}[5m]) / rate(llm_requests_total{model="qwen"}[5m])',
    "rate(llm_mode_downshift_total[1h])",
    "rate(cache_hits_total[5m]) / (rate(cache_hits_total[5m]) + rate(cache_misses_total[5m])) < 0.7",
    "cache_size",
    "rate(cache_evictions_total[5m])",
    "rate(cache_ttl_expirations_total[5m])",
    'llm_health_status{model="qwen"}',
    'llm_health_check_duration_seconds{model="qwen"}',
    'rate(llm_health_check_failures_total{model="qwen"}[5m])',
    "llm_health_status == 0",
)


async def moved(stand, before):
    """The counters of the manual that moved, by how much."""
    after = await stand.metrics()
    return {
        name: after[name] - before[name]
        for name in before
        if name.startswith(("llm_", "cache_")) and "_bucket" not in name and "duration" not in name
        if after[name] != before[name]
    }


async def test_present_from_the_start(make):
    """Every name with every label value is there at 0 before the first call, so that rate() sees the first one."""
    metrics = await (await make(bare=True)).metrics()
    for name in PER_MODEL:
        assert {f'{name}{{model="{model}"}}' for model in MODELS} <= metrics.keys(), name
    assert set(PLAIN) <= metrics.keys()
    for edge in ("0.0", "1.0", "2.0", "3.0", "5.0", "10.0", "+Inf"):
        assert metrics[f'llm_json_retry_count_bucket{{le="{edge}",model="qwen"}}'] == 0
    falls = {name for name in metrics if name.startswith("llm_mode_downshift_total")}
    assert falls == {
        f'llm_mode_downshift_total{{from="{a}",to="{b}"}}'
        for a, b in (("creative", "balanced"), ("creative", "fast"), ("balanced", "fast"))
    }
    assert not [name for name in metrics if "_created" in name]


@pytest.mark.parametrize("expression", EXPRESSIONS)
async def test_expressions_find_their_series(stand, expression):
    """Each PromQL expression of the manual names series that are there, with the labels it asks for."""
    metrics = await stand.metrics()
    for name, labels in re.findall(r"\b((?:llm|cache|circuit)_\w+)(\{[^}]*\})?", expression):
        found = [series for series in metrics if series.partition("{")[0] == name]
        assert [series for series in found if not labels or labels[1:-1] in series], (name, labels)


async def test_alerts_find_their_series(stand):
    """So does each rule of config/alerts.yaml."""
    metrics = {name.partition("{")[0] for name in await stand.metrics()}
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    names = {name for rule in rules for name in re.findall(r"\b(?:llm|cache|circuit|guardproxy)_\w+", rule["expr"])}
    assert names <= metrics
    assert {rule.get("alert") for rule in rules} >= {
        "HighJSONFallbackRate",
        "QwenCircuitBreakerOpen",
        "LowCacheHitRate",
        "LLMModelUnhealthy",
    }


async def test_a_miss_and_a_hit(stand):
    """An ordinary miss moves requests, misses and size; a hit moves hits alone."""
    before = await stand.metrics()
    await stand.chat()
    assert await moved(stand, before) == {
        'llm_requests_total{model="llama"}': 1,
        "cache_misses_total": 1,
        "cache_size": 1,
    }
    before = await stand.metrics()
    await stand.chat()
    assert await moved(stand, before) == {"cache_hits_total": 1}


async def test_a_bypass_is_neither(stand):
    """A bypass is neither hit nor miss."""
    before = await stand.metrics()
    await stand.chat(headers={"Cache-Control": "no-store"})
    assert await moved(stand, before) == {'llm_requests_total{model="llama"}': 1}


async def test_re_asks(stand):
    """Re-asks: one request, a parse failure for each bad answer, one observation of how many re-asks."""
    stand.sims["llama"].faults = "not-json,right-on=3"
    before = await stand.metrics()
    await stand.chat(response_format=JSON_SCHEMA, headers={"Cache-Control": "no-store"})
    assert await moved(stand, before) == {
        'llm_requests_total{model="llama"}': 1,
        'llm_json_parse_failures_total{model="llama"}': 2,
        'llm_json_retry_count_count{model="llama"}': 1,
        'llm_json_retry_count_sum{model="llama"}': 2,
    }
    assert await stand.metric('llm_json_retry_count_bucket{le="1.0",model="llama"}') == 0
    assert await stand.metric('llm_json_retry_count_bucket{le="2.0",model="llama"}') == 1


async def test_a_fallback(make):
    """A fallback: parse failures of all answers, one fallback, and no request failure: the model did answer."""
    stand = await make({"json_guard": {"schemas": {"scent": BRIEF}}, "cache": {"enabled": False}})
    stand.sims["llama"].faults = "not-json"
    before = await stand.metrics()
    await stand.chat(response_format=JSON_SCHEMA)
    assert await moved(stand, before) == {
        'llm_requests_total{model="llama"}': 1,
        'llm_json_parse_failures_total{model="llama"}': 4,
        'llm_json_fallback_used_total{model="llama"}': 1,
        'llm_json_retry_count_count{model="llama"}': 1,
        'llm_json_retry_count_sum{model="llama"}': 3,
    }


async def test_a_fallback_of_nobody(make):
    """A fallback while every circuit is open counts for the model that was asked for, which was not asked."""
    stand = await make({"json_guard": {"schemas": {"scent": BRIEF}}, "cache": {"enabled": False}})
    for name in MODELS:
        await stand.put(f"/guard/breakers/{name}", {"state": "open"})
    before = await stand.metrics()
    answer = await stand.chat(response_format=JSON_SCHEMA)
    assert (answer.status, answer.headers["X-Guardproxy-Json"]) == (200, "fallback")
    assert answer.headers["X-Guardproxy-Attempts"] == "0"
    assert await moved(stand, before) == {'llm_json_fallback_used_total{model="llama"}': 1}


async def test_a_failure(make):
    """A call that failed moves requests and failures, of every model that it was sent to, once each."""
    stand = await make({"cache": {"enabled": False}, "circuit_breaker": {"minimum_requests": 100}})
    for sim in stand.sims.values():
        sim.faults = "status=500"
    before = await stand.metrics()
    await stand.chat()
    assert await moved(stand, before) == {
        f'{name}{{model="{model}"}}': 1
        for name in ("llm_requests_total", "llm_request_failures_total")
        for model in MODELS
    }


async def test_a_success_after_a_failure(make):
    """A call of which one attempt succeeded has not failed at that model."""
    stand = await make({"cache": {"enabled": False}})
    stand.sims["llama"].faults = "status=500,times=1"
    before = await stand.metrics()
    assert (await stand.chat(headers=NEVER)).status == 200
    assert await moved(stand, before) == {'llm_requests_total{model="llama"}': 1}


@pytest.mark.parametrize("manner", ["status=404", "status=429", "status=503,retry-after=60"])
async def test_what_is_no_failure(make, manner):
    """What the caller got wrong, and what was throttled, is no failure of the model."""
    stand = await make({"cache": {"enabled": False}, "retry": {"attempts": 0}})
    stand.sims["llama"].faults = manner
    before = await stand.metrics()
    await stand.chat()
    assert await moved(stand, before) == {'llm_requests_total{model="llama"}': 1}


async def test_refusals_of_the_house(stand):
    """What the proxy refuses itself is no call to any model; its code is counted."""
    before = await stand.metrics()
    await stand.chat(model="gpt-17")
    await stand.ask("POST", "/v1/chat/completions", data=b"{")
    await stand.chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": 7}})
    assert await moved(stand, before) == {}
    after = await stand.metrics()
    for code in ("model_not_found", "invalid_json", "invalid_schema"):
        name = f'guardproxy_errors_total{{code="{code}"}}'
        assert after[name] == before[name] + 1


@pytest.mark.parametrize(
    "code, sent",
    [
        ("invalid_request", b"POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("invalid_request", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("request_too_large", b"GET /v1/x HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000 + b"\r\n\r\n"),
        ("request_timeout", b"POST /v1/chat/completions HTTP/1.1\r\nHost"),
    ],
)  # fmt: skip
async def test_refusals_of_the_front(make, code, sent):
    """Bytes that are no request are answered with an id, counted, shown and written: whoever is probed sees it."""
    stand = await make({"limits": {"header_timeout": 0.3}})
    before = await stand.metrics()
    received, _ = await stand.raw(sent, patience=10)
    assert b'"code":"%b"' % code.encode() in received
    ident = re.search(rb"\r\nX-Request-Id: (\w+)\r\n", received)
    assert ident is not None
    after = await stand.metrics()
    name = f'guardproxy_errors_total{{code="{code}"}}'
    assert after[name] == before[name] + 1
    name = 'guardproxy_requests_total{source="own",status="4xx"}'
    assert after[name] == before[name] + 1
    shown = await stand.get(f"/guard/requests/{ident[1].decode()}")
    assert shown.status == 200


async def test_one_connection_too_many(make):
    """It is told when to come back, and counted."""
    stand = await make({"limits": {"connections": 1}})
    host, _, port = stand.app.removeprefix("http://").partition(":")
    _, resting = await asyncio.open_connection(host, int(port))

    came: list[bytes] = []

    async def refused():
        came.append((await stand.raw(b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n"))[0])
        return came[-1].startswith(b"HTTP/1.1 503")

    await stand.until_that(refused, 10)
    assert b"\r\nRetry-After: 1\r\n" in came[-1]
    resting.close()
    counted = (await stand.get("/metrics", admin=True)).text
    assert 'guardproxy_errors_total{code="overloaded"} 0' not in counted


async def test_labels_come_from_the_configuration(stand):
    """Nothing that a caller sends becomes a label."""
    before = set(await stand.metrics())
    for number in range(5):
        await stand.chat(model=f"made-up-{number}", mode=f"mode-{number}")
        await stand.get(f"/made-up-{number}")
        await stand.chat(model="qwen", user=f"user-{number}", headers={"X-Guardproxy-Schema": f"s{number}"})
    assert set(await stand.metrics()) == before


async def test_documented(stand):
    """Every name at /metrics is in docs/metrics.md, with when it moves."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    lines = (await stand.get("/metrics")).text.splitlines()
    names = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
    names = {name for name in names if not re.match(r"guardproxy_process_|guardproxy_(open|max)_fds", name)}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


async def test_tokens(stand):
    """Tokens are those that the answer states; a hit costs none, and saves as many."""
    usage = (await stand.chat()).json()["usage"]
    await stand.chat()
    assert await stand.metric('guardproxy_tokens_saved_total{model="llama"}') == usage["total_tokens"]
    assert await stand.metric('guardproxy_tokens_total{direction="out",model="llama"}') == usage["completion_tokens"]


@pytest.mark.needs("promtool")
async def test_promtool_has_nothing_to_say(stand):
    """Of the metrics of a proxy that has done something, too."""
    for stream in (False, True, False):
        await stand.chat("again", stream=stream, model="fast")
    text = (await stand.get("/metrics")).body
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
