"""Callers who leave, or read slowly, cost nobody else anything."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.app.stand import CHAT, JSON_SCHEMA, NEVER, Replay, asking, request

GONE = "guardproxy_callers_gone_total"


class Leaver:
    """A caller who can hang up when he likes."""

    def __init__(self, stand):
        self._address = stand.app.removeprefix("http://").split(":")

    async def __aenter__(self):
        self.reader, self._writer = await asyncio.open_connection(*self._address)
        return self

    async def __aexit__(self, *_):
        self._writer.transport.abort()

    def say(self, data):
        self._writer.write(data)

    def half_close(self):
        self._writer.write_eof()

    async def hear(self):
        async with asyncio.timeout(2):
            return await self.reader.read(65536)


async def left_well(stand, name="llama"):
    """Wait until the model server's call has been hung up on and everything lent is back; return how long it took."""
    start = time.monotonic()
    await stand.until(lambda: not stand.sims[name].memory.open)
    await stand.until(stand.at_rest)
    return time.monotonic() - start


@pytest.mark.parametrize("how", ["reset", "half-close"])
@pytest.mark.parametrize(
    "body", [{}, {"stream": True}, {"response_format": JSON_SCHEMA}, {"response_format": JSON_SCHEMA, "stream": True}]
)
async def test_gone_before_an_answer(make, body, how):
    """Who hangs up before the answer has the model stop within a second; nobody is blamed, nothing is stored."""
    stand = await make()
    stand.sims["llama"].faults = "hang"
    async with Leaver(stand) as caller:
        caller.say(request(asking(**body)))
        await stand.until(lambda: stand.asked("llama") == 1)
        if how == "half-close":
            caller.half_close()
            assert await left_well(stand) < 1
    if how == "reset":
        assert await left_well(stand) < 1
    assert stand.sims["llama"].memory.requests[-1].cancelled
    metrics = await stand.metrics()
    assert metrics[GONE] == 1
    assert metrics['guardproxy_requests_total{source="none",status="none"}'] == 1
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['llm_request_failures_total{model="llama"}'] == 0
    assert metrics["guardproxy_in_flight_requests"] == 0
    assert sum(stand.asked(name) for name in stand.sims) == 1
    window = stand.proxy.house.breaker.circuits["llama"]._window
    assert window.total == 0
    assert [line["status"] for line in stand.log() if line["msg"] == "request"] == [499]


async def test_gone_mid_stream(stand):
    """Who hangs up in the middle of a stream has the model stop within a second; half an answer is never stored."""
    stand.sims["llama"].faults = "token-delay=0.1"
    async with Leaver(stand) as caller:
        caller.say(request(asking(stream=True)))
        assert b"200 OK" in await caller.hear()
    assert await left_well(stand) < 1
    assert stand.sims["llama"].memory.requests[-1].cancelled
    metrics = await stand.metrics()
    assert (metrics[GONE], metrics["cache_size"]) == (1, 0)
    assert stand.proxy.house.breaker.circuits["llama"]._window.bad == 0


async def test_gone_while_waiting_for_a_re_ask(make):
    """Who hangs up while a re-ask is waited for is not asked for again."""
    stand = await make({"json_guard": {"backoff_base": 0.3}})
    stand.sims["llama"].faults = "not-json"
    async with Leaver(stand) as caller:
        caller.say(request(asking(response_format=JSON_SCHEMA)))
        await stand.until(lambda: stand.asked("llama") == 1 and not stand.sims["llama"].memory.open)
        await asyncio.sleep(0.05)
    await stand.until(stand.at_rest)
    await asyncio.sleep(0.4)
    assert stand.asked("llama") == 1
    assert await stand.metric(GONE) == 1


async def test_gone_while_uploading(stand):
    """Who hangs up in the middle of a body leaves nothing behind, on guarded paths and others."""
    for path in (CHAT, "/llama/v1/files"):
        async with Leaver(stand) as caller:
            caller.say(request(asking(), path=path)[:-5])
            await stand.until(lambda: stand.proxy.desk.in_flight == 1)
        assert await left_well(stand) < 1


async def test_gone_during_another_path(stand):
    """The same on a path that is only relayed."""
    stand.sims["llama"].faults = "latency=5"
    async with Leaver(stand) as caller:
        caller.say(request(method="GET", path="/llama/v1/files"))
        await asyncio.sleep(0.05)
    assert await left_well(stand) < 1
    assert await stand.metric('llm_requests_total{model="llama"}') == 0


async def test_a_probe_is_given_back(make):
    """The caller of a half-open circuit's probe who leaves gives the probe back: another one may prove the model."""
    stand = await make({"circuit_breaker": {"timeout": 0.05, "half_open_requests": 1, "success_threshold": 1}})
    for task in stand.proxy.prober._rounds:
        task.cancel()
    await stand.put("/guard/breakers/llama", {"state": "open"})
    await stand.put("/guard/breakers/llama", {"state": "auto"})
    await asyncio.sleep(0.1)
    stand.sims["llama"].faults = "hang,times=1"
    async with Leaver(stand) as caller:
        caller.say(request(asking()))
        await stand.until(lambda: stand.asked("llama") == 1)
        assert await stand.circuit("llama") == "half_open"
    assert await left_well(stand) < 1
    assert await stand.circuit("llama") == "half_open"
    answer = await stand.chat("again", headers=NEVER)
    assert answer.headers["X-Guardproxy-Upstream"] == "llama"
    assert await stand.circuit("llama") == "closed"


async def test_a_slow_reader(make):
    """Who reads slowly slows his own stream; the model is not blamed for the silence, and nothing piles up."""
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % (b"x" * 100_000)
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    async with Replay(head + piece * 200 + end) as replay:
        changes = {"upstreams": {"llama": {"url": replay.url}}, "timeouts": {"stall": 0.15, "total": 5}}
        stand = await make(changes, bare=True)
        async with Leaver(stand) as caller:
            caller.say(request(asking(stream=True)))
            await asyncio.sleep(0.6)  # longer than a stall
            (busy,) = [front for front in stand.proxy.app._front.callers if front.phase.name == "BUSY"]
            await stand.until(lambda: busy.writing_paused)  # not at every moment: the kernel's own buffers grow
            assert busy.transport.get_write_buffer_size() < 2_000_000
            received = bytearray()
            while part := await caller.hear():
                received += part
    assert len(received) > 20_000_000
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b'"error"' not in received


async def test_a_caller_who_leaves_does_not_disturb_others(make):
    """Fifty callers who leave leave nothing behind for those who stay."""
    stand = await make({"timeouts": {"total": 30}})
    async with AsyncExitStack() as leaving:
        for number in range(50):
            leaver = await leaving.enter_async_context(Leaver(stand))
            leaver.say(request(asking(f"leaves {number}"), "X-Simulate: hang"))
        await stand.until(lambda: stand.asked("llama") == 50)
        headers = {"X-Simulate": "latency=0.2"}
        stayed = [asyncio.ensure_future(stand.chat(f"stays {n}", headers=headers)) for n in range(5)]
        await stand.until(lambda: stand.asked("llama") == 55)
    assert [answer.status for answer in await asyncio.gather(*stayed)] == [200] * 5
    await stand.until(stand.at_rest)
    assert await stand.metric(GONE) == 50


async def test_pipelined_requests(stand):
    """Requests sent at once over one connection are answered in order."""
    two = request(asking("one")).replace(b"Connection: close\r\n", b"") + request(method="GET", path="/llama/health")
    received, end = await stand.raw(two)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.endswith(b"\r\n\r\n{}")
    assert end == "fin"
