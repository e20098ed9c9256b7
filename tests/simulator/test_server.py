"""The life of a simulated server, what it remembers, and its control endpoint."""

from __future__ import annotations

import asyncio
import io
import json

import aiohttp
import pytest

from guardproxy.simulator import MannerError, Simulator
from tests.simulator.conftest import CHAT, Client

BODY = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


async def busy(sim):
    """Wait until a request is being served."""
    while not sim.memory.open:  # noqa: ASYNC110 – only tests wait for the beginning of a request
        await asyncio.sleep(0.001)


async def test_it_remembers_what_it_saw(sim, client):
    """Counters by path, and requests with headers, raw and decoded body, and their end."""
    await client.post(f"{CHAT}?a=b", json=BODY, headers={"X-Odd": "yes"})
    await client.get("/health")
    assert sim.calls == {CHAT: 1, "/health": 1}
    visit = sim.requests[0]
    assert (visit.method, visit.target, visit.path) == ("POST", f"{CHAT}?a=b", CHAT)
    assert visit.headers["x-odd"] == "yes"
    assert visit.body == BODY
    assert visit.raw.startswith(b"{")
    assert (visit.status, visit.fate, visit.cancelled) == (200, "answered", False)


async def test_it_remembers_no_more_than_it_is_told_to():
    """An hour of load must not fill the memory: neither with requests nor with paths."""
    async with Simulator(remember=3) as sim, Client(sim.url) as client:
        for number in range(210):
            await client.get(f"/{number}")
        assert [visit.target for visit in sim.requests] == ["/207", "/208", "/209"]
        assert len(sim.calls) == 201
        assert sim.calls["other"] == 10


async def test_down_refuses_and_up_listens_on_the_same_port(sim, client):
    """Down is connection refused for new connections and a reset for those that exist, idle or busy."""
    port = sim.port
    hanging = asyncio.create_task(client.post(CHAT, json=BODY, headers={"X-Simulate": "hang"}))
    await client.get("/health")
    await busy(sim)
    reader, writer = await asyncio.open_connection(sim.host, port)
    await asyncio.sleep(0.02)
    sim.down()
    with pytest.raises(aiohttp.ClientOSError):
        await hanging
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.transport.abort()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(sim.host, port)
    await sim.idle()
    assert [visit.fate for visit in sim.requests if visit.path == CHAT] == ["down"]
    sim.down()
    await sim.up()
    await sim.up()
    assert sim.port == port
    assert (await client.get("/health")).status == 200


async def test_stop_ends_hanging_requests_and_frees_the_port():
    """Nothing is left behind: no socket, no task; and stopping twice does no harm."""
    before = asyncio.all_tasks()
    sim = Simulator(faults="hang")
    await sim.start()
    async with Client(sim.url) as client:
        hanging = asyncio.create_task(client.post(CHAT, json=BODY))
        await busy(sim)
        await sim.stop()
        await sim.stop()
        with pytest.raises(aiohttp.ClientError):
            await hanging
    assert asyncio.all_tasks() == before
    async with Simulator(port=sim.port) as again:
        assert again.port == sim.port


async def test_a_port_that_is_taken_is_an_error(sim):
    """Raised by start, not found out later."""
    with pytest.raises(OSError, match="in use"):
        await Simulator(port=sim.port).start()


async def test_faults_can_be_set_from_a_test(sim, client):
    """As a line, as several, as None; nonsense is refused and changes nothing."""
    sim.faults = "status=503,times=1"
    assert [(await client.post(CHAT, json=BODY)).status for _ in range(2)] == [503, 200]
    with pytest.raises(MannerError):
        sim.faults = "stauts=503"
    assert [str(each) for each in sim.faults] == ["status=503,times=1"]
    sim.faults = None
    assert sim.faults == []
    assert "listening" in repr(sim)


async def test_idle_gives_up(sim, raw):
    """A request that never ends is a TimeoutError in the test, not a test that never ends."""
    asking = asyncio.create_task(raw(manners="hang", patience=0.3))
    await busy(sim)
    with pytest.raises(TimeoutError):
        await sim.idle(timeout=0.05)
    await asking


async def test_orders_over_http(sim, client):
    """POST replaces all orders, with limits inside or beside; null is good manners; every answer is the state."""
    state = (await client.post("/simulate", json={"fault": "status=503", "times": 2})).json()
    assert state["orders"] == [{"fault": "status=503,times=2", "seen": 0, "used": 0}]
    assert [(await client.post(CHAT, json=BODY)).status for _ in range(3)] == [503, 503, 200]
    assert (await client.get("/simulate")).json()["orders"][0]["used"] == 2
    await client.post("/simulate", json={"fault": ["status=500,rate=0.5", "latency=0.01"]})
    assert [(await client.post(CHAT, json=BODY)).status for _ in range(2)] == [200, 500]
    state = (await client.post("/simulate", json={"fault": None})).json()
    assert state["orders"] == []
    assert state["calls"] == {CHAT: 5}
    assert state["manners"] == {"status": 3, "latency": 2}
    assert state["fates"] == {"answered": 5}
    assert state["last"][0]["manners"] == ["status"]


@pytest.mark.parametrize(
    "body, says",
    [
        ({"fault": "explode"}, "reset-before"),
        ({"fault": 7}, "a list of orders"),
        ({"fault": "hang", "times": 0}, "first K requests"),
        ({"times": 3}, "say which"),
        ({"down": "yes"}, "true or false"),
        ({"fualt": "hang"}, "down, fault, rate, times"),
        ({}, "down, fault, rate, times"),
        ([], "down, fault, rate, times"),
    ],
)
async def test_an_order_that_is_not_understood_changes_nothing(sim, client, body, says):
    """A 400 that says what is right; the orders before it stand."""
    sim.faults = "empty"
    answer = await client.post("/simulate", json=body)
    assert answer.status == 400
    assert says in answer.json()["error"]["message"]
    assert [str(each) for each in sim.faults] == ["empty"]
    assert sim.resets_all is False
    assert (await client.ask("PUT", "/simulate", json=body)).status == 405


async def test_down_over_http_resets_all_but_the_control_endpoint(sim, client, raw):
    """Everything else is reset before any byte, and `/simulate` stays reachable to say up again."""
    assert (await client.post("/simulate", json={"down": True})).json()["down"] is True
    assert await raw() == (b"", "rst")
    with pytest.raises(aiohttp.ClientOSError):
        await client.get("/health")
    assert (await client.post("/simulate", json={"down": False})).json()["down"] is False
    assert (await client.get("/health")).status == 200


async def test_delete_resets_to_the_start():
    """Counters to nought, the orders it was started with, not down."""
    async with Simulator(faults="empty") as sim, Client(sim.url) as client:
        await client.post(CHAT, json=BODY)
        await client.post("/simulate", json={"fault": "hang", "down": True})
        state = (await client.ask("DELETE", "/simulate")).json()
        assert state["orders"] == [{"fault": "empty", "seen": 0, "used": 0}]
        assert (state["down"], state["calls"], state["last"]) == (False, {}, [])


async def test_large_bodies_are_taken(client, sim):
    """Images in prompts are larger than a web framework's default of 1 MiB."""
    body = {**BODY, "messages": [{"role": "user", "content": "x" * 3_000_000}]}
    content = io.BytesIO(json.dumps(body).encode())
    assert (await client.post(CHAT, data=content)).status == 200
    assert len(sim.requests[-1].raw) > 3_000_000
