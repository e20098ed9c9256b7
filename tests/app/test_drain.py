"""The end: readiness says no, calls finish, loopback is served until it is quiet, then the process is gone."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.app.stand import CHAT, asking, elsewhere, request


async def test_drain(stand):
    """While draining /readyz is 503, /healthz 200; loopback callers are served, each answer closing its connection."""
    loop = asyncio.get_running_loop()
    ending = asyncio.ensure_future(stand.proxy.drain())
    await stand.until(lambda: stand.proxy.desk.draining)
    ready = await stand.get("/readyz")
    assert (ready.status, ready.text) == (503, "draining\n")
    assert (await stand.get("/healthz")).status == 200
    assert (await stand.state())["draining"] is True
    answer = await stand.chat()
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    served = loop.time()
    await ending
    assert 0.15 < loop.time() - served < 1.5


async def test_calls_finish(make):
    """A stream that is under way is finished, within `drain.seconds`."""
    stand = await make({"drain": {"seconds": 5, "idle_seconds": 0.05}})
    stand.sims["llama"].faults = "token-delay=0.02"
    call = asyncio.ensure_future(stand.chat(stream=True, max_tokens=15))
    await stand.until(lambda: stand.asked("llama") == 1)
    await stand.proxy.drain()
    answer = await call
    assert not answer.cut
    assert answer.events[-1] == "[DONE]"


async def test_what_does_not_finish_is_cut(make):
    """What does not is cut in the end, visibly."""
    stand = await make({"drain": {"seconds": 0.2, "idle_seconds": 0.05}})
    stand.sims["llama"].faults = "token-delay=0.3"
    call = asyncio.ensure_future(stand.chat(stream=True))
    await stand.until(lambda: stand.asked("llama") == 1)
    await asyncio.sleep(0.1)
    await stand.proxy.drain()
    await stand.proxy.close()
    answer = await call
    assert answer.cut
    assert answer.events[-1]["error"]["code"] == "upstream_stream_interrupted"
    assert "shutting down" in answer.events[-1]["error"]["message"]
    (line,) = [line for line in stand.log() if line["msg"] == "request"]
    assert (line["status"], line["code"]) == (503, "shutting_down")


async def test_a_call_that_hangs_is_answered(make):
    """A call that has no byte yet when time is over is answered 503 `shutting_down`."""
    stand = await make({"drain": {"seconds": 0.1, "idle_seconds": 0.05}})
    stand.sims["llama"].faults = "hang"
    call = asyncio.ensure_future(stand.chat())
    await stand.until(lambda: stand.asked("llama") == 1)
    await stand.proxy.drain()
    await stand.proxy.close()
    answer = await call
    assert (answer.status, answer.code) == (503, "shutting_down")


async def test_others_than_loopback(make):
    """Callers from elsewhere are refused while draining, with a time to come back; so are their orders, always."""
    address = elsewhere()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    stand = await make({"listen": f"{address}:0", "admin": f"{address}:0"})
    answer = await stand.put("/guard/mode", {"ceiling": "fast"})
    assert (answer.status, answer.code) == (403, "forbidden")
    assert "admin_token" in answer.error["message"]
    assert (await stand.ask("GET", "/guard/state", admin=True)).status == 200
    assert (await stand.chat("before")).status == 200
    stand.proxy.desk.draining = True
    answer = await stand.chat("after")
    assert (answer.status, answer.code) == (503, "shutting_down")
    assert answer.headers["Retry-After"]


async def test_a_token_from_elsewhere(make):
    """Who is not on loopback may change something with the bearer token."""
    address = elsewhere()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    stand = await make({"admin": f"{address}:0", "admin_token": "s3cret"})
    missing = await stand.put("/guard/mode", {"ceiling": None})
    assert (missing.status, missing.code) == (401, "unauthorized")
    headers = {"Authorization": "Bearer s3cret"}
    assert (await stand.put("/guard/mode", {"ceiling": None}, headers=headers)).status == 200


async def test_nothing_is_left(make):
    """After the end no connection is open, and no new one is taken."""
    stand = await make()
    await stand.chat()
    await stand.proxy.drain()
    await stand.proxy.close()
    assert all(upstream.open == 0 for upstream in stand.proxy.house.upstreams.values())
    with pytest.raises((aiohttp.ClientError, IndexError)):
        await stand.ask("POST", CHAT, json=asking())


async def test_a_second_signal(make):
    """Told a second time the proxy ends now."""
    stand = await make({"drain": {"seconds": 30, "idle_seconds": 30}})
    stand.proxy.stop()
    ending = asyncio.ensure_future(stand.proxy.drain())
    await stand.until(lambda: stand.proxy.desk.draining)
    stand.proxy.stop()
    async with asyncio.timeout(1):
        await ending


async def test_kept_connections_are_served_once_more(stand):
    """A caller from loopback may be sending on a connection that rests, so it is not closed under him: its next answer
    is its last, and where none comes it is closed when the proxy ends."""
    host, _, port = stand.app.removeprefix("http://").partition(":")
    asked = (
        request(method="GET", path="/healthz").replace(b"Connection: close\r\n", b"").replace(b"app.test", b"localhost")
    )
    (used, user), (unused, other) = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
    async with asyncio.timeout(10):
        for reader, writer in ((used, user), (unused, other)):
            writer.write(asked)
            assert b"200 OK" in await reader.readuntil(b"ok\n")
        stand.proxy.app.drain(local=True)
        await asyncio.sleep(0.05)
        user.write(asked)
        answer = await used.read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer.lower()
        await stand.proxy.close()
        assert await unused.read() == b""
    for writer in (user, other):
        writer.close()
