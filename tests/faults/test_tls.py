"""TLS on both ports, and towards model servers from both sides, with certificates made for the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl

import pytest

from tests.faults.trial import NEVER, PROBE, Trial, says
from tests.faults.wire import CHAT, WELL, WELL_EVENTS, asking, events, read, request, whole
from tests.net.raw import certificates, serve


def caller(certs, client: str | None = None) -> ssl.SSLContext:
    """What an app brings along."""
    context = ssl.create_default_context(cafile=certs / "ca.pem")
    if client is not None:
        context.load_cert_chain(certs / f"{client}.pem")
    return context


def shown(certs, name: str = "server", **more) -> dict:
    return {"certificate": str(certs / f"{name}.crt"), "key": str(certs / f"{name}.key"), **more}


async def ask(address: str, context: ssl.SSLContext, wire: bytes) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
    came = b""
    try:
        async with asyncio.timeout(15):
            writer.write(wire)
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while more := await reader.read(65536):
                    came += more
    finally:
        writer.transport.abort()
    return came


async def test_both_ports(certs):
    """Whole answers, streams, refusals and metrics go over TLS as they go without."""
    changes = {"tls": shown(certs), "admin_tls": shown(certs), "limits": {"header_timeout": 1, "connections": 2}}
    async with Trial(changes) as trial:
        app = caller(certs)
        assert read(await ask(trial.app, app, request(asking(), NEVER)))[0].body == WELL
        trial.llama.play = says(events(*WELL_EVENTS), then="keep")
        seen, _ = read(await ask(trial.app, app, request(asking(stream=True), NEVER)))
        assert (seen.status, seen.cut) == (200, False)
        trial.llama.play = says(events(*WELL_EVENTS)[:-60])
        seen, _ = read(await ask(trial.app, app, request(asking("cut", stream=True), NEVER)))
        assert seen.cut
        both = request(asking(), "Transfer-Encoding: chunked")
        seen, _ = read(await ask(trial.app, app, both))
        assert (seen.status, seen.fields["connection"]) == (400, "close")
        seen, _ = read(await ask(trial.app, app, b"GET / HTTP/1.1\r\nHo"))
        assert seen.status == 408
        state = request(None, method="GET", path="/guard/state", host="localhost")
        assert json.loads(read(await ask(trial.admin, app, state))[0].body)["breakers"]
        assert await trial.send(request(asking())) == b""  # plain text is not answered
        waiting = [
            await asyncio.open_connection(*trial.app.rsplit(":", 1), ssl=app, server_hostname="localhost") for _ in "ab"
        ]
        await trial.until(lambda: trial.proxy.app.connections == 2)
        seen, _ = read(await ask(trial.app, app, request(asking())))
        assert (seen.status, seen.error["code"]) == (503, "overloaded")
        for _, writer in waiting:
            writer.transport.abort()


async def test_callers_must_show_who_they_are(certs):
    """With `client_ca` only those are served who have a certificate of it."""
    async with Trial({"tls": shown(certs, client_ca=str(certs / "ca.pem"))}) as trial:
        assert read(await ask(trial.app, caller(certs, "client"), request(asking(), NEVER)))[0].status == 200
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            read(await ask(trial.app, caller(certs), request(asking(), NEVER)))
        assert len(trial.llama.calls) == 1


async def test_a_certificate_that_is_renewed(certs, tmp_path):
    """A reload shows callers what is in the files by then; one that cannot be used is refused, and the old one kept."""
    for part in ("crt", "key"):
        shutil.copy(certs / f"old.{part}", tmp_path / f"mine.{part}")
    async with Trial({"tls": {"certificate": str(tmp_path / "mine.crt"), "key": str(tmp_path / "mine.key")}}) as trial:
        with pytest.raises(ssl.SSLError):
            await ask(trial.app, caller(certs), request(asking(), NEVER))
        for part in ("crt", "key"):
            shutil.copy(certs / f"server.{part}", tmp_path / f"mine.{part}")
        assert await trial.proxy.reload() == []
        assert read(await ask(trial.app, caller(certs), request(asking(), NEVER)))[0].status == 200
        (tmp_path / "mine.key").write_text("no key")
        assert "tls" in (await trial.proxy.reload())[0]
        assert read(await ask(trial.app, caller(certs), request(asking(), NEVER)))[0].status == 200


@pytest.mark.parametrize("client, status", [("client", 200), (None, 502)])
async def test_a_model_server_that_asks_who_we_are(certs, client, status):
    """Mutual TLS: with `client_cert` we are let in; without, nothing was asked of the model."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certs / "ca.pem")
    context.load_cert_chain(certs / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    calls = []

    async def script(peer):
        while asked := await peer.request():
            calls.extend([asked] * (PROBE not in asked))
            await peer.send(whole(WELL))

    upstream = {"ca_file": str(certs / "ca.pem"), "client_cert": client and str(certs / f"{client}.pem")}
    async with serve(script, tls=context) as raw:
        changes = {"upstreams": {"llama": upstream}}
        async with Trial(changes, urls={"llama": f"https://localhost:{raw.port}"}) as trial:
            seen = await trial.ask(asking(), NEVER)
            assert seen.status == status
            assert len(calls) == (status == 200)
        assert all(CHAT.encode() in call for call in calls)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory, needs):
    """Certificates of another CA than `certs`."""
    needs("openssl")
    return certificates(tmp_path_factory.mktemp("strangers"))


@pytest.mark.parametrize("who", ["of another CA", "expired", "none"])
async def test_callers_who_show_something_else(certs, strangers, who):
    """Somebody else's certificate, one whose time is over, none: not served, on either port, and nobody is asked."""
    mine = {"of another CA": strangers / "client.pem", "expired": certs / "old.pem", "none": None}[who]
    shows = shown(certs, client_ca=str(certs / "ca.pem"))
    async with Trial({"tls": shows, "admin_tls": shows}) as trial:
        context = caller(certs)
        if mine is not None:
            context.load_cert_chain(mine)
        for address in (trial.app, trial.admin):
            try:
                came = await ask(address, context, request(None, method="GET", path="/guard/state", host="localhost"))
            except (ssl.SSLError, ConnectionError):
                came = b""
            assert came == b""
        assert read(await ask(trial.app, caller(certs, "client"), request(asking(), NEVER)))[0].status == 200
        assert len(trial.llama.calls) == 1


async def test_a_ca_of_callers_that_is_renewed(certs, strangers, tmp_path):
    """A CA that a reload finds is trusted from then on: certificates can be changed without an interruption."""
    authority = tmp_path / "callers.pem"
    shutil.copy(certs / "ca.pem", authority)
    context = caller(certs)
    context.load_cert_chain(strangers / "client.pem")
    async with Trial({"tls": shown(certs, client_ca=str(authority))}) as trial:
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            read(await ask(trial.app, context, request(asking(), NEVER)))
        authority.write_text((certs / "ca.pem").read_text() + (strangers / "ca.pem").read_text())
        assert await trial.proxy.reload() == []
        assert read(await ask(trial.app, context, request(asking(), NEVER)))[0].status == 200


async def test_handshakes_that_hang(certs):
    """Connections that never begin, or never end, their handshake keep nobody waiting and are closed in time."""
    async with Trial({"tls": shown(certs), "limits": {"header_timeout": 1}}) as trial:
        host, _, port = trial.app.rpartition(":")
        hanging = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
        for number, (_, writer) in enumerate(hanging):
            writer.write(b"\x16\x03\x01\x02\x00\x01"[: number % 7])
        seen, _ = read(await ask(trial.app, caller(certs), request(asking(), NEVER)))
        assert seen.status == 200
        async with asyncio.timeout(20):
            for reader, writer in hanging:
                with contextlib.suppress(ConnectionError):
                    while await reader.read(4096):
                        pass
                writer.transport.abort()
        assert trial.proxy.app.connections == 0


@pytest.mark.parametrize("what", ["client_cert", "ca_file"])
async def test_our_own_certificate_is_renewed(certs, strangers, tmp_path, what):
    """A reload takes what is in the files by then, though the configuration says the same; answers stay kept."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certs / "ca.pem")
    context.load_cert_chain(certs / "server.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    files = {"client_cert": tmp_path / "mine.pem", "ca_file": tmp_path / "theirs.pem"}
    right = {"client_cert": certs / "client.pem", "ca_file": certs / "ca.pem"}
    wrong = {"client_cert": certs / "old.pem", "ca_file": strangers / "ca.pem"}
    for name, file in files.items():
        shutil.copy((wrong if name == what else right)[name], file)

    async def script(peer):
        while await peer.request():
            await peer.send(whole(WELL))

    async with serve(script, tls=context) as raw:
        changes = {
            "upstreams": {"llama": {name: str(file) for name, file in files.items()}},
            "circuit_breaker": {"enabled": False},
        }
        async with Trial(changes, urls={"llama": f"https://localhost:{raw.port}"}) as trial:
            assert (await trial.ask(asking(), NEVER)).status == 502
            shutil.copy(right[what], files[what])
            assert await trial.proxy.reload() == []
            assert (await trial.ask(asking(), NEVER)).status == 200
            before = trial.proxy.house.upstreams["llama"]
            assert await trial.proxy.reload() == []
            assert trial.proxy.house.upstreams["llama"] is before
            shutil.copy(wrong[what], files[what])
            assert await trial.proxy.reload() == []
            assert trial.proxy.house.upstreams["llama"] is not before
            assert (await trial.ask(asking(), NEVER)).fields["cache-status"].startswith("guardproxy; hit")
            assert (await trial.ask(asking("anew"), NEVER)).status == 502
