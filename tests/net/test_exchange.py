"""What a request goes through: upload, second chance, cancellation."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
import threading

import pytest

from guardproxy.net.exchange import Exchange
from tests.net.raw import OK, Ear, Peer, ask, replies, send, serve

EARLY = b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge"


async def parts(*chunks: bytes, pause: float = 0):
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(pause)


def stale(then: bytes = OK, *, end: str = "fin"):
    """A server whose first connection answers once and dies with the next request; the others live."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK if peer.number == 0 else then)
        if peer.number == 0:
            await peer.reader.readexactly(1)
            getattr(peer, end)()
        else:
            await peer.gone()

    return script


async def retrying(exchange: Exchange) -> None:
    for _ in range(1000):
        if exchange._retry is not None:
            return
        await asyncio.sleep(0)
    raise AssertionError(exchange)


# -- the second chance


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_stale_connection_is_not_the_callers_business(reach, end) -> None:
    """Row 8: a reused connection that dies before any byte: once more, on a fresh one, unseen."""
    async with serve(stale(end=end)) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = Ear()
        exchange = await send(upstream, ear)
        assert exchange.reused
        await ear.heard()
        assert ear.calls == ["head", "data", "end"]
        assert [exchange.reused, len(server.peers), upstream.open] == [False, 2, 1]


async def test_once_only(reach) -> None:
    """The second connection is fresh: where it dies too, that is the upstream's state."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(OK)
            await peer.reader.readexactly(1)
        peer.fin()

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = await ask(upstream)
        assert ear.fault.code == "upstream_reset"
        assert len(server.peers) == 2


async def test_not_where_it_must_not_be_repeated(reach) -> None:
    """RFC 9110 § 9.2.2: a proxy does not repeat what may have an effect."""
    async with serve(stale()) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = await ask(upstream, repeat=False)
        assert ear.fault.code == "upstream_reset"
        assert len(server.peers) == 1


async def test_not_after_a_byte(reach) -> None:
    """An answer that had begun is not begun again."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"HTTP")
        peer.fin()

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream)
        assert (await ask(upstream)).fault.code == "upstream_reset"
        assert len(server.peers) == 1


async def test_not_on_a_fresh_connection(reach) -> None:
    """Row 7."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.fin()

    async with serve(script) as server:
        assert (await ask(reach(server.url))).fault.code == "upstream_reset"
        assert len(server.peers) == 1


async def test_nobody_there_for_the_second_try(reach) -> None:
    """The fault is told to the sink, and says that the first may have arrived."""
    async with serve(stale()) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = Ear()
        await send(upstream, ear)
        upstream._dialer._known = [(2, 1, 6, "", ("127.0.0.1", 1))]
        await ear.heard()
        assert (ear.fault.code, ear.fault.sent) == ("upstream_unreachable", True)


async def test_leaving_during_the_second_try(reach) -> None:
    """Cancelled while it connects, or before: nothing is told, nothing leaks."""
    async with serve(stale(b"")) as server:
        for turns in range(16):
            server.peers.clear()
            upstream = reach(server.url)
            await ask(upstream)
            ear = Ear()
            exchange = await send(upstream, ear)
            await retrying(exchange)
            for _ in range(turns):
                await asyncio.sleep(0)
            exchange.cancel()
            await asyncio.sleep(0.02)
            assert ear.calls == []
            assert upstream.open == 0


async def test_leaving_just_as_the_second_connection_is_there(reach) -> None:
    """A connection that nobody wants any more is closed, not forgotten."""
    async with serve(replies(OK)) as server:
        upstream = reach(server.url)
        exchange = await send(upstream, Ear())
        exchange.cancel()
        upstream._pool.open += 1  # the place that the dying connection would have left
        await upstream.reopen(exchange)
        await asyncio.sleep(0)
        assert upstream.open == 0
        assert not upstream._pool.all


async def test_streamed_body_not_begun_gets_its_second_try(reach) -> None:
    """Nothing of the body was consumed: the iterator goes on over the fresh connection."""

    async def script(peer: Peer) -> None:
        request = await peer.request() if peer.number else await peer.reader.readuntil(b"\r\n\r\n")
        server.requests.append(request)
        await peer.send(OK)
        if peer.number == 0:
            await peer.reader.readuntil(b"\r\n\r\n")
            peer.fin()

    async def late():
        await asyncio.sleep(0.05)
        yield b"abc"

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream, None, method=b"GET")
        ear = await ask(upstream, late())
        assert ear.body == b"ok"
        assert server.requests[1].endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


async def test_streamed_body_begun_does_not(reach) -> None:
    """What was consumed cannot be had again."""
    closed = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.reader.readuntil(b"abc\r\n")
        peer.fin()

    async def body():
        try:
            yield b"abc"
            await asyncio.sleep(5)
        finally:
            closed.append(True)

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = await ask(upstream, body())
        assert ear.fault.code == "upstream_reset"
        await asyncio.sleep(0)
        assert closed == [True]


# -- uploads


async def test_streamed_body(reach) -> None:
    """Chunked, one chunk per piece; an empty piece is not the end."""

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            server.requests.append(request)
            await peer.send(OK)

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream, parts(b"abc", b"", b"x" * 16))
        await ask(upstream, parts())
        assert len(server.peers) == 1
    assert server.requests[0].endswith(
        b"\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n"
    )
    assert server.requests[1].endswith(b"\r\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_large_body_waits_for_its_reader(reach, streamed) -> None:
    """The transport's buffer stays bounded while the server does not read; then everything arrives."""
    size = 24 << 20
    go = asyncio.Event()
    taken = 0

    async def pieces():
        nonlocal taken
        for _ in range(size >> 16):
            taken += 1 << 16
            yield bytes(1 << 16)

    async def script(peer: Peer) -> None:
        await go.wait()
        left = size
        await peer.reader.readuntil(b"\r\n\r\n")
        while left > 0:
            left -= len(await peer.reader.read(1 << 20))
        await asyncio.sleep(0.01)
        await peer.send(OK)

    async with serve(script) as server:
        upstream, ear = reach(server.url), Ear()
        exchange = await send(upstream, ear, pieces() if streamed else bytes(size))
        await asyncio.sleep(0.05)
        assert exchange._connection
        transport = exchange._connection._transport
        assert transport.get_write_buffer_size() <= 1 << 20
        if streamed:
            assert taken < size
        go.set()
        await ear.heard()
        assert ear.body == b"ok"


@pytest.mark.parametrize("streamed", [False, True])
async def test_answered_before_the_request_was_out(reach, streamed) -> None:
    """Row 52: the answer is delivered, the upload stops, the connection is not used again."""
    gone, taken = [], 0

    async def endless():
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1 << 16)

    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(10)
        await peer.send(EARLY)
        gone.append(await peer.gone())

    async with serve(script) as server:
        upstream = reach(server.url)
        ear = await ask(upstream, endless() if streamed else bytes(32 << 20))
        assert (ear.status, ear.body) == (413, b"large")
        assert ear.calls[-1] == "end"
        assert upstream.open == 0
        so_far = taken
        await asyncio.sleep(0.03)
        assert taken == so_far
        assert gone == [True]


@pytest.mark.parametrize("streamed", [False, True])
async def test_answered_and_closed_before_the_request_was_out(reach, streamed) -> None:
    """A server that answers and closes with our bytes unread resets the connection; its answer is read first."""

    async def script(peer: Peer) -> None:
        await peer.reader.readexactly(10)
        await peer.send(EARLY)
        peer.fin()

    async with serve(script) as server:
        upstream = reach(server.url)
        for _ in range(10):
            body = parts(*[bytes(1 << 18)] * 64) if streamed else bytes(8 << 20)
            ear = await ask(upstream, body)
            assert (ear.status, ear.body) == (413, b"large")


async def test_an_early_answer_is_read_before_the_next_write(reach) -> None:
    """A write into a connection that has been reset would take the answer with it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            one, _ = listening.accept()
            one.recv(10)
            one.sendall(EARLY)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()

        async def body():
            server.join()  # holds the loop up, so that answer and reset have both come when it goes on
            yield bytes(1000)

        server = threading.Thread(target=refuse)
        server.start()
        ear = await ask(reach(f"http://127.0.0.1:{listening.getsockname()[1]}"), body())
        assert (ear.status, ear.body) == (413, b"large")


async def test_a_flood_leaves_others_their_turn(reach) -> None:
    """However fast an answer comes, whatever else is ready is done between its pieces."""
    size, most = 32 << 20, 0
    loop = asyncio.get_running_loop()

    class Slow(Ear):
        """Takes a while for each piece, so that more is always there already."""

        since = 0

        def data(self, chunk: bytes) -> None:
            nonlocal most
            hashlib.sha256(chunk).digest()
            self.since += len(chunk)
            most = max(most, self.since)

    def tick() -> None:
        ear.since = 0
        if "end" not in ear.calls:
            loop.call_soon(tick)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def flood() -> None:
            one, _ = listening.accept()
            with one:
                one.recv(1 << 16)
                one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

        server = threading.Thread(target=flood)
        server.start()
        ear = Slow()
        await send(reach(f"http://127.0.0.1:{listening.getsockname()[1]}"), ear)
        tick()
        await ear.heard()
        server.join()
    assert 0 < most <= 1 << 19


async def test_the_upload_stops_with_the_head_of_a_refusal(reach) -> None:
    """What follows a final status of 300 or more is not wanted; an early 200 may be answered while reading."""
    stopped = asyncio.Event()
    sent: list[bytes] = []

    async def script(peer: Peer) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        bad = b"/bad" in head
        await peer.send(b"HTTP/1.1 %d X\r\nContent-Length: 4\r\n\r\n" % (413 if bad else 200))
        if bad:
            await asyncio.wait_for(stopped.wait(), 1)
        else:
            await peer.reader.readuntil(b"\r\n0\r\n\r\n")
        await peer.send(b"done")
        await peer.gone()

    async def body(name: bytes):
        try:
            for _ in range(10):
                yield name
                await asyncio.sleep(0.005)
            await asyncio.sleep(5 if name == b"bad" else 0)
            sent.append(name)
        finally:
            stopped.set()

    async with serve(script) as server:
        upstream = reach(server.url)
        assert (await ask(upstream, body(b"bad"), target=b"/bad")).body == b"done"
        assert (await ask(upstream, body(b"good"), target=b"/good")).body == b"done"
        assert sent == [b"good"]
        assert upstream.idle == 1


async def test_the_source_of_the_body_fails(reach) -> None:
    """The upstream is not blamed, and sees the end at once."""
    gone = []

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"abc\r\n")
        gone.append(await peer.gone())

    async def body():
        yield b"abc"
        await asyncio.sleep(0.02)
        try:
            raise ConnectionResetError("secret")
        finally:
            await asyncio.sleep(0)

    async with serve(script) as server:
        ear = await ask(reach(server.url), body())
        await asyncio.sleep(0.02)
    assert (ear.fault.code, ear.fault.status, ear.fault.kind.value) == ("invalid_request", 400, "ignored")
    assert "secret" not in ear.fault.message
    assert gone == [True]


# -- cancellation


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123"])
async def test_cancelled_the_server_sees_it(reach, answer) -> None:
    """Rows 57 and 58: the socket is closed within a second and the sink hears nothing more."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()
        gone.set()

    async with serve(script) as server:
        upstream, ear = reach(server.url), Ear()
        exchange = await send(upstream, ear)
        await asyncio.sleep(0.03)
        heard = list(ear.calls)
        exchange.cancel()
        assert upstream.open == 0
        exchange.cancel()
        await asyncio.wait_for(gone.wait(), 1)
        assert ear.calls == heard
        assert upstream.open == 0


@pytest.mark.parametrize("moment", ["head", "data", "end"])
async def test_cancelled_by_the_sink(reach, moment) -> None:
    """A sink may cancel from within a call: nothing follows."""

    class Leaving(Ear):
        def leave(self, now: str) -> None:
            if now == moment:
                exchange.cancel()

        def head(self, status, headers) -> None:
            super().head(status, headers)
            self.leave("head")

        def data(self, chunk) -> None:
            super().data(chunk)
            self.leave("data")

        def end(self) -> None:
            super().end()
            self.leave("end")

    async with serve(replies(OK)) as server:
        upstream, ear = reach(server.url), Leaving()
        exchange = await send(upstream, ear)
        await asyncio.sleep(0.03)
        assert ear.calls[-1] == moment
        assert upstream.open == (1 if moment == "end" else 0)


async def test_cancelled_while_uploading(reach) -> None:
    """The source of the body is closed with it."""
    closed = []

    async def script(peer: Peer) -> None:
        await peer.gone()

    async def body():
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.001)
        finally:
            closed.append(True)

    async with serve(script) as server:
        upstream, ear = reach(server.url), Ear()
        exchange = await send(upstream, ear, body())
        await asyncio.sleep(0.02)
        exchange.cancel()
        await asyncio.sleep(0.01)
        assert closed == [True]
        assert ear.calls == []
        untouched = await send(upstream, ear, body())
        untouched.cancel()  # before the upload's first step
        assert ear.calls == []


async def test_two_at_once_keep_their_answers(reach) -> None:
    """Answers are never mixed, whatever order they end in."""

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            name = request[-2:]
            await asyncio.sleep(0.002 * (10 - int(name)))
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + name)

    async with serve(script) as server:
        upstream = reach(server.url, pool_size=4)
        for _ in range(2):
            names = [b"%02d" % number for number in range(10)]
            ears = await asyncio.gather(*(ask(upstream, name) for name in names))
            assert [ear.body for ear in ears] == names
        assert len(server.peers) == 4


async def test_paused_before_the_second_try(reach) -> None:
    """A pause holds for whichever connection carries the answer."""
    async with serve(stale()) as server:
        upstream = reach(server.url)
        await ask(upstream)
        ear = Ear()
        exchange = await send(upstream, ear)
        await retrying(exchange)
        exchange.pause()
        await asyncio.sleep(0.05)
        assert ear.calls == []
        exchange.resume()
        await ear.heard()
        assert ear.body == b"ok"
