"""Whatever an upstream does, the app gets an answer, another one's answer, or an error that it can read."""

from __future__ import annotations

import json

import pytest

from tests.app.stand import NEVER, Replay, asking, request, whole

ALONE = {"retry": {"attempts": 0}, "circuit_breaker": {"minimum_requests": 100}, "cache": {"enabled": False}}
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(*payloads):
    data = b"".join(b"data: %b\n\n" % payload for payload in payloads)
    return b"%x\r\n%b\r\n" % (len(data), data)


def piece(text, finish="null"):
    return b'{"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":%b}]}' % (text.encode(), finish.encode())


@pytest.fixture
async def alone(make):
    """A stand that tries nothing again, so that each fault is seen as it is."""
    return await make(ALONE)


async def window(stand, name="llama"):
    """The bad and all marks in a circuit's window."""
    circuit = stand.proxy.house.breaker.circuits[name]
    return circuit._window.bad, circuit._window.total


# what happens, streamed or not: status and code, whether it counts against the circuit
BEFORE = [
    ("reset-before", 502, "upstream_reset", True),
    ("reset-after", 502, "upstream_reset", True),
    ("garbage", 502, "upstream_protocol", True),
    ("status=500", 500, None, True),
    ("status=502", 502, None, True),
    ("status=529", 529, None, True),
    ("status=503", 503, None, True),
    ("status=408", 408, None, True),
    ("status=400", 400, None, None),
    ("status=401", 401, None, None),
    ("status=404", 404, None, None),
    ("status=422", 422, None, None),
    ("status=429", 429, None, None),
    ("status=503,retry-after=1", 503, None, None),
    ("loading", 503, None, None),
    ("error-200", 500, None, True),
    ("error-200=429", 429, None, None),
    ("error-200=400", 400, None, None),
    ("status=302", 502, "upstream_protocol", True),
    ("error-event=0", 500, None, True),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("manner, status, code, bad", BEFORE)
async def test_before_the_first_byte(alone, manner, status, code, bad, stream):
    """Until the first event is in hand a fault is a real HTTP error, in an envelope, and the circuit is told."""
    alone.sims["llama"].faults = manner
    answer = await alone.chat(stream=stream)
    assert answer.status == status
    assert "message" in answer.json()["error"]
    if code:
        assert answer.code == code
    assert answer.headers["X-Request-Id"]
    assert answer.headers["X-Guardproxy-Attempts"] == "1"
    assert answer.headers["Content-Type"].startswith("application/json")
    assert alone.asked("llama") == (2 if manner == "reset-before" else 1)  # a kept connection may have died of old age
    assert await window(alone) == ((1, 1) if bad else (0, 0))
    metrics = await alone.metrics()
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['llm_request_failures_total{model="llama"}'] == bool(bad)


@pytest.mark.parametrize(
    "manner, code", [("empty", "upstream_protocol"), ("cut=0", "upstream_reset"), ("reset-mid=0", "upstream_reset")]
)
async def test_whole_answers_that_are_none(alone, manner, code):
    """An answer without choices, or cut in half, is none."""
    alone.sims["llama"].faults = manner
    answer = await alone.chat()
    assert (answer.status, answer.code) == (502, code)
    assert await window(alone) == (1, 1)


@pytest.mark.parametrize("manner", ["hang"])
async def test_whole_answers_have_only_the_deadline(alone, manner):
    """An answer that is not streamed may be silent until `timeouts.total`; then it is 504, which says so."""
    alone.sims["llama"].faults = manner
    answer = await alone.chat()
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert "timeouts.total" in answer.error["message"]
    assert "1 s" in answer.error["message"]


@pytest.mark.parametrize("manner", ["hang", "comments=0.1"])
async def test_no_first_token(alone, manner):
    """A stream without a first event within `timeouts.first_token` is 504; comments and headers do not count."""
    alone.sims["llama"].faults = manner
    answer = await alone.chat(stream=True)
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert "timeouts.first_token" in answer.error["message"]
    assert await window(alone) == (1, 1)


async def test_connection_refused(alone):
    """Nobody listens there: 502 `upstream_unreachable`."""
    alone.sims["llama"].down()
    answer = await alone.chat()
    assert (answer.status, answer.code) == (502, "upstream_unreachable")
    assert await window(alone) == (1, 1)
    assert await alone.metric('guardproxy_errors_total{code="upstream_unreachable"}') == 1


@pytest.mark.parametrize(
    "manner, code",
    [
        ("cut=3", "upstream_stream_interrupted"),
        ("reset-mid=3", "upstream_stream_interrupted"),
        ("stall=3", "upstream_timeout"),
    ],
)
async def test_mid_stream(make, manner, code):
    """After the first byte a fault is an event: what came before stays, no [DONE], no end of the body; not stored."""
    stand = await make({"retry": {"attempts": 2}})
    stand.sims["llama"].faults = manner
    answer = await stand.chat(stream=True)
    assert answer.status == 200
    assert answer.cut
    *before, last = answer.events
    assert len([event for event in before if event["choices"][0]["delta"].get("content")]) == 3
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert last["error"]["code"] == code
    assert "llama" in last["error"]["message"]
    assert stand.asked("llama") == 1
    assert sum(stand.asked(name) for name in stand.sims) == 1
    assert await window(stand) == (1, 1)
    metrics = await stand.metrics()
    assert metrics['llm_request_failures_total{model="llama"}'] == 1
    assert metrics["cache_size"] == 0


async def test_mid_stream_leaves_no_terminal_chunk(alone):
    """The bytes on the wire: no last chunk, then the connection ends."""
    alone.sims["llama"].faults = "cut=2"
    received, end = await alone.raw(request(asking(stream=True)))
    assert b"Transfer-Encoding: chunked" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert end == "fin"


async def test_deadline_mid_stream(make):
    """A stream that is alive but longer than `timeouts.total` ends with an event that says so."""
    stand = await make({**ALONE, "timeouts": {"total": 0.6}})
    stand.sims["llama"].faults = "token-delay=0.05"
    answer = await stand.chat(stream=True)
    assert answer.cut
    assert answer.events[-1]["error"]["code"] == "upstream_timeout"
    assert "timeouts.total" in answer.events[-1]["error"]["message"]


async def test_error_event_later(alone):
    """An error event in the middle of a stream is the upstream's to tell: it passes, is a failure and never stored."""
    alone.sims["llama"].faults = "error-event=3,token-delay=0.02"
    answer = await alone.chat(stream=True)
    assert answer.status == 200
    assert any("error" in event for event in answer.events if event != "[DONE]")
    assert await window(alone) == (1, 1)


async def test_error_event_later_is_not_stored(make):
    """Engines send [DONE] after such an event: that does not make it an answer."""
    stand = await make()
    stand.sims["llama"].faults = "error-event=3,token-delay=0.02"
    await stand.chat(stream=True)
    assert await stand.metric("cache_size") == 0


async def test_no_done_but_finished(alone):
    """A stream that leaves out [DONE] but has its finish reasons is complete."""
    alone.sims["llama"].faults = "no-done"
    answer = await alone.chat(stream=True)
    assert not answer.cut
    assert await window(alone) == (0, 1)


async def test_length_is_no_fault(alone):
    """An answer cut at the caller's own length limit is a success."""
    answer = await alone.chat(max_tokens=3)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert await window(alone) == (0, 1)


@pytest.mark.parametrize("asked, told", [("2", "2"), ("99999999", "3600"), ("-5", None), ("soon", None)])
async def test_retry_after(alone, asked, told):
    """A time to wait is passed on where it makes sense: SDKs sleep for it, deaf to all else."""
    alone.sims["llama"].faults = f"status=429,retry-after={asked}"
    answer = await alone.chat()
    assert answer.status == 429
    assert answer.headers.get("Retry-After") == told


async def test_upstream_error_passes_byte_for_byte(make):
    """An upstream's own error passes with its status and body; only a body that is no envelope is mended."""
    body = b'{ "error" : {"message":"No","type":"x","param":null,"code":"own"} , "more":1}'
    async with Replay(whole(body, "X-Why: because", status="418 Teapot")) as replay:
        stand = await make({**ALONE, "upstreams": {"llama": {"url": replay.url}}}, bare=True)
        answer = await stand.chat(headers=NEVER)
        assert (answer.status, answer.body, answer.headers["X-Why"]) == (418, body, "because")
        replay.answer = whole(b'{"detail":[{"loc":["body","n"],"msg":"bad"}]}', status="422 Unprocessable Entity")
        answer = await stand.chat("two", headers=NEVER)
        assert (answer.status, answer.code) == (422, "upstream_error")
        assert "bad" in answer.error["message"]


@pytest.mark.parametrize(
    "answer, code",
    [
        (whole(b"<html>", kind="text/html"), "upstream_protocol"),
        (whole(b""), "upstream_protocol"),
        (whole(b'{"choices":[]}'), "upstream_protocol"),
        (whole(b'{"choices":"x"}'), "upstream_protocol"),
        (whole(b"[]"), "upstream_protocol"),
        (whole(b'{"choices":[{"index":0}]')[:-4], "upstream_reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "upstream_protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "upstream_protocol"),
        (b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}", "upstream_protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "upstream_protocol"),
        (b"HTTP/1.1 200 O", "upstream_reset"),
        (b"", "upstream_reset"),
        (whole(b"x" * 20, "Content-Encoding: gzip"), "upstream_protocol"),
    ],
)
async def test_bad_http(make, answer, code):
    """Bad HTTP, HTML, nothing at all: 502, and the app never sees the bytes."""
    async with Replay(answer) as replay:
        stand = await make({**ALONE, "upstreams": {"llama": {"url": replay.url}}}, bare=True)
        got = await stand.chat(headers=NEVER)
    assert (got.status, got.code) == (502, code)


async def test_a_stream_in_one_line_too_long(make):
    """An answer larger than `limits.response_bytes` is refused, not held in memory."""
    stand = await make({**ALONE, "limits": {"response_bytes": 1024}})
    answer = await stand.chat(n=20)
    assert (answer.status, answer.code) == (502, "upstream_protocol")
    assert "limits.response_bytes" in answer.error["message"]


async def test_large_streams_are_relayed(make):
    """That bound is for what is held: a stream that is only passed on may be longer."""
    stand = await make({"limits": {"response_bytes": 2048}})
    answer = await stand.chat(stream=True)
    assert len(answer.body) > 4096
    assert not answer.cut
    assert await stand.metric("cache_size") == 0


async def test_a_malformed_event_passes(make):
    """An event that is no JSON passes byte for byte where nobody asked for JSON."""
    answer = SSE + chunk(piece("a"), b"{oops", piece("b", '"stop"'), b"[DONE]") + b"0\r\n\r\n"
    async with Replay(answer) as replay:
        stand = await make({**ALONE, "upstreams": {"llama": {"url": replay.url}}}, bare=True)
        got = await stand.chat(stream=True, headers=NEVER)
    assert b"data: {oops\n\n" in got.body
    assert not got.cut


async def test_events_though_none_were_asked_for(make):
    """A server that streams though nobody asked is still read right."""
    answer = SSE + chunk(piece("a"), piece("b", '"stop"'), b"[DONE]") + b"0\r\n\r\n"
    async with Replay(answer) as replay:
        stand = await make({**ALONE, "upstreams": {"llama": {"url": replay.url}}}, bare=True)
        got = await stand.chat(headers=NEVER)
    assert got.status == 200
    assert await window(stand) == (0, 1)


async def test_whole_though_events_were_asked_for(make):
    """A server that does not stream though it was asked to is passed on as it is."""
    body = json.dumps({"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
    async with Replay(whole(body)) as replay:
        stand = await make({**ALONE, "upstreams": {"llama": {"url": replay.url}}}, bare=True)
        got = await stand.chat(stream=True, headers=NEVER)
    assert (got.status, got.body) == (200, body)


# -- tried again

ELSEWHERE = ("reset-before", "reset-after", "garbage", "status=500", "error-200", "error-event=0")


@pytest.mark.parametrize(
    "manner, stream",
    [
        *((manner, stream) for manner in ELSEWHERE for stream in (False, True)),
        ("empty", False),
        ("cut=0", False),
        ("hang", True),
        ("comments=0.1", True),
    ],
)
async def test_tried_elsewhere_first(make, manner, stream):
    """What fails before the first byte is tried again unseen, at another model first, and the answer says so."""
    stand = await make({"timeouts": {"total": 3}})
    stand.sims["llama"].faults = manner
    answer = await stand.chat(stream=stream)
    assert answer.status == 200
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"
    assert answer.headers["X-Guardproxy-Mode"].startswith("balanced; from=creative; reason=")
    assert answer.headers["X-Guardproxy-Attempts"] == "2"
    twice = manner == "reset-before"  # a kept connection may have died of old age: once more over a fresh one
    assert (stand.asked("llama"), stand.asked("mistral"), stand.asked("qwen")) == (1 + twice, 1, 0)
    metrics = await stand.metrics()
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['llm_request_failures_total{model="llama"}'] == 1
    assert metrics['llm_requests_total{model="mistral"}'] == 1
    assert metrics['llm_request_failures_total{model="mistral"}'] == 0
    assert metrics['guardproxy_downshifted_requests_total{from="creative",to="balanced"}'] == 1
    assert metrics['llm_mode_downshift_total{from="creative",to="balanced"}'] == 0


async def test_tried_again_at_the_same(make):
    """A call that may go nowhere else is tried again where it was; one success makes it a success."""
    stand = await make()
    stand.sims["llama"].faults = "status=500,times=2"
    answer = await stand.chat(headers=NEVER)
    assert (answer.status, answer.headers["X-Guardproxy-Attempts"]) == (200, "3")
    metrics = await stand.metrics()
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['llm_request_failures_total{model="llama"}'] == 0
    assert metrics['guardproxy_retries_total{model="llama"}'] == 2


async def test_callers_mistakes_are_not_tried_again(make):
    """A 4xx is the caller's: nobody else is asked."""
    stand = await make()
    stand.sims["llama"].faults = "status=400"
    assert (await stand.chat()).status == 400
    assert sum(stand.asked(name) for name in stand.sims) == 1


async def test_quota_is_not_tried_again(make):
    """An exhausted quota is passed on as it is."""
    body = b'{"error":{"message":"no","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}'
    async with Replay(whole(body, status="429 Too Many Requests")) as replay:
        stand = await make({"upstreams": {"llama": {"url": replay.url}}}, bare=True)
        got = await stand.chat()
    assert (got.status, got.body) == (429, body)
    assert stand.asked("mistral") == 0 or stand.asked("mistral", None) == 1  # its health check


async def test_throttled_goes_elsewhere(make):
    """A model that says it is busy is asked less: another one answers, and no circuit opens."""
    stand = await make({"circuit_breaker": {"minimum_requests": 1}})
    stand.sims["llama"].faults = "status=429,retry-after=1"
    answer = await stand.chat()
    assert answer.headers["X-Guardproxy-Upstream"] == "mistral"
    assert await stand.circuit("llama") == "closed"
    assert await stand.metric('guardproxy_attempts_total{kind="throttled",model="llama"}') == 1


async def test_the_budget_bounds_retries(make):
    """In an outage retries are bounded by the budget: a model is not asked three times as much as before."""
    stand = await make(
        {
            "retry": {"attempts": 2, "budget": 0.0, "min_per_second": 0},
            "circuit_breaker": {"minimum_requests": 1000},
        }
    )
    for sim in stand.sims.values():
        sim.faults = "status=500"
    for number in range(5):
        assert (await stand.chat(str(number))).status == 500
    assert sum(stand.asked(name) for name in stand.sims) == 5


async def test_latency_beyond_the_deadline(make):
    """A slow answer ends at `timeouts.total`, retries and all."""
    stand = await make({"timeouts": {"total": 0.5}})
    for sim in stand.sims.values():
        sim.faults = "latency=3"
    answer = await stand.chat()
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert sum(stand.asked(name) for name in stand.sims) == 1


async def test_a_stale_connection_is_not_noticed(make):
    """A kept connection that the model server has closed meanwhile costs nobody anything."""
    stand = await make(ALONE)
    assert (await stand.chat("one")).status == 200
    stand.sims["llama"].down()
    await stand.sims["llama"].up()
    answer = await stand.chat("two")
    assert (answer.status, answer.headers["X-Guardproxy-Attempts"]) == (200, "1")
    assert (await window(stand)) == (0, 2)
