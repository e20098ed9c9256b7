"""What was answered a moment ago is answered again: the same bytes, to the same caller, and only what was right."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.app.stand import BRIEF, CHAT, JSON_SCHEMA, NEVER, Replay, asking, whole

MISS = "guardproxy; fwd=miss"
STORED = "guardproxy; fwd=miss; stored"
BYPASS = "guardproxy; fwd=bypass"


def status(answer):
    return answer.headers.get("Cache-Status")


async def counts(stand):
    metrics = await stand.metrics()
    return tuple(int(metrics[name]) for name in ("cache_hits_total", "cache_misses_total", "cache_size"))


@pytest.mark.parametrize("stream", [False, True])
async def test_hit(stand, stream):
    """The second time it is a hit: byte-identical, with ttl and Age, and no model is asked."""
    first = await stand.chat(stream=stream)
    assert status(first) == (MISS if stream else STORED)
    assert "Age" not in first.headers
    second = await stand.chat(stream=stream)
    name, hit, ttl = status(second).split("; ")
    assert (name, hit) == ("guardproxy", "hit")
    assert 595 <= int(ttl.removeprefix("ttl=")) <= 600
    assert 0 <= int(second.headers["Age"]) <= 5
    assert second.body == first.body
    assert second.headers["Content-Type"] == first.headers["Content-Type"]
    assert second.headers["X-Guardproxy-Upstream"] == "llama"
    assert second.headers["X-Guardproxy-Mode"] == "creative"
    assert second.headers["X-Guardproxy-Attempts"] == "0"
    assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert stand.asked("llama") == 1
    assert await counts(stand) == (1, 1, 1)
    metrics = await stand.metrics()
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['guardproxy_requests_total{source="cache",status="2xx"}'] == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_either_kind_of_caller(stand, stream):
    """What came whole is shown as events, and the other way round; the same words, the same id, no model asked."""
    usage = {"stream_options": {"include_usage": True}}
    first = await stand.chat(stream=stream, **(usage if stream else {}))
    second = await stand.chat(stream=not stream, **({} if stream else usage))
    assert status(second).startswith("guardproxy; hit")
    whole, streamed = (second, first) if stream else (first, second)
    assert whole.headers["Content-Type"] == "application/json"
    assert streamed.headers["Content-Type"].startswith("text/event-stream")
    assert whole.content == streamed.said
    chunks = [event for event in streamed.events if event != "[DONE]"]
    assert {chunk["id"] for chunk in chunks} == {whole.json()["id"]}
    assert {chunk["created"] for chunk in chunks} == {whole.json()["created"]}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[-1]["usage"] == whole.json()["usage"]
    assert streamed.events[-1] == "[DONE]"
    assert stand.asked("llama") == 1
    assert (await stand.chat(stream=stream, **(usage if stream else {}))).body == first.body


async def test_tools_and_reasoning_go_along(make):
    """Tool calls and what a model thought are in the answer of the other kind too."""
    tool = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {"role": "assistant", "content": "hm", "reasoning_content": "which scent?", "tool_calls": [tool]}
    doc = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    async with Replay(whole(json.dumps(doc).encode())) as model:
        stand = await make({"upstreams": {"llama": {"url": model.url}}})
        asked = len(model.heads)
        await stand.chat()
        events = (await stand.chat(stream=True)).events
        assert len(model.heads) == asked + 1
    deltas = [event["choices"][0]["delta"] for event in events if event != "[DONE]"]
    assert deltas[0]["reasoning_content"] == "which scent?"
    assert deltas[0]["tool_calls"] == [{"index": 0, **tool}]
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_stream_as_others_want_it(stand):
    """Usage is told to those who ask for it, and to nobody else; where it never came the model is asked."""
    await stand.chat(stream=True)
    asks = {"stream_options": {"include_usage": True}}
    told = await stand.chat(stream=True, **asks)
    assert (status(told), stand.asked("llama")) == (MISS, 2)
    again = await stand.chat(stream=True)
    assert status(again).startswith("guardproxy; hit")
    assert all("usage" not in event for event in again.events if event != "[DONE]")
    assert again.said == told.said


async def test_judged_answers_are_kept_as_judged(stand):
    """A hit says of its JSON what was found when it was kept, and is counted as judged once."""
    stand.sims["llama"].faults = "half-json,right-on=2"
    first = await stand.chat(response_format=JSON_SCHEMA)
    second = await stand.chat(response_format=JSON_SCHEMA)
    assert status(second).startswith("guardproxy; hit")
    assert first.headers["X-Guardproxy-Json"] == second.headers["X-Guardproxy-Json"]
    assert first.body == second.body
    assert await stand.metric('llm_json_retry_count_count{model="llama"}') == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lenient", [{"strict_schema": False}, {"enabled": "shadow"}])
async def test_what_breaks_its_schema_is_not_kept(make, lenient, stream):
    """It may be let through, but is not pinned: neither for this proxy nor for a strict one behind the same store."""
    stand = await make({"json_guard": lenient})
    stand.sims["llama"].faults = "wrong-type"
    for _ in range(2):
        answer = await stand.chat(stream=stream, response_format=JSON_SCHEMA)
        assert "hit" not in status(answer)
        assert answer.headers["X-Guardproxy-Json"] == "unchecked"
    assert (await stand.state())["cache"]["size"] == 0


async def test_headers_of_one_request_are_not_shown_again(stand):
    """Request ids, cookies and rate limits of the first caller are not the second one's."""
    first = await stand.chat(headers={"X-Request-Id": "first"})
    second = await stand.chat(headers={"X-Request-Id": "second"})
    assert first.headers.getall("X-Request-Id") == ["first"]
    assert second.headers.getall("X-Request-Id") == ["second"]


@pytest.mark.parametrize(
    "name", ["Authorization", "X-Api-Key", "Api-Key", "OpenAI-Organization", "OpenAI-Project", "Cookie"]
)
async def test_tenants_share_nothing(stand, name):
    """Callers who differ in a key, an organisation or a cookie never see each other's answers."""
    for value in ("one", "two", None):
        headers = {name: value} if value else {}
        assert status(await stand.chat(headers=headers)) == STORED
    assert status(await stand.chat(headers={name: "one"})).startswith("guardproxy; hit")
    assert await counts(stand) == (1, 3, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.5},
        {"seed": 7},
        {"user": "me"},
        {"anything": "else"},
        {"response_format": {"type": "json_object"}},
        {"tools": []},
        {"model": "creative"},
        {"messages": [{"role": "user", "content": "a rose "}]},
    ],
)
async def test_any_difference_is_another_answer(stand, change):
    """Whatever differs in the body is another call: fields that nobody knows, too."""
    await stand.chat()
    assert status(await stand.chat(**change)) == STORED


async def test_query_and_path_belong_to_it(stand):
    """So do query and path."""
    await stand.chat()
    assert status(await stand.chat(path=CHAT + "?v=2")) == STORED
    assert status(await stand.ask("POST", "/v1/embeddings", json={"model": "llama", "input": "x"})) == STORED
    assert status(await stand.ask("POST", "/v1/embeddings", json={"model": "llama", "input": "x"})).startswith(
        "guardproxy; hit"
    )


async def test_the_same_call_by_another_name(stand):
    """An app that moves from /llama/v1 to model llama finds what it has asked before."""
    await stand.chat()
    again = await stand.chat(path="/llama" + CHAT)
    assert status(again).startswith("guardproxy; hit")


@pytest.mark.parametrize("field", [{"store": True}, {"conversation": "c1"}, {"previous_response_id": "r1"}])
async def test_stateful_calls(stand, field):
    """Calls that leave something on the server are never cached."""
    for _ in range(2):
        assert status(await stand.chat(**field)) == BYPASS
    assert stand.asked("llama") == 2
    assert await counts(stand) == (0, 0, 0)


async def test_no_store(stand):
    """`no-store` looks nothing up and stores nothing."""
    await stand.chat()
    assert status(await stand.chat(headers={"Cache-Control": "no-store"})) == BYPASS
    assert status(await stand.chat("other", headers={"Cache-Control": "No-Store"})) == BYPASS
    assert await counts(stand) == (0, 1, 1)


async def test_no_cache(stand):
    """`no-cache` looks nothing up but stores what comes."""
    await stand.chat()
    await stand.chat(headers={"Cache-Control": "no-cache"})
    assert stand.asked("llama") == 2
    assert await counts(stand) == (0, 1, 1)


async def test_max_age(stand):
    """`max-age=N` takes no older answer; what is fetched instead is kept."""
    await stand.chat()
    assert status(await stand.chat(headers={"Cache-Control": "max-age=100"})).startswith("guardproxy; hit")
    await asyncio.sleep(0.01)
    assert status(await stand.chat(headers={"Cache-Control": "max-age=0"})) == STORED
    assert stand.asked("llama") == 2


async def test_only_if_cached(stand):
    """`only-if-cached` never asks a model: a hit, or 504 `not_cached`."""
    only = {"Cache-Control": "only-if-cached"}
    answer = await stand.chat(headers=only)
    assert (answer.status, answer.code) == (504, "not_cached")
    assert stand.asked("llama") == 0
    await stand.chat()
    assert (await stand.chat(headers=only)).status == 200
    assert (await stand.chat(store=True, headers=only)).code == "not_cached"
    assert await counts(stand) == (1, 1, 1)


async def test_ttl(make):
    """After `ttl_seconds` an answer is fetched anew; the expiry is counted once."""
    stand = await make({"cache": {"ttl_seconds": 0.2}})
    await stand.chat()
    assert status(await stand.chat()) == "guardproxy; hit; ttl=0"
    await asyncio.sleep(0.2)
    assert status(await stand.chat()) == STORED
    assert await stand.metric("cache_ttl_expirations_total") == 1
    assert stand.asked("llama") == 2


async def test_sweep(make):
    """What has expired is swept though nobody asks for it."""
    stand = await make({"cache": {"ttl_seconds": 0.1, "cleanup_interval": 0.1}})
    await stand.chat()

    async def swept():
        return await stand.metric("cache_size") == 0

    await stand.until_that(swept)
    assert await stand.metric("cache_ttl_expirations_total") == 1


async def test_lru(make):
    """Over `max_size` the least recently used answer leaves."""
    stand = await make({"cache": {"max_size": 2}})
    for text in ("a", "b", "a", "c"):
        await stand.chat(text)
    assert status(await stand.chat("a")).startswith("guardproxy; hit")
    assert status(await stand.chat("b")) == STORED
    metrics = await stand.metrics()
    assert (metrics["cache_size"], metrics["cache_evictions_total"]) == (2, 2)


async def test_max_bytes(make):
    """Over `max_bytes` as well; what is larger than all of it is not kept at all."""
    stand = await make({"cache": {"max_bytes": "64KiB"}})
    for number in range(60):
        await stand.chat(str(number))
    metrics = await stand.metrics()
    assert 0 < metrics["guardproxy_cache_bytes"] <= 65536
    assert metrics["cache_evictions_total"] > 0
    big = {"model": "qwen", "input": ["x"] * 10, "dimensions": 4096}
    assert status(await stand.ask("POST", "/v1/embeddings", json=big)) == MISS


@pytest.mark.parametrize(
    "manner, body",
    [
        ("status=500", {}),
        ("status=400", {}),
        ("error-200", {}),
        ("length", {}),
        ("length", {"stream": True}),
        ("cut=3", {"stream": True}),
        ("error-event=3,token-delay=0.01", {"stream": True}),
        ("empty", {}),
        ("not-json", {"response_format": JSON_SCHEMA}),
    ],
)
async def test_never_stored(make, manner, body):
    """Errors, answers cut short, broken streams and fallbacks are never kept."""
    stand = await make({"retry": {"attempts": 0}, "json_guard": {"schemas": {"scent": BRIEF}}})
    stand.sims["llama"].faults = manner
    await stand.chat(headers=NEVER, **body)
    assert (await counts(stand))[2] == 0
    stand.sims["llama"].faults = None
    again = await stand.chat(headers=NEVER, **body)
    assert again.status == 200
    assert status(again).startswith(MISS)


async def test_when_deterministic(make):
    """`when: deterministic` keeps only what has temperature 0 or a seed."""
    stand = await make({"cache": {"when": "deterministic"}})
    assert status(await stand.chat()) == BYPASS
    assert status(await stand.chat(temperature=0)) == STORED
    assert status(await stand.chat(seed=1)) == STORED


async def test_off(make):
    """`cache.enabled: false`: no header, no count, every call is asked."""
    stand = await make({"cache": {"enabled": False}})
    for _ in range(2):
        assert status(await stand.chat()) is None
    assert stand.asked("llama") == 2
    assert await counts(stand) == (0, 0, 0)


async def test_downshifted_answers_are_kept_as_such(stand):
    """An answer of a lower mode is never shown as the higher one's, once that is back."""
    await stand.put("/guard/breakers/llama", {"state": "open"})
    first = await stand.chat(model="creative")
    assert first.headers["X-Guardproxy-Upstream"] == "mistral"
    second = await stand.chat(model="creative")
    assert status(second).startswith("guardproxy; hit")
    assert second.headers["X-Guardproxy-Mode"] == "balanced; from=creative; reason=circuit_open"
    await stand.put("/guard/breakers/llama", {"state": "closed"})

    async def risen():
        return (await stand.state())["mode"]["ceiling"] == "creative"

    await stand.until_that(risen)
    third = await stand.chat(model="creative")
    assert status(third) == STORED
    assert third.headers["X-Guardproxy-Upstream"] == "llama"


async def test_a_retried_answer_is_kept_under_who_gave_it(stand):
    """The same where a failed attempt was retried elsewhere without any circuit having opened."""
    stand.sims["llama"].faults = "status=500,times=1"
    first = await stand.chat()
    assert first.headers["X-Guardproxy-Upstream"] == "mistral"
    second = await stand.chat()
    assert (status(second), second.headers["X-Guardproxy-Upstream"]) == (STORED, "llama")


async def test_what_was_kept_outlives_an_outage(stand):
    """While a model is out, its fresh answers are still shown: better than a lower mode's."""
    first = await stand.chat(model="creative")
    await stand.put("/guard/breakers/llama", {"state": "open"})
    second = await stand.chat(model="creative")
    assert second.body == first.body
    assert stand.asked("mistral") == 0
    assert second.headers["X-Guardproxy-Mode"] == "creative"


async def test_purge(stand):
    """An operator drops all entries, or those of one model; the answer says how many."""
    for model in ("llama", "qwen", "mistral"):
        await stand.chat(model=model)
    answer = await stand.ask("DELETE", "/guard/cache?model=qwen", admin=True)
    assert (answer.status, answer.json()) == (200, {"dropped": 1})
    assert status(await stand.chat(model="llama")).startswith("guardproxy; hit")
    assert (await stand.ask("DELETE", "/guard/cache", admin=True)).json() == {"dropped": 2}
    await asyncio.sleep(0.005)  # the clock of the loop counts milliseconds; what is asked within one is not kept
    assert status(await stand.chat(model="llama")) == STORED
    answer = await stand.ask("DELETE", "/guard/cache?model=gpt", admin=True)
    assert answer.status == 422
    assert "llama" in answer.error["message"]


async def test_a_purge_of_another_model_is_none_of_its_business(stand):
    """What is under way to one model is kept, though another's answers are dropped."""
    stand.sims["llama"].faults = "latency=0.3"
    asked = asyncio.ensure_future(stand.chat())
    await stand.until(lambda: stand.asked("llama") == 1)
    await stand.ask("DELETE", "/guard/cache?model=mistral", admin=True)
    assert status(await asked) == STORED


async def test_a_purge_holds_for_calls_under_way(stand):
    """What was asked before a purge is not kept after it."""
    stand.sims["llama"].faults = "latency=0.2"
    call = asyncio.ensure_future(stand.chat())
    await stand.until(lambda: stand.asked("llama") == 1)
    await stand.ask("DELETE", "/guard/cache", admin=True)
    assert status(await call) == MISS
    assert await stand.metric("cache_size") == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_stale_if_error(make, stream):
    """With `stale_if_error_seconds` an answer that has expired is better than none, and says what it is."""
    stand = await make(
        {"cache": {"ttl_seconds": 0.1, "stale_if_error_seconds": 60}, "circuit_breaker": {"minimum_requests": 1}}
    )
    first = await stand.chat(stream=stream)
    await asyncio.sleep(0.1)
    for sim in stand.sims.values():
        sim.down()
    for _ in range(2):  # failing, then open
        answer = await stand.chat(stream=stream)
        assert (answer.status, answer.body) == (200, first.body)
        assert status(answer) in {f"guardproxy; hit; ttl={ttl}; detail=stale-if-error" for ttl in (0, -1, -2)}
        assert "Age" in answer.headers
    refused = await stand.chat(stream=stream, headers={"Cache-Control": "no-cache"})
    assert refused.status >= 500
    metrics = await stand.metrics()
    assert metrics['guardproxy_requests_total{source="stale",status="2xx"}'] == 2


async def test_stale_while_revalidate(make):
    """With `stale_while_revalidate_seconds` nobody waits: an expired answer at once, and one call to replace it."""
    stand = await make({"cache": {"ttl_seconds": 0.2, "stale_while_revalidate_seconds": 60}})
    first = await stand.chat()
    await asyncio.sleep(0.2)
    stand.sims["llama"].faults = "latency=0.2"
    answers = await asyncio.gather(*(stand.chat() for _ in range(5)))
    assert {answer.body for answer in answers} == {first.body}
    for answer in answers:
        assert status(answer) in {f"guardproxy; hit; ttl={ttl}; detail=stale-while-revalidate" for ttl in (0, -1)}
    await stand.until(lambda: stand.asked("llama") == 2)
    assert stand.proxy.desk.in_flight == 0
    await stand.until(lambda: not len(stand.proxy.desk.background))
    fresh = await stand.chat()
    assert fresh.body != first.body
    metrics = await stand.metrics()
    assert metrics["guardproxy_cache_refreshes_total"] == 1
    assert metrics["cache_hits_total"] == 6
    assert metrics['guardproxy_requests_total{source="upstream",status="2xx"}'] == 1
    assert metrics['llm_requests_total{model="llama"}'] == 2
    assert metrics["guardproxy_callers_gone_total"] == 0


async def test_a_refresh_that_fails_harms_nobody(make):
    """The old answer is shown as long as it may be; the end of the proxy ends what is under way."""
    stand = await make({"cache": {"ttl_seconds": 0.1, "stale_while_revalidate_seconds": 60}, "retry": {"attempts": 0}})
    first = await stand.chat(headers=NEVER)
    await asyncio.sleep(0.1)
    stand.sims["llama"].faults = "status=500,times=1"
    assert (await stand.chat(headers=NEVER)).body == first.body
    await stand.until(lambda: stand.asked("llama") == 2 and not len(stand.proxy.desk.background))
    stand.sims["llama"].faults = "latency=5"
    assert (await stand.chat(headers=NEVER)).body == first.body
    await stand.until(lambda: stand.asked("llama") == 3)
    stand.proxy.desk.background.close()
    await stand.until(stand.at_rest)


async def test_shadow(make):
    """`cache.enabled: shadow`: kept and counted, and every call is asked all the same."""
    stand = await make({"cache": {"enabled": "shadow"}})
    for _ in range(3):
        assert status(await stand.chat()) is None
    assert stand.asked("llama") == 3
    assert await counts(stand) == (2, 1, 1)


async def test_stale_before_fallback(make):
    """An answer that was once right is better than the declared fallback."""
    stand = await make(
        {
            "cache": {"ttl_seconds": 0.1, "stale_if_error_seconds": 60},
            "json_guard": {"max_retries": 0, "schemas": {"scent": BRIEF}},
        }
    )
    first = await stand.chat(response_format=JSON_SCHEMA)
    await asyncio.sleep(0.1)
    stand.sims["llama"].faults = "not-json"
    second = await stand.chat(response_format=JSON_SCHEMA)
    assert second.body == first.body
    assert second.headers["X-Guardproxy-Json"] == "valid"
    other = await stand.chat("other", response_format=JSON_SCHEMA)
    assert other.headers["X-Guardproxy-Json"] == "fallback"
    assert await stand.metric('llm_json_fallback_used_total{model="llama"}') == 1


async def test_keys_beyond_two_to_the_53(stand):
    """Seeds that differ beyond a double's precision are two calls."""
    for seed in (9007199254740992, 9007199254740993):
        body = json.dumps(asking(seed=seed)).encode()
        answer = await stand.ask("POST", CHAT, data=body, headers={"Content-Type": "application/json"})
        assert status(answer) == STORED


async def test_other_methods_and_paths_are_not_cached(stand):
    """Nothing but inference is looked up or kept."""
    for _ in range(2):
        assert status(await stand.get("/llama/v1/files")) is None
    assert await counts(stand) == (0, 0, 0)
