"""What the proxy does not understand passes through untouched, in both directions."""

from __future__ import annotations

import asyncio
import gzip
import json
import re

import pytest

from tests.app.stand import CHAT, Replay, asking, request, whole

CHUNKS = b"".join(
    [
        b"\xef\xbb\xbf: hello\r\n\r\n",
        b'data:{"id":"1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\r\n\r\n',
        b'event: x\nid: 7\ndata: {"id":"1","choices":[{"index":0,\n',
        b'data: "delta":{"content":"\xed\x96\xa5\xec\x88\x98"}}]}\n\n',
        b': ping\n\ndata: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\r\r',
        b"data: [DONE]\n\n",
    ]
)
LOGGED = ("GET", "DELETE", "PATCH", "OPTIONS", "PUT", "POST")


def normal(body):
    """A stream without what differs from one answer to the next."""
    return re.sub(rb'"created":\d+', b'"created":0', re.sub(rb'"id":"[^"]+"', b'"id":"x"', body))


@pytest.mark.parametrize("method", LOGGED)
async def test_methods_paths_queries(stand, method):
    """Any method, path and query behind an upstream's name reaches it as it was sent, and its answer comes back."""
    target = "/v1/files/%2Fodd%20name;v=1/?a=%26&b=1+2&a=&c"
    received, _ = await stand.raw(request(None, method=method, path=f"/qwen{target}"))
    visit = stand.sims["qwen"].memory.requests[-1]
    assert (visit.method, visit.target) == (method, target)
    assert received.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert received.endswith(b'{"detail":"Not Found"}')


async def test_head(stand):
    """HEAD gets the header fields of the upstream's answer and no body."""
    received, end = await stand.raw(request(method="HEAD", path="/llama/health"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 2\r\n" in received
    assert received.endswith(b"\r\n\r\n")
    assert end == "fin"


async def test_upload_is_streamed(stand):
    """A body of unknown length is passed on while it comes; 5 MB of it arrive whole."""
    pieces = [bytes([number]) * 50_000 for number in range(100)]

    async def body():
        for piece in pieces:
            yield piece

    answer = await stand.ask("POST", "/qwen/v1/files", data=body())
    assert answer.status == 404
    visit = stand.sims["qwen"].memory.requests[-1]
    assert visit.raw == b"".join(pieces)
    assert visit.headers["Transfer-Encoding"] == "chunked"


async def test_a_declared_length_is_declared_again(stand):
    """There are servers that read no chunks: what came with a length goes on with it, streamed all the same."""
    body = bytes(range(256)) * 4_000
    answer = await stand.ask("POST", "/qwen/v1/files", data=body)
    assert answer.status == 404
    visit = stand.sims["qwen"].memory.requests[-1]
    assert visit.raw == body
    assert visit.headers["Content-Length"] == str(len(body))
    assert "Transfer-Encoding" not in visit.headers


async def test_download_is_streamed(make):
    """What an unknown path answers is passed on while it comes: nothing waits for its end."""
    big = b"x" * 300_000
    async with Replay(whole(big, kind="application/octet-stream"), pieces=30_000, pause=0.02) as replay:
        stand = await make({"upstreams": {"qwen": {"url": replay.url}}}, bare=True)
        async with stand.session.get(f"{stand.app}/qwen/v1/files/1/content") as response:
            first = await response.content.readany()
            assert 0 < len(first) < len(big)
            assert response.headers["Content-Length"] == str(len(big))
            assert first + await response.content.read() == big


async def test_other_paths_are_not_guarded(stand):
    """Paths that are no inference are relayed once: not retried, not counted, nothing for the circuit."""
    stand.sims["qwen"].faults = None
    before = await stand.metrics()
    stand.sims["qwen"].down()
    for _ in range(6):
        answer = await stand.get("/qwen/v1/files")
        assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert "X-Guardproxy-Attempts" not in answer.headers
        assert "Cache-Status" not in answer.headers
    after = await stand.metrics()
    for name in before:
        if name.startswith(("llm_", "circuit_", "cache_")):
            assert after[name] == before[name], name
    assert await stand.circuit("qwen") == "closed"


async def test_other_paths_need_no_body_model(stand):
    """An unknown path without an upstream's name goes nowhere: 404 says how to name one."""
    answer = await stand.get("/v1/files")
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert "/NAME/v1" in answer.error["message"]


async def test_default_upstream(make):
    """With `default_upstream` such calls go there."""
    stand = await make({"default_upstream": "mistral"})
    assert (await stand.get("/v1/files?limit=2")).headers["X-Guardproxy-Upstream"] == "mistral"
    assert stand.sims["mistral"].memory.requests[-1].target == "/v1/files?limit=2"


async def test_redirects_are_not_followed(make):
    """A redirect on an unknown path is the caller's to follow."""
    answer = whole(b"", "Location: http://127.0.0.1:1/elsewhere", status="302 Found")
    async with Replay(answer) as replay:
        stand = await make({"upstreams": {"qwen": {"url": replay.url}}}, bare=True)
        answer = await stand.get("/qwen/docs")
    assert (answer.status, answer.headers["Location"]) == (302, "http://127.0.0.1:1/elsewhere")


async def test_header_fields_upward(stand):
    """Every field of the caller goes up, but for hop-by-hop fields and those that are for the proxy."""
    headers = {
        "Authorization": "Bearer sk-caller",
        "X-Custom": "yes",
        "User-Agent": "app/1",
        "X-Guardproxy-Skip": "cache",
        "X-Guardproxy-Anything": "1",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
        "TE": "trailers",
        "Proxy-Authorization": "Basic x",
        "X-LLM-Mode": "creative",
        "Accept-Encoding": "gzip, br",
    }
    assert (await stand.chat(headers=headers)).status == 200
    seen = stand.sims["llama"].memory.requests[-1].headers
    assert (seen["Authorization"], seen["X-Custom"], seen["User-Agent"]) == ("Bearer sk-caller", "yes", "app/1")
    assert seen["X-LLM-Mode"] == "creative"
    assert seen.getall("Accept-Encoding") == ["identity"]
    assert seen["Host"] == stand.sims["llama"].url.removeprefix("http://")
    for name in ("X-Guardproxy-Skip", "X-Guardproxy-Anything", "X-Hop", "TE", "Proxy-Authorization", "Keep-Alive"):
        assert name not in seen, name


async def test_accept_encoding_elsewhere(stand):
    """On paths that need not be read the caller's Accept-Encoding stays as it is."""
    await stand.get("/llama/v1/files", headers={"Accept-Encoding": "br"})
    assert stand.sims["llama"].memory.requests[-1].headers["Accept-Encoding"] == "br"


async def test_header_fields_downward(make):
    """The upstream's fields come down, but for hop-by-hop fields and any that pretend to be ours."""
    fields = ("Connection: close, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "X-Guardproxy-Json: valid", "X-Ratelimit: 9")
    body = json.dumps({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
    async with Replay(whole(body, *fields, "Set-Cookie: a=1", "Set-Cookie: b=2")) as replay:
        stand = await make({"upstreams": {"llama": {"url": replay.url}}}, bare=True)
        for answer in (await stand.chat(), await stand.get("/llama/elsewhere")):
            assert answer.body == body
            assert answer.headers["X-Ratelimit"] == "9"
            assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
            for name in ("X-Hop", "Keep-Alive", "X-Guardproxy-Json"):
                assert name not in answer.headers, name


async def test_request_id(stand):
    """A caller's X-Request-Id goes up, comes back and is logged; for none, or an odd one, there is a new one."""
    answer = await stand.chat("one", headers={"X-Request-Id": "abc-1"})
    assert answer.headers.getall("X-Request-Id") == ["abc-1"]
    assert stand.sims["llama"].memory.requests[-1].headers.getall("X-Request-Id") == ["abc-1"]
    for odd in ({}, {"X-Request-Id": "two words"}, {"X-Request-Id": "x" * 200}):
        answer = await stand.chat("two", headers={**odd, "Cache-Control": "no-store"})
        (made,) = answer.headers.getall("X-Request-Id")
        assert made not in odd.values()
        assert stand.sims["llama"].memory.requests[-1].headers["X-Request-Id"] == made
    for bad in (await stand.ask("POST", CHAT, data=b"{"), await stand.chat(model="nobody")):
        assert bad.headers["X-Request-Id"]
    assert "abc-1" in {line.get("id") for line in stand.log()}


async def test_api_key_of_an_upstream(make):
    """An upstream's own `api_key` replaces whatever key the caller brought, under any name; `headers` are set."""
    stand = await make({"upstreams": {"llama": {"api_key": "sk-own", "headers": {"X-Tenant": "we"}}}})
    await stand.chat(headers={"Authorization": "Bearer sk-caller", "X-Api-Key": "sk-caller", "X-Tenant": "they"})
    seen = stand.sims["llama"].memory.requests[-1].headers
    assert seen.getall("Authorization") == ["Bearer sk-own"]
    assert seen.getall("X-Tenant") == ["we"]
    assert "X-Api-Key" not in seen


async def test_body_passes_byte_for_byte(stand):
    """A body that needs no rewriting reaches the model as the same bytes, however it is spelled."""
    body = (
        b' {"messages" : [{"role":"user","content":"r\\u006fse"}],\n'
        b' "model":"Qwen/Qwen2.5-7B-Instruct", "seed": 12345678901234567890, "x": 1e2}\n'
    )
    headers = {"Content-Type": "application/json"}
    assert (await stand.ask("POST", CHAT, data=body, headers=headers)).status == 200
    assert stand.sims["qwen"].memory.requests[-1].raw == body


async def test_rewriting_leaves_the_rest_alone(stand):
    """Where the model is rewritten nothing else in the body changes by a byte."""
    body = b'{"model": "llama",  "messages":[{"role":"user","content":"\\ud55c"}], "seed": 12345678901234567890}'
    await stand.ask("POST", CHAT, data=body, headers={"Content-Type": "application/json"})
    served = stand.sims["llama"].model.encode()
    assert stand.sims["llama"].memory.requests[-1].raw == body.replace(b'"llama"', b'"%b"' % served)


async def test_stream_is_the_upstreams(stand):
    """A stream through the proxy holds the bytes that the model server sends when asked directly."""
    body = asking(model=stand.sims["llama"].model, stream=True, stream_options={"include_usage": True})
    async with stand.session.post(stand.sims["llama"].url + CHAT, json=body) as response:
        direct = await response.read()
    answer = await stand.ask("POST", CHAT, json=body)
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert normal(answer.body) == normal(direct)
    assert answer.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("pieces", [1, 7, 1 << 20])
async def test_stream_byte_for_byte(make, pieces):
    """CR, LF, CRLF, a byte order mark, comments, split characters: what came is what leaves, and so is a hit."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    async with Replay(head + CHUNKS, pieces=pieces) as replay:
        stand = await make({"upstreams": {"llama": {"url": replay.url}}, "health": {"timeout": 0.2}}, bare=True)
        first = await stand.chat(stream=True)
        assert first.body == CHUNKS
        assert not first.cut
        assert first.headers["Cache-Status"] == "guardproxy; fwd=miss"
        second = await stand.chat(stream=True)
        assert second.headers["Cache-Status"].startswith("guardproxy; hit; ttl=")
        assert second.body == CHUNKS
        assert second.headers["Content-Type"] == "text/event-stream"


async def test_streams_arrive_while_they_are_made(stand):
    """The first token reaches the app before the model has thought of the last one."""
    stand.sims["llama"].faults = "token-delay=0.05"
    loop = asyncio.get_running_loop()
    async with stand.session.post(stand.app + CHAT, json=asking(stream=True, max_tokens=8)) as response:
        await response.content.readany()
        first = loop.time()
        await response.content.read()
    assert loop.time() - first > 0.2


async def test_compressed_answer(make):
    """An answer that is compressed though nobody asked for it is passed on as it is, with its Content-Encoding."""
    body = gzip.compress(
        json.dumps({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
    )
    async with Replay(whole(body, "Content-Encoding: gzip")) as replay:
        stand = await make({"upstreams": {"llama": {"url": replay.url}}}, bare=True)
        received, _ = await stand.raw(request(asking()))
    assert b"Content-Encoding: gzip\r\n" in received
    assert received.endswith(body)


@pytest.mark.parametrize(
    "path",
    ["/qwen/../guard/state", "/qwen/v1/%2e%2e/x", "/./qwen/v1/files", "/qwen\\..\\x", "/qwen/v1/..%2fmodels"],
)
async def test_dot_segments(stand, path):
    """Paths that the next reader could take for others are refused before anybody is asked."""
    received, _ = await stand.raw(request(method="GET", path=path))
    assert received.startswith(b"HTTP/1.1 400 ")
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


async def test_trailing_and_double_slashes(stand):
    """`//v1//chat/completions/` is the same inference path, guarded like it."""
    answer = await stand.chat(path="//v1//chat/completions/")
    assert answer.headers["X-Guardproxy-Attempts"] == "1"
    assert stand.sims["llama"].memory.requests[-1].target == CHAT


async def test_any_host_is_proxied(stand):
    """Proxied paths take any Host: it is the app's, not ours."""
    received, _ = await stand.raw(request(asking()).replace(b"Host: app.test", b"Host: anything.example"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_too_large(make):
    """A body over `limits.request_bytes` is refused with 413, on guarded paths and others, declared or not."""
    stand = await make({"limits": {"request_bytes": "64KiB"}})
    big = b"x" * 100_000

    async def chunked():
        for _ in range(10):
            yield big[:10_000]

    for path in (CHAT, "/qwen/v1/files"):
        answer = await stand.ask("POST", path, data=big)
        assert (answer.status, answer.code) == (413, "request_too_large"), path
        answer = await stand.ask("POST", path, data=chunked())
        assert (answer.status, answer.code) == (413, "request_too_large"), path
    assert stand.asked("qwen", CHAT) == 0


async def test_slow_body(make):
    """A body that does not come in time is answered 408, and its caller holds nothing."""
    stand = await make({"limits": {"body_timeout": 0.2}})
    received, _ = await stand.raw(request(asking())[:-10])
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in received
    received, _ = await stand.raw(request(b"x" * 100, path="/qwen/v1/files")[:-10])
    assert received.startswith(b"HTTP/1.1 408 "), received


async def test_slow_head(make):
    """So is a head that does not come in time."""
    stand = await make({"limits": {"header_timeout": 0.2}})
    received, _ = await stand.raw(b"GET /healthz HTTP/1.1\r\nHo")
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in received


@pytest.mark.parametrize(
    "body, code",
    [
        (b"{", "invalid_json"),
        (b"", "invalid_json"),
        (b'{"model":"llama","model":"qwen"}', "invalid_json"),
        (b'{"model":"llama","temperature":NaN}', "invalid_json"),
        (b'{"model":"\\ud800"}', "invalid_json"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'"llama"', "invalid_request"),
        (b'{"model":7}', "invalid_request"),
        (b'{"model":"llama","stream":"yes"}', "invalid_request"),
        (b'{"model":"llama","mode":3}', "invalid_request"),
        (b'{"model":"llama","n":"two"}', "invalid_request"),
    ],
)
async def test_unreadable_bodies(stand, body, code):
    """A guarded path's body that cannot be read, or means two things, is refused; no model is asked."""
    answer = await stand.ask("POST", CHAT, data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, answer.code) == (400, code)
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


async def test_smuggling(stand):
    """What two readers could frame differently is refused, and the connection closed."""
    for field in ("Transfer-Encoding: chunked", "Content-Length: 3"):
        received, end = await stand.raw(request(asking(), field))
        assert received.startswith(b"HTTP/1.1 400 ")
        assert end == "fin"
    assert all(stand.asked(name, None) == 0 for name in stand.sims)


async def test_expect_continue(stand):
    """A caller who waits for 100 Continue is told to go on."""
    received, _ = await stand.raw(request(asking(), "Expect: 100-continue"))
    assert b"HTTP/1.1 200 OK\r\n" in received
