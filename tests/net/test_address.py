"""Urls, names and certificates."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl

import pytest

from guardproxy.net.address import explain, parse, tls_context
from tests.net.raw import OK, Ear, Peer, Raw, ask, replies, serve


@pytest.mark.parametrize(
    "url,host,port,tls,authority,base",
    [
        ("http://m", "m", 80, False, b"m", ""),
        ("http://m:80/v1", "m", 80, False, b"m", ""),
        ("https://M.Example:443/v1/", "m.example", 443, True, b"m.example", ""),
        ("https://m:8443/a/v1", "m", 8443, True, b"m:8443", "/a"),
        ("http://[::1]:8000", "::1", 8000, False, b"[::1]:8000", ""),
        ("http://m/a/v1/b/", "m", 80, False, b"m", "/a/v1/b"),
        ("http://m/av1", "m", 80, False, b"m", "/av1"),
        ("http://bücher.test", "xn--bcher-kva.test", 80, False, b"xn--bcher-kva.test", ""),
    ],
)
def test_urls(url, host, port, tls, authority, base) -> None:
    got = parse(url)
    assert (got.host, got.port, got.tls, got.authority, got.base, got.path) == (host, port, tls, authority, base, "")


@pytest.mark.parametrize(
    "url,path,base",
    [("unix:/a/b.sock", "/a/b.sock", ""), ("unix:///a.sock", "/a.sock", ""), ("unix:/a.sock:/x/v1", "/a.sock", "/x")],
)
def test_unix_urls(url, path, base) -> None:
    got = parse(url)
    assert (got.path, got.base, got.authority) == (path, base, b"localhost")


@pytest.mark.parametrize(
    "url",
    [
        "", "m:8000", "ftp://m", "http://", "http://:80", "http://m:0", "http://m:99999", "http://m:x", "http://m/a b",
        "http://m/\r\nX: 1", "http://user:hunter2@m", "http://m?x=hunter2", "http://m#x", "unix:", "unix:relative",
        "http://m/ü", "http://" + "x" * 80 + "ü", "http://.m", "http://a..b",
    ],
)  # fmt: skip
def test_bad_urls(url) -> None:
    """Refused when the configuration is read, without repeating a secret."""
    with pytest.raises(ValueError, match=r"url|[Pp]ort") as refused:
        parse(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "error,words",
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "connection refused"),
        (OSError("Multiple exceptions"), "Multiple exceptions"),
        (RuntimeError(), "RuntimeError"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "looked up (name or service not known)"),
        (ssl.SSLError(1, "x"), "handshake failed"),
    ],
)
def test_explained(error, words) -> None:
    assert words in explain(error)


# -- names


class Names:
    """A name server that says what the test says."""

    def __init__(self, port: int, *hosts: str) -> None:
        self.port = port
        self.hosts = hosts
        self.asked = 0
        self.error: Exception | None = None
        self.hang = False

    async def __call__(self, host, port, *, type, proto):  # noqa: A002
        self.asked += 1
        await asyncio.sleep(5 if self.hang else 0.01)
        if self.error:
            raise self.error
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, type, proto, "", (one, self.port)) for one in self.hosts
        ]


@pytest.fixture
async def names(monkeypatch):
    made = Names(0, "127.0.0.1")
    loop = asyncio.get_running_loop()
    real = type(loop).getaddrinfo

    def look_up(self, host, *args, **more):
        return made(host, *args, **more) if host.startswith("model.test") else real(self, host, *args, **more)

    monkeypatch.setattr(type(loop), "getaddrinfo", look_up)
    return made


async def test_a_name_is_looked_up_once(reach, names) -> None:
    """However many connect at once, and for as long as the answer holds."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(OK)

    async with serve(script) as server:
        names.port = server.port
        upstream = reach("http://model.test")
        leaving, *asking = [asyncio.create_task(ask(upstream)) for _ in range(6)]
        await asyncio.sleep(0)
        leaving.cancel()  # does not end it for the others
        await asyncio.sleep(0.05)
        go.set()
        assert {ear.body for ear in await asyncio.gather(*asking)} == {b"ok"}
        assert names.asked == 1
        assert len(server.peers) == 5


async def test_numbers_are_not_looked_up(reach, names) -> None:
    async with serve(replies(OK)) as server:
        await ask(reach(server.url))
        assert names.asked == 0


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "nope"), UnicodeError("label too long")])
async def test_no_such_name(reach, names, error) -> None:
    """Row 4."""
    names.error = error
    got = await reach("http://model.test").send(b"GET", b"/", [], None, Ear())
    assert (got.code, got.sent) == ("upstream_unreachable", False)
    assert "cannot be looked up" in got.message


async def test_hanging_name_server(reach, names) -> None:
    """Row 4: looking up is part of connecting; the look-up that hangs ends with the upstream."""
    names.hang = True
    upstream = reach("http://model.test", connect=0.03)
    got = await upstream.send(b"GET", b"/", [], None, Ear())
    assert got.code == "upstream_timeout"
    sending = asyncio.create_task(upstream.send(b"GET", b"/", [], None, Ear()))
    await asyncio.sleep(0.01)
    await upstream.close()
    assert (await sending).code == "upstream_unreachable"
    assert names.asked == 1


async def test_last_good_address(reach, names, clock) -> None:
    """Row 4: a name server that fails later does not take the upstream with it."""
    async with serve(replies(OK)) as server:
        names.port = server.port
        upstream = reach("http://model.test")
        await ask(upstream)
        names.error = socket.gaierror(socket.EAI_AGAIN, "try later")
        clock.ahead = 40
        assert (await ask(upstream)).body == b"ok"
        assert names.asked == 2
        await ask(upstream)
        assert names.asked == 2


async def test_the_name_has_moved(reach, names, clock) -> None:
    """Row 5: connections to addresses that are no longer the name's are not used again, though they work."""
    async with serve(replies(OK), host="0.0.0.0") as server:
        names.port = server.port
        upstream = reach("http://model.test", idle=1000)
        await ask(upstream)
        names.hosts = ("127.0.0.2",)
        clock.ahead = 31
        await ask(upstream)  # still over the old one: nobody waits for the look-up behind his back
        await asyncio.sleep(0.03)
        assert names.asked == 2
        assert upstream.open == 0
        ear = Ear()
        exchange = await upstream.send(b"GET", b"/", [], None, ear)
        assert exchange._connection.peer == "127.0.0.2"
        await ear.heard()
        names.hosts = ("127.0.0.2", "127.0.0.3")
        clock.ahead = 62
        await ask(upstream)
        await asyncio.sleep(0.03)
        assert upstream.idle == 1  # still one of them


async def test_moved_while_in_use(reach, names, clock) -> None:
    """An exchange under way ends on the old connection, which is then closed."""
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while await peer.request():
            await go.wait()
            await peer.send(OK)

    async with serve(script, host="0.0.0.0") as server:
        names.port = server.port
        upstream, ear = reach("http://model.test"), Ear()
        await upstream.send(b"GET", b"/", [], None, ear)
        names.hosts = ("127.0.0.2",)
        upstream._dialer.renew_soon()
        await asyncio.sleep(0.03)
        go.set()
        await ear.heard()
        assert ear.body == b"ok"
        assert upstream.open == 0


async def test_moved_within_the_ttl(reach, names) -> None:
    """An address that refuses is looked up anew at once, and the new one used."""
    async with serve(replies(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")) as server:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            closed = taken.getsockname()[1]
        names.port = server.port
        upstream = reach("http://model.test")
        await ask(upstream)
        upstream._dialer._known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", closed))]
        await ask(upstream)
        assert names.asked == 2
        names.port = closed
        upstream._dialer._known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", closed))]
        got = await upstream.send(b"GET", b"/", [], None, Ear())
        assert got.code == "upstream_unreachable"
        assert names.asked == 3


async def test_happy_eyeballs(reach, names) -> None:
    """An address that does not answer holds nobody up: the next one is tried beside it (RFC 8305)."""
    full = socket.create_server(("127.0.0.9", 0), backlog=0)
    port = full.getsockname()[1]
    stuffing = [socket.socket() for _ in range(3)]
    for one in stuffing:
        one.setblocking(False)
        one.connect_ex(("127.0.0.9", port))
    try:
        live = socket.create_server(("127.0.0.1", port))
    except OSError:
        pytest.skip("the port is taken on the other address")

    async def script(peer: Peer) -> None:
        await peer.gone()

    raw = Raw(script)
    answering = await asyncio.start_server(raw.play, sock=live)
    try:
        names.port, names.hosts = port, ("127.0.0.9", "127.0.0.1")
        began = asyncio.get_running_loop().time()
        exchange = await reach("http://model.test").send(b"GET", b"/", [], None, Ear())
        assert not hasattr(exchange, "code"), exchange
        assert exchange._connection.peer == "127.0.0.1"
        assert asyncio.get_running_loop().time() - began < 0.6
        exchange.cancel()
    finally:
        answering.close()
        for one in [full, *stuffing]:
            one.close()
        await asyncio.sleep(0.01)


# -- TLS


def server_tls(certs, name: str, *, client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / f"{name}.pem")
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certs / "ca.pem")
    return context


async def test_tls(reach, names, certs) -> None:
    """Verified against the ca_file and the name, which is also sent as SNI; kept alive like any other."""
    asked: list[str] = []
    context = server_tls(certs, "server")
    context.sni_callback = lambda sock, name, ctx: asked.append(name)
    async with serve(replies(OK), tls=context) as server:
        names.port = server.port
        upstream = reach("https://model.test", ca_file=str(certs / "ca.pem"))
        for _ in range(3):
            assert (await ask(upstream)).body == b"ok"
        assert asked == ["model.test"]
        assert len(server.peers) == 1
        assert (await ask(reach(server.url, ca_file=str(certs / "ca.pem")))).body == b"ok"  # by its address
        assert (await ask(reach("https://model.test.", ca_file=str(certs / "ca.pem")))).body == b"ok"


@pytest.mark.parametrize("name,words", [("other", "mismatch"), ("old", "expired")])
async def test_tls_that_does_not_verify(reach, certs, name, words) -> None:
    """Row 6: nothing is sent, and plain text is never tried."""
    async with serve(replies(OK), tls=server_tls(certs, name)) as server:
        upstream = reach(server.url, ca_file=str(certs / "ca.pem"))
        got = await upstream.send(b"GET", b"/", [], None, Ear())
        assert (got.code, got.sent) == ("upstream_unreachable", False)
        assert "TLS" in got.message
        assert words in got.message
        assert server.peers == []


async def test_tls_by_nobody_we_know(reach, certs) -> None:
    async with serve(replies(OK), tls=server_tls(certs, "server")) as server:
        got = await reach(server.url).send(b"GET", b"/", [], None, Ear())
        assert "certificate does not verify" in got.message


async def test_tls_where_plain_http_is_spoken(reach, certs) -> None:
    """Row 6: never downgrade."""
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.reader.read(5))
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.fin()

    async with serve(script) as server:
        got = await reach(server.url.replace("http:", "https:")).send(b"GET", b"/", [], None, Ear())
        assert got.code == "upstream_unreachable"
        assert "TLS" in got.message
        assert len(seen) == 1
        assert seen[0].startswith(b"\x16\x03")


async def test_tls_handshake_that_stalls(reach, certs) -> None:
    """Row 6: part of the connect timeout, and not worth another try at the same server."""

    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serve(script) as server:
        upstream = reach(server.url.replace("http:", "https:"), connect=0.05)
        got = await upstream.send(b"GET", b"/", [], None, Ear())
        assert (got.code, got.status) == ("upstream_unreachable", 502)


async def test_client_certificate(reach, certs) -> None:
    """Shown to the server that asks for it; without one there is no connection."""
    async with serve(replies(OK), tls=server_tls(certs, "server", client=True)) as server:
        ca = str(certs / "ca.pem")
        pair = (str(certs / "client.crt"), str(certs / "client.key"))
        for shown in (str(certs / "client.pem"), pair):
            assert (await ask(reach(server.url, ca_file=ca, client_cert=shown))).body == b"ok"
        upstream, ear = reach(server.url, ca_file=ca), Ear()
        got = await upstream.send(b"POST", b"/", [], b"", ear)
        if not hasattr(got, "code"):  # TLS 1.3: the server refuses after the handshake
            got = (await ear.heard()).fault
        assert got.code in ("upstream_unreachable", "upstream_reset")


def test_files_are_judged_at_once(certs, tmp_path) -> None:
    """A bad file is a mistake of the configuration, not of a request."""
    with pytest.raises(ValueError, match="ca_file"):
        tls_context(str(tmp_path / "none.pem"), None)
    with pytest.raises(ValueError, match="client_cert"):
        tls_context(None, str(certs / "ca.key"))
    encrypted = tmp_path / "locked.pem"
    os.system(f"openssl ec -in {certs}/client.key -aes128 -passout pass:x -out {encrypted} 2>/dev/null")  # noqa: S605
    with pytest.raises(ValueError, match="client_cert"):
        tls_context(None, (str(certs / "client.crt"), str(encrypted)))


async def test_tls_backpressure_and_large_bodies(reach, certs) -> None:
    """Both directions, through TLS, under either loop."""
    size = 8 << 20

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            assert len(request) > size
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))

    async with serve(script, tls=server_tls(certs, "server")) as server:
        upstream, ear = reach(server.url, ca_file=str(certs / "ca.pem")), Ear()
        exchange = await upstream.send(b"POST", b"/", [], bytes(size), ear)
        exchange.pause()
        await asyncio.sleep(0.1)
        assert len(ear.body) < size
        exchange.resume()
        await ear.heard()
        assert len(ear.body) == size
        assert (await ask(upstream, bytes(size))).status == 200
        assert len(server.peers) == 1
