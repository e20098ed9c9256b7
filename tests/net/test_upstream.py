"""What an upstream says where there is no connection, and what it sends where there is."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

import pytest

from guardproxy.core.values import Kind
from guardproxy.net.upstream import Upstream
from tests.net.raw import OK, Ear, Peer, ask, replies, serve


async def fault(upstream):
    return await upstream.send(b"POST", b"/v1/x", [], b"{}", Ear())


@pytest.mark.parametrize(
    "suffix,base",
    [("", b""), ("/", b""), ("/v1", b""), ("/v1/", b""), ("/models/qwen", b"/models/qwen"), ("/q/v1/", b"/q")],
)
async def test_request_as_it_goes_out(reach, suffix, base) -> None:
    """One head: line, Host, length, the caller's fields; then the body.  The url's path goes before the target."""

    async def script(peer: Peer) -> None:
        server.requests.append(await peer.reader.read(65536))
        await peer.send(OK)

    async with serve(script) as server:
        upstream, ear = reach(server.url + suffix), Ear()
        await upstream.send(b"POST", b"/v1/chat/completions?a=b", [(b"X-A", b"1"), (b"x-B", b"2")], b"{}", ear)
        await ear.heard()
        assert upstream.base_path.encode() == base
    assert server.requests == [
        b"POST " + base + b"/v1/chat/completions?a=b HTTP/1.1\r\nHost: " + upstream.host_header +
        b"\r\nContent-Length: 2\r\nX-A: 1\r\nx-B: 2\r\n\r\n{}"
    ]  # fmt: skip


async def test_a_request_that_cannot_be_written(reach) -> None:
    """No line of the caller's making goes out; nothing is opened for it."""
    upstream = reach("http://127.0.0.1:1")
    got = await upstream.send(b"POST", b"/v1/x", [(b"X", b"a\r\nEvil: 1")], b"", Ear())
    assert (got.code, got.status, got.kind, got.sent) == ("invalid_request", 400, Kind.IGNORED, False)
    assert "Evil" not in got.message


async def test_refused(reach) -> None:
    """Row 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    got = await fault(reach(f"http://127.0.0.1:{port}"))
    assert (got.code, got.status, got.kind, got.sent) == ("upstream_unreachable", 502, Kind.FAILURE, False)
    assert got.message == f"upstream 'qwen' could not be connected to (127.0.0.1:{port}): connection refused"


async def test_no_such_socket(reach, tmp_path) -> None:
    got = await fault(reach(f"unix:{tmp_path}/none.sock"))
    assert got.code == "upstream_unreachable"
    assert "no such file" in got.message


async def test_connect_timeout(reach) -> None:
    """Row 3: a server that does not accept; the message says which clock, and after how long."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        stuffing = []
        for _ in range(3):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            stuffing.append(one)
        upstream = reach(f"http://127.0.0.1:{port}", connect=0.05)
        got = await fault(upstream)
        for one in stuffing:
            one.close()
    assert (got.code, got.status, got.kind, got.sent) == ("upstream_timeout", 504, Kind.FAILURE, False)
    assert "within 0.05 s (connect timeout)" in got.message
    assert upstream.open == 0


async def test_leaving_while_connecting(reach) -> None:
    """A caller who leaves meanwhile takes his place and his socket with him."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        stuffing = [socket.socket() for _ in range(3)]
        for one in stuffing:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        upstream = reach(f"http://127.0.0.1:{port}", connect=5)
        for turns in range(4):
            task = asyncio.create_task(fault(upstream))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert upstream.open == 0
        for one in stuffing:
            one.close()


@pytest.mark.parametrize("secured", [False, True])
async def test_leaving_at_any_turn_of_connecting(reach, certs, secured) -> None:
    """Whichever round of the loop the caller leaves in, nothing stays open."""
    gone = 0

    async def script(peer: Peer) -> None:
        nonlocal gone
        assert await peer.gone()
        gone += 1

    tls = None
    if secured:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certs / "server.pem")
    async with serve(script, tls=tls) as server:
        for turns in range(20):
            upstream, ear = reach(server.url, ca_file=str(certs / "ca.pem")), Ear()
            task = asyncio.create_task(upstream.send(b"POST", b"/v1/x", [], b"{}", ear))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result().cancel()
            assert upstream.open == 0
        await asyncio.sleep(0.05)
        assert gone == len(server.peers)


async def test_closed_as_soon_as_accepted(reach) -> None:
    """A connection that is dead before the request is a reset, and nothing was sent or the fault says so."""

    async def script(peer: Peer) -> None:
        peer.rst()

    async with serve(script) as server:
        upstream, ear = reach(server.url), Ear()
        got = await upstream.send(b"POST", b"/v1/x", [], b"{}", ear)
        if hasattr(got, "code"):
            assert not got.sent
        else:
            got = (await ear.heard()).fault
        assert got.code == "upstream_reset"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL])
async def test_out_of_our_own_means(reach, number) -> None:
    """Row 93: what this machine has run out of says nothing about the upstream."""
    upstream = reach("http://127.0.0.1:1")

    async def dial(make, reached):
        raise OSError(number, "out of it")

    upstream._dialer = type("Dry", (), {"dial": staticmethod(dial), "expires": 0, "close": lambda self: None})()
    got = await fault(upstream)
    assert (got.code, got.status, got.kind, got.retry_after) == ("overloaded", 503, Kind.IGNORED, 1.0)


async def test_unix_socket(reach, tmp_path) -> None:
    async with serve(replies(OK), path=str(tmp_path / "model.sock")) as server:
        upstream = reach(server.url + ":/base/v1")
        assert (await ask(upstream)).body == b"ok"
        assert (await ask(upstream)).body == b"ok"
        assert (upstream.host_header, upstream.base_path) == (b"localhost", "/base")
        assert len(server.peers) == 1


async def test_ipv6(reach) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on loopback")
    async with serve(replies(OK), host="::1") as server:
        upstream = reach(server.url)
        assert (await ask(upstream)).body == b"ok"
        assert upstream.host_header == b"[::1]:%d" % server.port


def test_url_is_judged_at_once() -> None:
    with pytest.raises(ValueError, match="must begin with"):
        Upstream("qwen", "ftp://x")
