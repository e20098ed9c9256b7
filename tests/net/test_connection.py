"""What a connection makes of what its other end does."""

from __future__ import annotations

import asyncio
import os
import ssl

import pytest

from tests.net.raw import OK, Ear, Peer, ask, once, replies, send, serve

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"


async def test_an_answer_is_told_in_order_and_once(reach) -> None:
    """Head, data joined per read, end."""
    async with serve(replies(CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")) as server:
        ear = await ask(reach(server.url))
    assert ear.calls == ["head", "data", "end"]
    assert (ear.status, ear.headers) == (200, [(b"Transfer-Encoding", b"chunked")])
    assert ear.chunks == [b"abc"]


@pytest.mark.parametrize(
    "wire,body",
    [
        ((LONG, b"1234", b"56789"), b"123456789"),
        ((CHUNKED, b"2\r", b"\nab\r\n", b"0\r\n\r", b"\n"), b"ab"),
        ((b"HTTP/1.1 103 Hints\r\n\r\n", OK), b"ok"),
        ((b"HTTP/1.0 200 OK\r\n\r\n", b"to the", b" end"), b"to the end"),
        ((OPEN, b"to the end"), b"to the end"),
        ((OPEN,), b""),
    ],
)
async def test_complete_answers(reach, wire, body) -> None:
    """An answer without length is complete when the connection ends as it should."""
    async with serve(once(*wire)) as server:
        ear = await ask(reach(server.url))
    assert ear.body == body
    assert ear.calls[-1] == "end"


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize(
    "wire,where",
    [
        ((), "before it answered"),
        ((b"HTTP/1.1 200 OK\r\nContent-Le",), "in the middle of a head"),
        ((b"HTTP/1.1 100 Continue\r\n\r\n",), "in the middle of a head"),
        ((LONG,), "before its answer was complete"),
        ((LONG, b"1234"), "before its answer was complete"),
        ((CHUNKED, b"5\r\nabcde\r\n"), "before its answer was complete"),
        ((CHUNKED, b"5\r\nabcde\r\n0\r\n"), "before its answer was complete"),
    ],
)
async def test_cut_short(reach, wire, where, end) -> None:
    """What ends too early is a reset, never an answer."""
    async with serve(once(*wire, end=end)) as server:
        upstream = reach(server.url)
        ear = await ask(upstream)
    assert ear.calls[-1] == "lost"
    assert ear.fault.code == "upstream_reset"
    assert (ear.fault.status, ear.fault.sent) == (502, True)
    assert where in ear.fault.message
    assert "'qwen'" in ear.fault.message


async def test_reset_is_no_end(reach) -> None:
    """An answer that lasts until the connection ends is lost where that is reset."""
    async with serve(once(OPEN, b"so far", end="rst")) as server:
        ear = await ask(reach(server.url))
    assert ear.calls == ["head", "data", "lost"]
    assert ear.fault.code == "upstream_reset"


@pytest.mark.parametrize(
    "wire",
    [
        (b"garbage\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,),
        (CHUNKED, b"nonsense\r\n"),
    ],
)
async def test_bad_http_closes_the_connection(reach, wire) -> None:
    """502 `upstream_protocol`, and the server sees the end within a second."""
    gone = []

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*wire)
        gone.append(await peer.gone())

    async with serve(script) as server:
        ear = await ask(reach(server.url))
        await asyncio.sleep(0.02)
    assert (ear.fault.code, ear.fault.status) == ("upstream_protocol", 502)
    assert gone == [True]


@pytest.mark.parametrize("behind", [b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"HTTP/1.1 2"])
@pytest.mark.parametrize("when", ["together", "later"])
async def test_bytes_behind_the_end_are_never_the_next_answer(reach, behind, when) -> None:
    """Row 18: the connection is dropped."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number:
            await peer.send(OK)
        else:
            await peer.send(*([OK + behind] if when == "together" else [OK, behind]))
        await peer.gone()

    async with serve(script) as server:
        upstream = reach(server.url)
        first = await ask(upstream)
        await asyncio.sleep(0.03)
        second = await ask(upstream)
        assert (first.body, second.body) == (b"ok", b"ok")
        assert len(server.peers) == 2


async def test_bytes_that_nobody_has_read_yet(reach) -> None:
    """What waits in the socket is seen before the connection is used again, though the loop has not told of it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.gone()

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream)
        os.write(server.peers[0].writer.get_extra_info("socket").fileno(), OK.replace(b"ok", b"no"))
        ear = Ear()
        exchange = await send(upstream, ear)
        assert not exchange.reused
        await ear.heard()
        assert ear.body == b"ok"


async def test_half_closed_after_the_answer(reach) -> None:
    """A server that only says FIN after its answer leaves nothing to be used again."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        peer.writer.write_eof()
        await peer.gone()

    async with serve(script) as server:
        upstream = reach(server.url)
        await ask(upstream)
        await asyncio.sleep(0.02)
        assert upstream.idle == upstream.open == 0
        assert (await ask(upstream)).body == b"ok"


async def test_half_closed_before_the_answer(reach) -> None:
    """A server that has said FIN cannot answer any more."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.writer.write_eof()
        await peer.gone()

    async with serve(script) as server:
        assert (await ask(reach(server.url))).fault.code == "upstream_reset"


async def test_head_request(reach) -> None:
    """An answer to HEAD is complete with its head, though it names a length."""
    async with serve(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")) as server:
        upstream = reach(server.url)
        for _ in range(2):
            ear = await ask(upstream, None, method=b"HEAD")
            assert ear.calls == ["head", "end"]
        assert len(server.peers) == 2


async def test_a_large_answer_waits_for_its_reader(reach) -> None:
    """Paused, the server is held up by the socket; resumed, everything comes."""
    size, written = 16 << 20, 0

    async def script(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        peer.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            peer.writer.write(bytes(65536))
            await peer.writer.drain()
            written += 65536

    async with serve(script) as server:
        upstream, ear = reach(server.url), Ear()
        exchange = await send(upstream, ear)
        exchange.pause()
        await asyncio.sleep(0.1)
        held = written
        assert held < size
        assert len(ear.body) < 1 << 20
        exchange.resume()
        await ear.heard()
        assert len(ear.body) == size


async def test_paused_at_the_end(reach) -> None:
    """A connection whose reader paused is read again by its next user."""

    class Pausing(Ear):
        def head(self, status, headers) -> None:
            super().head(status, headers)
            exchange.pause()

    async with serve(replies(OK)) as server:
        upstream, ear = reach(server.url), Pausing()
        exchange = await send(upstream, ear)
        await ear.heard()
        assert (await ask(upstream)).body == b"ok"
        assert len(server.peers) == 1


async def test_tls_stream_cut_by_anybody(reach, certs) -> None:
    """A bare FIN does not end an answer without length under TLS: an attacker can send one (RFC 9112 § 9.8)."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certs / "server.pem")

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OPEN + b"so far")
        await asyncio.sleep(0.02)
        if peer.number:
            peer.fin()  # says goodbye
        else:
            peer.writer.transport.abort()  # does not

    async with serve(script, tls=tls) as server:
        upstream = reach(server.url, ca_file=str(certs / "ca.pem"))
        cut, whole = await ask(upstream), await ask(upstream)
    assert cut.calls[-1] == "lost"
    assert cut.fault.code == "upstream_reset"
    assert whole.calls == ["head", "data", "end"]


async def test_condition_is_shown(reach) -> None:
    async with serve(once(LONG, end="stay")) as server:
        upstream, ear = reach(server.url), Ear()
        exchange = await send(upstream, ear)
        assert repr(exchange) == "<Exchange <Connection waiting>>"
        await asyncio.sleep(0.03)
        assert repr(exchange) == "<Exchange <Connection answering>>"
        exchange.pause()
        assert repr(exchange) == "<Exchange <Connection answering> paused>"
        connection = exchange._connection
        exchange.cancel()
        assert repr(exchange) == "<Exchange over paused>"
        assert repr(connection) == "<Connection closed>"
