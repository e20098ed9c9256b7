"""Which connection is used, how many there are, who waits."""

from __future__ import annotations

import asyncio

import pytest

from guardproxy.core.values import Fault, Kind
from tests.net.raw import OK, Ear, Peer, ask, replies, send, serve


class Then(Ear):
    """A sink that does something at the end."""

    def __init__(self, then) -> None:
        super().__init__()
        self.then = then

    def end(self) -> None:
        super().end()
        self.then(self)


def holding(go: asyncio.Event):
    """A server that answers everything when *go* is set."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await go.wait()
            await peer.send(OK)

    return script


async def start(upstream, ear: Ear) -> asyncio.Task:
    task = asyncio.create_task(upstream.send(b"POST", b"/v1/x", [], b"", ear))
    await asyncio.sleep(0)
    return task


async def test_a_free_connection_is_used_without_suspending(reach) -> None:
    """The hot path awaits nothing: `send` runs through in one step."""
    async with serve(replies(OK)) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = Ear()
        step = upstream.send(b"POST", b"/v1/x", [], b"", ear)
        with pytest.raises(StopIteration) as result:
            step.send(None)
        assert result.value.value.reused
        await ear.heard()
        assert len(server.peers) == 1


async def test_last_in_first_out(reach) -> None:
    """The connection that was used last is the likeliest to live; the others may grow old."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream, ears = reach(server.url), [Ear(), Ear()]
        first, second = [await send(upstream, ear) for ear in ears]
        one, two = first._connection, second._connection
        go.set()
        for ear in ears:
            await ear.heard()
        assert upstream.idle == 2
        assert list(upstream._pool.idle) == [one, two]
        ear = Ear()
        third = await send(upstream, ear)
        assert third._connection is two
        await ear.heard()


async def test_idle_connections_expire(reach) -> None:
    """Closed by themselves, without a request that finds them."""
    async with serve(replies(OK)) as server:
        upstream = reach(server.url, idle=0.05)
        await ask(upstream)
        assert upstream.idle == 1
        await asyncio.sleep(0.08)
        assert upstream.idle == upstream.open == 0
        await ask(upstream)
        await asyncio.sleep(0.03)
        await ask(upstream)
        await asyncio.sleep(0.03)
        assert upstream.idle == 1  # the sweep came, but its time had not
        assert len(server.peers) == 2


@pytest.mark.parametrize("ahead", [31, 601])
async def test_too_old_to_be_used(reach, clock, ahead) -> None:
    """Idle for 30 seconds: the other side is about to close it."""
    async with serve(replies(OK)) as server:
        upstream = reach(server.url)
        await ask(upstream)
        clock.ahead = ahead
        await ask(upstream)
        assert len(server.peers) == 2
        assert upstream.open == 1


async def test_too_old_to_be_kept(reach, clock) -> None:
    """After ten minutes a connection makes room for one that may lead elsewhere."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream, ear = reach(server.url), Ear()
        await send(upstream, ear)
        clock.ahead = 601
        go.set()
        await ear.heard()
        assert upstream.open == 0


async def test_bounded_and_fair(reach) -> None:
    """No more connections than allowed; who waits longest is next, and nobody overtakes."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream = reach(server.url, pool_size=1)
        order: list[Ear] = []
        ears = [Then(order.append) for _ in range(4)]
        tasks = [await start(upstream, ear) for ear in ears]
        await asyncio.sleep(0.02)
        assert repr(upstream) == "<Upstream qwen: open 1, idle 0, waiting 3>"
        go.set()
        await asyncio.gather(*tasks)
        for ear in ears:
            await ear.heard()
        assert order == ears
        assert len(server.peers) == 1


async def test_queue_full(reach) -> None:
    """Row 53: who finds the queue full is told at once."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream = reach(server.url, pool_size=1, queue=1)
        ears = [Ear() for _ in range(3)]
        tasks = [await start(upstream, ear) for ear in ears]
        fault = await tasks[2]
        assert isinstance(fault, Fault)
        assert (fault.code, fault.status, fault.kind) == ("overloaded", 503, Kind.IGNORED)
        assert (fault.retry_after, fault.sent) == (1.0, False)
        go.set()
        await asyncio.gather(*tasks[:2])
        for ear in ears[:2]:
            await ear.heard()


async def test_queue_timeout(reach) -> None:
    """Row 53: who has waited long enough is told."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream, ear = reach(server.url, pool_size=1, queue_timeout=0.03), Ear()
        await send(upstream, ear)
        fault = await upstream.send(b"POST", b"/v1/x", [], b"", Ear())
        assert fault.code == "overloaded"
        assert "0.03 s (queue timeout)" in fault.message
        assert upstream.waiting == 0
        go.set()
        await ear.heard()


async def test_a_place_set_free_goes_to_who_waits(reach) -> None:
    """Whether a connection is returned, cancelled or lost, the next in the queue gets on."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            if peer.number == 1:
                peer.fin()
                return
            await go.wait()
            await peer.send(OK)

    async with serve(script) as server:
        upstream = reach(server.url, pool_size=1)
        ears = [Ear(), Ear(), Ear(), Ear()]
        tasks = [await start(upstream, ear) for ear in ears]
        (await tasks[0]).cancel()  # to the second, whose connection dies; to the third
        await ears[1].heard()
        assert ears[1].fault.code == "upstream_reset"
        go.set()
        await ears[2].heard()
        await ears[3].heard()
        assert ears[2].body == ears[3].body == b"ok"
        await asyncio.gather(*tasks[1:])
        assert upstream.open == 1


async def test_leaving_the_queue(reach) -> None:
    """A caller who leaves while waiting takes nothing with him, also in the very round in which he is served."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream = reach(server.url, pool_size=1)
        first = await send(upstream, Ear())
        waiting = [await start(upstream, Ear()) for _ in range(3)]
        waiting[0].cancel()
        await asyncio.sleep(0)
        assert upstream.waiting == 2
        first.cancel()  # hands its place to the next …
        waiting[1].cancel()  # … who leaves before he has heard of it
        last = await asyncio.wait_for(waiting[2], 1)
        go.set()
        await last.sink.heard()
        assert upstream.open == upstream.idle == 1
        leaving: list[asyncio.Task] = []
        await send(upstream, Then(lambda _: leaving[0].cancel()))
        leaving.append(await start(upstream, Ear()))  # is handed the connection itself, and leaves
        await asyncio.sleep(0.03)
        assert leaving[0].cancelled()
        assert upstream.open == upstream.idle == 1


async def test_handed_a_connection_that_has_died(reach) -> None:
    """Between being handed on and being used a connection may die: its place opens another."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream, second = reach(server.url, pool_size=1), Ear()
        await send(upstream, Then(lambda _: [one.drop() for one in list(upstream._pool.all)]))
        waiter = await start(upstream, second)
        go.set()
        assert not (await waiter).reused
        await second.heard()
        assert second.body == b"ok"
        assert len(server.peers) == 2
        assert upstream.open == 1


async def test_a_dead_connection_is_not_used(reach) -> None:
    """What the server has closed meanwhile is gone before anybody asks."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await asyncio.sleep(0.01)
        peer.rst() if peer.number % 2 else peer.fin()

    async with serve(script) as server:
        upstream = reach(server.url)
        for _ in range(3):
            ear = Ear()
            exchange = await send(upstream, ear)
            assert not exchange.reused
            await ear.heard()
            await asyncio.sleep(0.03)
            assert upstream.open == 0


async def test_connection_close_is_obeyed(reach) -> None:
    async with serve(replies(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")) as server:
        upstream = reach(server.url)
        await ask(upstream)
        assert upstream.open == 0
        await ask(upstream)
        assert len(server.peers) == 2


async def test_closing(reach) -> None:
    """Nothing new is taken, who waits is told, what is under way ends by itself and keeps nothing open."""
    go = asyncio.Event()
    async with serve(holding(go)) as server:
        upstream, ear = reach(server.url, pool_size=1), Ear()
        await send(upstream, ear)
        waiter = await start(upstream, Ear())
        await upstream.close()
        assert (await waiter).code == "upstream_unreachable"
        fault = await upstream.send(b"POST", b"/v1/x", [], b"", Ear())
        assert (fault.code, fault.kind) == ("upstream_unreachable", Kind.IGNORED)
        go.set()
        await ear.heard()
        assert ear.body == b"ok"
        assert repr(upstream) == "<Upstream qwen: closed, open 0, idle 0, waiting 0>"
