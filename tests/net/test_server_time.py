"""Callers who are slow, silent, or gone."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.net.callers import GET, hello, post, serving, until

if TYPE_CHECKING:
    from guardproxy.net.server import Outlet, Request


async def test_a_head_that_drips():
    """408 after `header_timeout` from its first byte, however steadily it drips; others are not hurt."""
    async with serving(header_timeout=0.2) as house:
        resting, phone = await house.dial(), await house.dial()
        resting.send(GET)
        await resting.hear()
        began = time.monotonic()
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 1000:
            phone.send(bytes([byte]))
            if not await phone.silent(0.01):
                break
        assert 0.15 < time.monotonic() - began < 0.6
    async with serving(header_timeout=0.1) as house:
        resting, phone = await house.dial(), await house.dial()
        resting.send(GET)
        await resting.hear()
        phone.send(b"GET / HT")
        heard = await phone.hear()
        assert (heard.status, heard.code) == (408, "request_timeout")
        assert heard.fields[b"connection"] == b"close"
        phone.send(b"TP/1.1\r\nHost: x\r\n\r\n")
        assert await phone.rest() == b""
        resting.send(GET)  # it had `keepalive` seconds, not `header_timeout`
        assert (await resting.hear()).status == 200


async def test_the_second_head_on_a_connection_may_not_drip_either():
    """Also where its first bytes came while the request before was being answered."""

    async def slow(request: Request, outlet: Outlet) -> None:
        await asyncio.sleep(0.02)
        outlet.reply(200, [], b"")

    async with serving(slow, header_timeout=0.1) as house:
        for early in (True, False):
            phone = await house.dial()
            phone.send(GET)
            if early:
                await until(lambda: any(phase.startswith("<Caller busy") for phase in house.phases))
                phone.send(b"GET / H")
            assert (await phone.hear()).status == 200
            if not early:
                phone.send(b"GET / H")
            assert (await phone.hear()).status == 408


async def test_a_silent_connection_is_closed_without_a_word():
    """Nobody asked anything: an answer could pass for one to the next question."""
    async with serving(header_timeout=0.05) as house:
        assert await (await house.dial()).rest() == b""


async def test_a_resting_connection_is_closed_without_a_word():
    """After `keepalive`, counted from the last answer; stray line breaks do not prolong it (RFC 9112 § 2.2)."""
    async with serving(keepalive=0.15, header_timeout=0.05) as house:
        phone = await house.dial()
        for _ in range(2):
            phone.send(GET)
            await phone.hear()
            await asyncio.sleep(0.1)
        phone.send(b"\r\n")
        began = time.monotonic()
        assert await phone.rest() == b""
        assert time.monotonic() - began < 0.1


async def test_a_handler_may_take_its_time():
    """No time of the front's runs while a request is being answered."""

    async def slow(request: Request, outlet: Outlet) -> None:
        await asyncio.sleep(0.2)
        outlet.reply(200, [], b"late")

    async with serving(slow, keepalive=0.05, header_timeout=0.05, body_timeout=0.05) as house:
        assert (await house.ask(GET)).body == b"late"


@pytest.mark.parametrize("way", ["close", "half", "reset", "stream", "half stream", "body"])
async def test_a_caller_who_leaves_cancels_his_handler(way: str):
    """Within a second, before the head, in the middle of a stream, or while his body is awaited; half-close too."""
    left = asyncio.Event()
    gone: list[bool] = []

    async def wait(request: Request, outlet: Outlet) -> None:
        try:
            if "stream" in way:
                outlet.begin(200, [])
                outlet.write(b"a")
            if way == "body":
                await request.body.read(1000, 10)
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            gone.append(outlet.gone)
            outlet.write(b"nobody hears") if "stream" in way else outlet.reply(200, [], b"nobody hears")
            await outlet.drain()
            left.set()
            raise

    async with serving(wait) as house:
        phone = await house.dial()
        phone.send(post(b"x" * 100)[:-50] if way == "body" else GET)
        await until(lambda: bool(house.phases) and house.phases[0].startswith("<Caller busy"))
        if "stream" in way:
            await phone.head()
        if way.startswith("half"):
            phone.half_close()
        elif way == "reset":
            phone.writer.transport.abort()
        else:
            await phone.hang_up()
        await asyncio.wait_for(left.wait(), 0.5)
        await until(lambda: house.server.connections == 0)
        assert gone == [True]
        assert not house.faults


async def test_a_caller_who_leaves_with_his_answer_disturbs_nobody():
    """What a handler does behind its answer is not cancelled by the caller's leaving."""
    settled = asyncio.Event()

    async def settle(request: Request, outlet: Outlet) -> None:
        outlet.reply(200, [], b"")
        await asyncio.sleep(0.05)
        assert outlet.gone
        settled.set()

    async with serving(settle) as house:
        phone = await house.dial()
        phone.send(GET)
        await phone.hear()
        await phone.hang_up()
        await asyncio.wait_for(settled.wait(), 1)


async def test_a_handler_is_cancelled_once():
    """What it does in its `finally` is not interrupted again."""
    clean = asyncio.Event()

    async def tidy(request: Request, outlet: Outlet) -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.05)
            clean.set()

    async with serving(tidy) as house:
        phone = await house.dial()
        phone.send(GET)
        await until(lambda: bool(house.phases) and house.phases[0].startswith("<Caller busy"))
        phone.half_close()
        await phone.hang_up()
        await asyncio.wait_for(clean.wait(), 1)


async def test_a_pipelining_caller_who_leaves_is_not_served_on():
    """His other requests are not begun."""
    served = 0

    async def count(request: Request, outlet: Outlet) -> None:
        nonlocal served
        served += 1
        await asyncio.sleep(10)

    async with serving(count) as house:
        phone = await house.dial()
        phone.send(GET * 10)
        await until(lambda: served == 1)
        await phone.hang_up()
        await until(lambda: house.server.connections == 0)
        await asyncio.sleep(0.02)
    assert served == 1


async def test_a_slow_reader_is_waited_for():
    """`choked` tells, `drain` waits, what is held for him is bounded, and he gets every byte in the end."""
    choked = asyncio.Event()
    piece = b"x" * 20_000

    async def relay(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        for _ in range(200):
            outlet.write(piece)
            if outlet.choked():
                choked.set()
                await outlet.drain()
                assert not outlet.choked()
        outlet.end()

    async with serving(relay) as house:
        phone = await house.dial(window=16_384)
        tracemalloc.start()
        phone.send(GET)
        await asyncio.wait_for(choked.wait(), 2)
        await asyncio.sleep(0.05)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()
        assert len((await phone.hear()).body) == 4_000_000


@pytest.mark.parametrize("way", ["reset", "half"])
async def test_drain_ends_when_the_caller_leaves(way: str):
    """It raises nothing of its own; also where another task than the handler's is waiting."""
    waiting = asyncio.Event()
    ended: list[bool] = []

    async def relay(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        while not outlet.choked():
            outlet.write(b"x" * 100_000)

        async def other() -> None:
            waiting.set()
            await outlet.drain()
            outlet.write(b"nobody hears")
            ended.append(outlet.gone)

        task = asyncio.create_task(other())
        try:
            await asyncio.sleep(10)
        finally:
            await task

    async with serving(relay) as house:
        phone = await house.dial(window=4096)
        phone.send(GET)
        await asyncio.wait_for(waiting.wait(), 2)
        await asyncio.sleep(0.01)
        if way == "half":
            phone.half_close()
        else:
            phone.writer.transport.abort()
        await until(lambda: ended == [True])
        await until(lambda: house.server.connections == 0)


async def test_a_caller_who_stops_reading_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """An answer that nobody takes holds its bytes only so long, whether the connection was to go on or not."""
    monkeypatch.setattr("guardproxy.net.patience.LINGER", 0.1)

    async def big(request: Request, outlet: Outlet) -> None:
        outlet.closing = request.target == "/last"
        outlet.reply(200, [], b"x" * 30_000_000)

    async with serving(big, keepalive=0.1) as house:
        for path in (b"/", b"/last"):
            phone = await house.dial(window=4096)
            phone.send(GET.replace(b"/ ", path + b" "))
            await phone.head()
            await until(lambda: house.server.connections == 0)


async def test_a_caller_who_reads_slowly_is_not_dropped(monkeypatch: pytest.MonkeyPatch):
    """As long as he goes on."""
    monkeypatch.setattr("guardproxy.net.patience.LINGER", 0.15)

    async def big(request: Request, outlet: Outlet) -> None:
        outlet.closing = request.target == "/last"
        outlet.reply(200, [], b"x" * 4_000_000)

    async with serving(big, keepalive=0.15) as house:
        for path in (b"/", b"/last"):
            phone = await house.dial(window=4096)
            phone.send(GET.replace(b"/ ", path + b" "))
            await phone.head()
            got = 0
            began = time.monotonic()
            while got < 4_000_000:
                got += len(await phone.reader.readexactly(min(400_000, 4_000_000 - got)))
                await asyncio.sleep(0.03)
            assert time.monotonic() - began > 0.3


async def test_a_caller_who_goes_on_sending_is_let_finish_then_dropped(monkeypatch: pytest.MonkeyPatch):
    """Time to read the refusal, not more."""
    monkeypatch.setattr("guardproxy.net.patience.LINGER", 0.1)
    async with serving(hello) as house:
        phone = await house.dial()
        phone.send(post(b"x" * 10_000_000)[:-5])
        assert (await phone.hear()).fields[b"connection"] == b"close"
        assert house.phases == ["<Caller leaving deaf>"]
        began = time.monotonic()
        await until(lambda: house.server.connections == 0)
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("where", ["127.0.0.1:0", "unix"])
async def test_a_caller_who_is_sent_more_than_he_reads(tmp_path, where, reads):
    """Row 60: he has the time of a body from one read to the next, over TCP or a unix socket; then he is reset."""
    gone = asyncio.Event()

    async def handler(_request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        try:
            for _ in range(400):
                outlet.write(b"x" * 65536)
                await outlet.drain()
            outlet.end()
        except asyncio.CancelledError:
            gone.set()
            raise

    address = f"unix:{tmp_path}/front.sock" if where == "unix" else where
    async with serving(handler, address=address, body_timeout=0.5) as house:
        phone = await house.dial()
        phone.send(GET)
        if not reads:
            await asyncio.wait_for(gone.wait(), 20)
            return
        came = 0
        for _ in range(6):
            await asyncio.sleep(0.2)
            came += len(await phone.reader.read(1 << 20))
        while not gone.is_set() and came < 400 * 65536:
            came += len(await phone.reader.read(1 << 20))
        assert not gone.is_set()
