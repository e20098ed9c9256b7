"""The ways in and out of the whole proxy: TLS with a private authority, our certificate, keys, and unix sockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.app.stand import CHAT, NEVER, Stand, whole
from tests.net.raw import certificates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

BODY = json.dumps({"choices": [{"message": {"content": "well"}, "finish_reason": "stop"}]}).encode()
ASK = {"model": "llama", "messages": []}


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory, needs: Callable[..., None]) -> Path:
    needs("openssl")
    return certificates(tmp_path_factory.mktemp("certs"))


class Model:
    """A model server that notes the heads of what it is asked, and who asked by his certificate."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.callers: list[Any] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self.heads.append(head)
            self.callers.append(writer.get_extra_info("peercert"))
            writer.write(whole(BODY))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def told(certs: Path, *, mutual: bool = False) -> ssl.SSLContext:
    """How the model server presents itself, and whether it wants to see our certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs / "server.pem", certs / "server.key")
    if mutual:
        context.load_verify_locations(certs / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


async def test_a_private_authority_and_our_certificate(make: Callable[..., Awaitable[Stand]], certs, tmp_path):
    """The server is trusted by the file that is named, and trusts us by ours; the caller's key is replaced by ours."""
    model = Model()
    ours = tmp_path / "ours.pem"
    ours.write_text((certs / "client.pem").read_text() + (certs / "client.key").read_text())
    server = await asyncio.start_server(model.answer, "127.0.0.1", 0, ssl=told(certs, mutual=True))
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    upstream = {
        "url": url,
        "ca_file": str(certs / "ca.pem"),
        "client_cert": str(ours),
        "api_key": "ours",
        "headers": {"X-Team": "perfume"},
    }
    async with server:
        stand = await make({"upstreams": {"llama": upstream}})
        headers = {**NEVER, "Authorization": "Bearer theirs", "X-Team": "other"}
        answer = await stand.ask("POST", CHAT, json=ASK, headers=headers)
        assert (answer.status, answer.content) == (200, "well")
        head = model.heads[-1]
        assert b"Authorization: Bearer ours" in head
        assert b"X-Team: perfume" in head
        assert b"theirs" not in head
        assert b"other" not in head
        assert dict(part[0] for part in model.callers[-1]["subject"])["commonName"] == "client"


@pytest.mark.parametrize("wrong", ["no authority", "no certificate"])
async def test_who_is_not_trusted_is_not_spoken_to(make: Callable[..., Awaitable[Stand]], certs, wrong):
    """Without the authority the server is a stranger; without a certificate we are: 502, and no key has left."""
    model = Model()
    context = told(certs, mutual=wrong == "no certificate")
    server = await asyncio.start_server(model.answer, "127.0.0.1", 0, ssl=context)
    upstream: dict[str, Any] = {"url": f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", "api_key": "ours"}
    if wrong == "no certificate":
        upstream["ca_file"] = str(certs / "ca.pem")
    async with server:
        stand = await make({"upstreams": {"llama": upstream}}, bare=True)
        answer = await stand.ask("POST", CHAT, json=ASK, headers=NEVER)
        assert answer.status == 502
        assert answer.code in ("upstream_unreachable", "upstream_reset")
        assert model.heads == []


async def test_unix_sockets_on_both_sides(make: Callable[..., Awaitable[Stand]], tmp_path):
    """The app's port and the model server's may be files: nothing of the call is on any network."""
    model = Model()
    server = await asyncio.start_unix_server(model.answer, tmp_path / "model.sock")
    async with server:
        changes = {"upstreams": {"llama": {"url": f"unix:{tmp_path}/model.sock"}}}
        stand = await make(changes)
        await stand.proxy.app.start(f"unix:{tmp_path}/app.sock")
        connector = aiohttp.UnixConnector(str(tmp_path / "app.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post("http://localhost" + CHAT, json=ASK, headers=NEVER) as answer,
        ):
            assert answer.status == 200
            assert answer.headers["X-Guardproxy-Upstream"] == "llama"
            assert (await answer.json())["choices"][0]["message"]["content"] == "well"


async def test_multipart_passes_as_it_comes(make: Callable[..., Awaitable[Stand]]):
    """An audio file is none of our business: its bytes arrive as they were sent, boundary and all."""
    model = Model()
    server = await asyncio.start_server(model.answer, "127.0.0.1", 0)
    async with server:
        stand = await make({"upstreams": {"llama": {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}}})
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff\r\n--x--\r\n'
        headers = {**NEVER, "Content-Type": "multipart/form-data; boundary=x"}
        answer = await stand.ask("POST", "/llama/v1/audio/transcriptions", data=form, headers=headers)
        assert (answer.status, answer.body) == (200, BODY)
        head = model.heads[-1]
        assert head.startswith(b"POST /v1/audio/transcriptions ")
        assert b"Content-Type: multipart/form-data; boundary=x" in head
        for path in ("/llama/tokenize", "/llama/v1/rerank"):
            assert (await stand.ask("POST", path, json={"x": 1}, headers=NEVER)).body == BODY


async def test_a_websocket_is_answered_as_plain_http(stand: Stand):
    """The wish to switch protocols is not passed on (RFC 9110 § 7.8); the rest is a request as any."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    answer = await stand.ask("GET", "/llama/v1/realtime", headers=upgrade)
    assert answer.status == 404
    assert stand.seen("llama") is None
