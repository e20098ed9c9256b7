"""Request bodies: whole, in pieces, too large, too slow, broken, unread."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from guardproxy.net.server import Malformed, TooLarge, TooSlow
from tests.net.callers import GET, echo, post, serving, until

if TYPE_CHECKING:
    from guardproxy.net.server import Outlet, Request

CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_body_is_read_whole():
    """As `bytes`, whether it is there at once or comes in pieces; and the next request is the next one."""
    seen: list[bytes] = []

    async def keep(request: Request, outlet: Outlet) -> None:
        assert request.body.length == 300_000
        seen.append(await request.body.read(300_000, 2))
        outlet.reply(200, [], b"")

    body = bytes(range(250)) * 1200
    async with serving(keep) as house:
        phone = await house.dial()
        wire = post(body)
        for size in (len(wire), 10_000):
            for start in range(0, len(wire), size):
                phone.send(wire[start : start + size])
                await asyncio.sleep(0)
            await phone.hear()
    assert seen == [body, body]
    assert all(type(item) is bytes for item in seen)


async def test_a_chunked_body():
    """Chunks, their extensions and trailers are taken off, its length is unknown until its end."""

    async def keep(request: Request, outlet: Outlet) -> None:
        assert request.body.length is None
        outlet.reply(200, [], await request.body.read(100, 2))

    async with serving(keep) as house:
        phone = await house.dial()
        wire = CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n"
        for size in (1000, 1):
            for start in range(0, len(wire), size):
                phone.send(wire[start : start + size])
                await asyncio.sleep(0)
            assert (await phone.hear()).body == b"abcde"


async def test_bodies_are_not_decompressed():
    """What the caller packed the upstream unpacks: 51 kB must not become 50 MB here."""
    packed = gzip.compress(b"x" * 100_000)
    async with serving(echo) as house:
        assert (await house.ask(post(packed, b"Content-Encoding: gzip"))).body == packed


async def test_no_body():
    """Nothing declared is nothing there; reading it is free."""

    async def keep(request: Request, outlet: Outlet) -> None:
        assert request.body.length == 0
        assert await request.body.read(0, 0) == b""
        assert [piece async for piece in request.body] == []
        outlet.reply(200, [], b"")

    async with serving(keep) as house:
        for wire in (GET, GET.replace(b"GET", b"POST"), post(b"")):
            assert (await house.ask(wire)).status == 200


async def test_a_body_in_pieces_holds_the_caller_back():
    """While nobody takes the next piece the caller waits: what is held is bounded, however much he sends."""
    go = asyncio.Event()
    size = 0

    async def relay(request: Request, outlet: Outlet) -> None:
        nonlocal size
        async for piece in request.body:
            await go.wait()
            size += len(piece)
        outlet.reply(200, [], b"")

    async with serving(relay) as house:
        phone = await house.dial()
        tracemalloc.start()
        phone.writer.transport.set_write_buffer_limits(high=0)
        chunk = b"x" * 100_000
        phone.send(CHUNKED)

        async def upload() -> None:
            for _ in range(200):
                phone.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await phone.writer.drain()
            phone.send(b"0\r\n\r\n")

        task = asyncio.create_task(upload())
        await asyncio.sleep(0.1)
        assert not task.done()
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
        tracemalloc.stop()
        go.set()
        assert (await phone.hear()).status == 200
        await task
    assert size == 20_000_000


async def test_a_declared_length_over_the_limit_is_known_at_once():
    """Nothing of it is waited for; the caller gets the answer although he is still sending."""
    caught: list[Exception] = []

    async def small(request: Request, outlet: Outlet) -> None:
        try:
            await request.body.read(1000, 1)
        except TooLarge as error:
            caught.append(error)
            raise

    async with serving(small) as house:
        phone = await house.dial()
        phone.send(post(b"x" * 5_000_000))
        heard = await phone.hear()
        assert (heard.status, heard.code) == (413, "request_too_large")
        assert heard.fields[b"connection"] == b"close"
        phone.send(b"x" * 5_000_000)
        assert await phone.rest() == b""
    assert str(caught[0]) == "the request body is larger than 1000 bytes"


@pytest.mark.parametrize("together", [False, True])
async def test_a_chunked_body_over_the_limit(*, together: bool):
    """Its length shows only as it comes."""

    async def small(request: Request, outlet: Outlet) -> None:
        with pytest.raises(TooLarge):
            await request.body.read(1000, 1)
        outlet.reply(413, [], b"")

    async with serving(small) as house:
        phone = await house.dial()
        phone.send(CHUNKED)
        if not together:
            await asyncio.sleep(0.01)
        phone.send(b"400\r\n" + b"x" * 1024 + b"\r\n" + b"0\r\n\r\n" * together)
        heard = await phone.hear()
        assert heard.status == 413
        phone.send(b"" if together else b"0\r\n\r\n")
        assert (heard.fields.get(b"connection") == b"close") is not together


@pytest.mark.parametrize("whole", [False, True])
async def test_a_body_too_slow(*, whole: bool):
    """Even a byte now and then does not keep a reader of the whole waiting; a stream may not pause for long."""
    caught: list[Exception] = []

    async def patient(request: Request, outlet: Outlet) -> None:
        try:
            if whole:
                await request.body.read(1000, 0.1)
            else:
                async for _ in request.body:
                    pass
        except TooSlow as error:
            caught.append(error)
            raise

    async with serving(patient, body_timeout=0.1) as house:
        phone = await house.dial()
        phone.send(post(b"x" * 100)[:-90])
        for _ in range(30 if whole else 3):
            phone.send(b"x")
            await asyncio.sleep(0.01)
            if caught:
                break
        heard = await phone.hear()
        assert (heard.status, heard.code) == (408, "request_timeout")
        assert await phone.rest() == b""
    assert "0.1 seconds" in str(caught[0])


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("wire", [b"zz\r\n", b"1\na\r\n", b"3\r\nabcX\r\n", b"3\r\nabc\r\n0\r\nA : b\r\n\r\n"])
async def test_a_broken_body(wire: bytes, *, whole: bool):
    """Its reader is told at once, instead of waiting for what never comes: 400, and the end."""
    caught: list[Exception] = []

    async def read(request: Request, outlet: Outlet) -> None:
        try:
            if whole:
                await request.body.read(1000, 2)
            else:
                async for _ in request.body:
                    pass
        except Malformed as error:
            caught.append(error)
            raise

    async with serving(read) as house:
        phone = await house.dial()
        phone.send(CHUNKED)
        await until(lambda: bool(house.phases) and house.phases[0].startswith("<Caller busy"))
        phone.send(wire + GET)
        heard = await phone.hear()
        assert (heard.status, heard.code) == (400, "invalid_request")
        assert await phone.rest() == b""
    assert len(caught) == 1


async def test_a_broken_body_that_nobody_reads():
    """The answer goes out, and the connection ends with it."""

    async def deaf(request: Request, outlet: Outlet) -> None:
        await asyncio.sleep(0.02)
        outlet.reply(200, [], b"")

    async with serving(deaf) as house:
        phone = await house.dial()
        phone.send(CHUNKED)
        await asyncio.sleep(0.005)
        phone.send(b"zz\r\n", GET)
        assert (await phone.hear()).fields[b"connection"] == b"close"
        assert await phone.rest() == b""


async def test_an_unread_body_is_never_the_next_request():
    """The rest of a body that came late looks like a request: it is dropped, and the caller told beforehand."""
    called: list[str] = []

    async def deaf(request: Request, outlet: Outlet) -> None:
        called.append(request.target)
        outlet.reply(200, [], b"no")

    smuggled = GET.replace(b"/ ", b"/smuggled ")
    async with serving(deaf) as house:
        phone = await house.dial()
        phone.send(post(smuggled)[: -len(smuggled)])
        assert (await phone.hear()).fields[b"connection"] == b"close"
        phone.send(smuggled, smuggled)
        assert await phone.rest() == b""
    assert called == ["/v1/x"]


async def test_an_unread_body_that_is_all_here_is_forgotten():
    """The connection goes on with the request behind it."""

    async def deaf(request: Request, outlet: Outlet) -> None:
        outlet.reply(200, [], request.target.encode())

    async with serving(deaf) as house:
        phone = await house.dial()
        phone.send(post(b"x" * 1000), GET)
        assert [(await phone.hear()).body for _ in range(2)] == [b"/v1/x", b"/"]
        assert await phone.silent()


# -- Expect: 100-continue

EXPECT = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n"


@pytest.mark.parametrize("whole", [False, True])
async def test_100_continue_is_said_when_the_body_is_first_read(*, whole: bool):
    """Not before: a refusal must be able to save the caller his upload."""
    go = asyncio.Event()

    async def read(request: Request, outlet: Outlet) -> None:
        await go.wait()
        body = await request.body.read(10, 2) if whole else b"".join([piece async for piece in request.body])
        assert not outlet.begun
        outlet.reply(200, [], body)

    async with serving(read) as house:
        phone = await house.dial()
        for _ in range(2):
            go.clear()
            phone.send(EXPECT)
            assert await phone.silent()
            go.set()
            assert await phone.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            phone.send(b"body")
            heard = await phone.hear()
            assert (heard.status, heard.body) == (200, b"body")


async def test_100_continue_is_not_said_for_nothing():
    """Not when the body is refused, nor when it is already coming, nor to HTTP/1.0, nor where there is no body."""

    async def read(request: Request, outlet: Outlet) -> None:
        await request.body.read(4, 2)
        outlet.reply(200, [], b"")

    async with serving(read) as house:
        phone = await house.dial()
        phone.send(EXPECT.replace(b": 4", b": 5"))
        heard = await phone.hear()
        assert (heard.status, heard.fields[b"connection"]) == (413, b"close")
        assert await phone.rest() == b""
        for wire, rest in (
            (EXPECT + b"bo", b"dy"),
            (EXPECT.replace(b"1.1", b"1.0"), b"body"),
            (EXPECT.replace(b": 4", b": 0"), b""),
        ):
            phone = await house.dial()
            phone.send(wire)
            await asyncio.sleep(0.02)
            phone.send(rest)
            assert (await phone.hear()).status == 200
