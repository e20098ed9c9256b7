"""The same question is never on its way twice: who waits, who hears what, and what happens when somebody leaves."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.app.stand import CHAT, JSON_SCHEMA, Replay, asking, request, whole

COLLAPSED = "guardproxy; fwd=miss; collapsed"
STREAM = {"stream": True}
PATIENT = {"timeouts": {"first_token": 5, "stall": 5, "total": 20}, "retry": {"attempts": 0}}


def collapsed(answers):
    return [answer for answer in answers if answer.headers.get("Cache-Status") == COLLAPSED]


async def waiting(stand, many):
    """Until so many calls are at the desk."""
    await stand.until(lambda: stand.proxy.desk.in_flight == many)


class Reader:
    """A caller who reads a stream as it comes, and may hang up."""

    def __init__(self, stand, text="a rose", fields=(), **body):
        self._stand = stand
        self._fields = fields
        self._body = asking(text, **body)

    async def __aenter__(self):
        host, _, port = self._stand.app.removeprefix("http://").partition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port), limit=1 << 16)
        self.writer.write(request(self._body, *self._fields))
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    async def until(self, text):
        async with asyncio.timeout(20):
            return await self.reader.readuntil(text)

    async def rest(self):
        async with asyncio.timeout(40):
            return await self.reader.read(-1)


def body(chunked):
    """What came in chunks, of which none has a line break of that kind."""
    return b"".join(chunked.split(b"\r\n")[1::2])


async def test_one_question_one_answer(make):
    """Twenty callers at once: the model is asked once, all are answered the same, and each call is counted."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=1"
    answers = await asyncio.gather(*(stand.chat(headers={"X-Request-Id": f"r{n}"}) for n in range(20)))
    assert stand.asked("llama") == 1
    assert {answer.body for answer in answers} == {answers[0].body}
    assert len(collapsed(answers)) == 19
    assert sorted(answer.headers["X-Request-Id"] for answer in answers) == sorted(f"r{n}" for n in range(20))
    assert {answer.headers["X-Guardproxy-Upstream"] for answer in answers} == {"llama"}
    metrics = await stand.metrics()
    assert (metrics["cache_hits_total"], metrics["cache_misses_total"]) == (19, 1)
    assert metrics['llm_requests_total{model="llama"}'] == 1
    assert metrics['guardproxy_requests_total{source="cache",status="2xx"}'] == 19
    await stand.until(stand.at_rest)
    assert (await stand.chat()).headers["Cache-Status"].startswith("guardproxy; hit")


async def test_a_crowd(make):
    """Three hundred connections with the same question: one call, and everybody has the whole answer."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=2"
    host, _, port = stand.app.removeprefix("http://").partition(":")
    lines = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
    for _, writer in lines:
        writer.write(request(asking()))
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(reader.read(-1) for reader, _ in lines))
    for _, writer in lines:
        writer.transport.abort()
    assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert len({answer.partition(b"\r\n\r\n")[2] for answer in answers}) == 1
    assert sum(b"collapsed" in answer for answer in answers) > 100  # whoever came after the answer found it kept
    assert stand.asked("llama") == 1


async def test_a_stream_is_joined_in_its_middle(make):
    """A late caller gets at once what has come, then every event as it comes; byte for byte what the first one gets."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "token-delay=0.05"
    async with Reader(stand, **STREAM) as first:
        await first.until(b"\n\ndata: ")
        await first.until(b"\n\n")
        async with Reader(stand, **STREAM) as late:
            head = await late.until(b"\r\n\r\n")
            assert COLLAPSED.encode() in head
            early = await late.until(b"\n\n")
            assert b"data: " in early
            whole = await late.rest()
        others = await asyncio.gather(stand.chat(stream=True), first.rest())
    assert stand.asked("llama") == 1
    assert b"[DONE]" in whole
    assert b"[DONE]" in others[1]
    assert others[0].events[-1] == "[DONE]"
    again = await stand.chat(stream=True)
    assert again.headers["Cache-Status"].startswith("guardproxy; hit")
    assert again.body == others[0].body
    assert (await stand.metrics())['guardproxy_requests_total{source="cache",status="2xx"}'] == 3


async def test_streams_and_whole_answers_do_not_wait_for_each_other(make):
    """Who wants events is not kept waiting for a whole answer."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=0.2"
    await asyncio.gather(stand.chat(), stand.chat(stream=True))
    assert stand.asked("llama") == 2


@pytest.mark.parametrize("body", [{}, STREAM, {"response_format": JSON_SCHEMA, "stream": True}])
async def test_the_leader_leaves_and_the_others_go_on(make, body):
    """The first caller hangs up: whoever has joined is answered all the same, and the model is asked once."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=1.5,token-delay=0.02"
    async with Reader(stand, **body):
        await stand.until(lambda: stand.asked("llama") == 1)
        others = asyncio.gather(*(stand.chat(**body) for _ in range(3)))
        await waiting(stand, 4)
    answers = await others
    assert [answer.status for answer in answers] == [200] * 3
    assert len(collapsed(answers)) == 3
    assert stand.asked("llama") == 1
    await stand.until(stand.at_rest)
    assert await stand.metric("guardproxy_callers_gone_total") == 1
    assert (await stand.chat(**body)).headers["Cache-Status"].startswith("guardproxy; hit")


async def test_the_leader_leaves_in_the_middle_of_a_stream(make):
    """The others hear the rest, and all of it."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "token-delay=0.03"
    async with Reader(stand, **STREAM) as first, Reader(stand, **STREAM) as other:
        await first.until(b"\n\ndata: ")
        await other.until(b"\n\ndata: ")
        first.writer.transport.abort()
        assert b"[DONE]" in await other.rest()
    assert stand.asked("llama") == 1
    await stand.until(stand.at_rest)


@pytest.mark.parametrize("body", [{}, STREAM])
async def test_the_last_one_to_leave_ends_it(make, body):
    """Nobody listens any more: the model is hung up on, whoever it was that left last."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=5"
    async with Reader(stand, **body):
        await stand.until(lambda: stand.asked("llama") == 1)
        other = asyncio.ensure_future(stand.chat(**body))
        await waiting(stand, 2)
    await asyncio.sleep(0.05)
    assert stand.proxy.desk.in_flight == 2
    other.cancel()
    await stand.until(stand.at_rest)
    await stand.sims["llama"].idle()
    assert len(stand.proxy.house.rules.flights) == 0


async def test_a_listener_leaves_and_nobody_notices(make):
    """The leader is answered; and he can still hang up himself afterwards."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=1.5"
    leader = asyncio.ensure_future(stand.chat())
    await stand.until(lambda: stand.asked("llama") == 1)
    async with Reader(stand):
        await waiting(stand, 2)
    await waiting(stand, 1)
    assert (await leader).status == 200
    stand.sims["llama"].faults = "latency=5"
    async with Reader(stand, "other"):
        await stand.until(lambda: stand.asked("llama") == 2)
        async with Reader(stand, "other"):
            await waiting(stand, 2)
        await waiting(stand, 1)
    await stand.until(stand.at_rest)


async def test_a_failed_leader_has_one_heir(make):
    """Ten callers, the first attempt fails: a second one is made, not nine, and all but the first are answered."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=1,status=500,times=1"
    never = {"X-Guardproxy-Downshift": "never"}
    answers = await asyncio.gather(*(stand.chat(headers=never) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [500]
    assert stand.asked("llama") == 2


async def test_an_outage_is_asked_twice_and_told_to_all(make):
    """Where the second try fails too, nobody else tries."""
    stand = await make({**PATIENT, "circuit_breaker": {"enabled": False}})
    stand.sims["llama"].faults = "latency=1,status=500"
    never = {"X-Guardproxy-Downshift": "never"}
    answers = await asyncio.gather(*(stand.chat(headers=never) for _ in range(10)))
    assert [answer.status for answer in answers] == [500] * 10
    assert stand.asked("llama") == 2
    await stand.until(stand.at_rest)


async def test_a_stream_that_breaks_off_breaks_off_for_all(make):
    """Everybody who has heard some of it is told that it is not whole."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "cut=5,token-delay=0.1"
    answers = await asyncio.gather(*(stand.chat(stream=True) for _ in range(4)))
    assert stand.asked("llama") == 1
    for answer in answers:
        assert answer.events[-1]["error"]["code"] == "upstream_stream_interrupted"
        assert answer.cut
    assert (await stand.metrics())["cache_size"] == 0
    await stand.until(stand.at_rest)


async def test_a_slow_listener_brakes_nobody_and_misses_nothing(make):
    """One who stops reading is left behind while the others are served; when he reads on he gets all of it."""
    events = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%d %b"}}]}\n\n' % (n, b"x" * 8000) for n in range(2000)
    )
    events += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    async with Replay(whole(events, kind="text/event-stream"), pieces=65536, pause=0.002) as model:
        stand = await make({**PATIENT, "upstreams": {"llama": {"url": model.url}}})
        asked = len(model.heads)
        async with Reader(stand, **STREAM) as first:
            await first.until(b"data: ")
            async with Reader(stand, **STREAM) as slow:
                assert COLLAPSED.encode() in await slow.until(b"\r\n\r\n")
                async with Reader(stand, **STREAM) as swift:
                    assert COLLAPSED.encode() in await swift.until(b"\r\n\r\n")
                    assert body(await swift.rest()) == events
                assert b"[DONE]" in await first.rest()
                assert len(model.heads) == asked + 1
                assert stand.proxy.desk.in_flight == 1  # the slow one is not through yet
                late = await slow.rest()
        assert body(late) == events


async def test_a_slow_leader_is_not_buffered_for_without_bounds(make):
    """Who asked first and does not read is cut where the answer is too long to be kept; who joined has all of it."""
    events = b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":"%d %b"}}]}\n\n' % (n, b"x" * 8000) for n in range(2000)
    )
    events += b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(
        b"%x\r\n%b\r\n" % (len(events[at : at + 65536]), events[at : at + 65536]) for at in range(0, len(events), 65536)
    )
    async with Replay(head + chunks + b"0\r\n\r\n", pieces=65536, pause=0.01) as model:
        limits, never = {"response_bytes": "8MiB"}, ["X-Guardproxy-Downshift: never"]  # its health check was as long
        stand = await make({**PATIENT, "limits": limits, "upstreams": {"llama": {"url": model.url}}})
        async with Reader(stand, fields=never, **STREAM) as slow:
            await slow.until(b"data: ")
            async with Reader(stand, fields=never, **STREAM) as swift:
                assert COLLAPSED.encode() in await swift.until(b"\r\n\r\n")
                assert body(await swift.rest()) == events
            got = await slow.rest()
            assert b"[DONE]" not in got
            assert len(got) < len(events) * 0.8
        await stand.until(lambda: stand.proxy.desk.in_flight == 0, 20)


async def test_who_listens_last_ends_the_flight_of_a_leader_who_was_cut(make):
    """Where the leader was cut for reading nothing, the model is hung up on when the last listener leaves."""
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 60_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = head + b"%x\r\n%b\r\n" % (len(event), event) * 20_000
    async with Replay(endless, pieces=65536, pause=0.01) as model:
        limits, never = {"response_bytes": "8MiB"}, ["X-Guardproxy-Downshift: never"]
        changes = {**PATIENT, "timeouts": {"total": 300}, "limits": limits}  # nothing but a caller ends it in time
        stand = await make({**changes, "upstreams": {"llama": {"url": model.url}}})
        async with Reader(stand, fields=never, **STREAM) as slow:
            await slow.until(b"data: ")
            async with Reader(stand, fields=never, **STREAM) as swift:
                assert COLLAPSED.encode() in await swift.until(b"\r\n\r\n")
                heard = 0
                while heard < 24 << 20:  # more than the sockets in between and the bound hold of it
                    heard += len(await swift.reader.read(1 << 20))
            await stand.until(lambda: stand.proxy.desk.in_flight == 0, 20)


async def test_a_purge_is_not_joined_across(make):
    """What was asked before a purge is not the answer to who asks after it."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=1"
    before = asyncio.ensure_future(stand.chat())
    await stand.until(lambda: stand.asked("llama") == 1)
    await stand.ask("DELETE", "/guard/cache", admin=True)
    after = await stand.chat()
    assert after.headers["Cache-Status"] != COLLAPSED
    assert stand.asked("llama") == 2
    assert (await before).status == 200


async def test_tenants_do_not_meet(make):
    """Callers with other credentials ask for themselves."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=0.2"
    answers = await asyncio.gather(*(stand.chat(headers={"Authorization": f"Bearer {n}"}) for n in range(3)))
    assert collapsed(answers) == []
    assert stand.asked("llama") == 3


async def test_the_end_of_the_proxy_is_told_to_all(make):
    """Whoever listens when the proxy ends gets an answer or a visible cut, and nothing is left open."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "token-delay=0.2"
    answers = asyncio.gather(*(stand.chat(stream=True) for _ in range(3)), return_exceptions=True)
    await waiting(stand, 3)
    await stand.until(lambda: stand.asked("llama") == 1)
    await stand.proxy.app.close(0.0)
    for answer in await answers:
        assert isinstance(answer, BaseException) or answer.cut or answer.status == 503
    assert stand.proxy.desk.in_flight == 0


async def test_off(make):
    """`cache.single_flight: false`: everybody asks for himself."""
    stand = await make({**PATIENT, "cache": {"single_flight": False}})
    stand.sims["llama"].faults = "latency=0.2"
    answers = await asyncio.gather(*(stand.chat() for _ in range(3)))
    assert collapsed(answers) == []
    assert stand.asked("llama") == 3


async def test_embeddings_too(make):
    """A batch of the same embeddings is computed once."""
    stand = await make(PATIENT)
    stand.sims["llama"].faults = "latency=1"
    body = json.dumps({"model": "llama", "input": "x"})
    headers = {"Content-Type": "application/json"}
    answers = await asyncio.gather(*(stand.ask("POST", "/v1/embeddings", data=body, headers=headers) for _ in range(3)))
    assert len(collapsed(answers)) == 2
    assert stand.asked("llama", "/v1/embeddings") == 1
    assert stand.asked("llama", CHAT) == 0
