"""What apps do to the proxy: they leave, read slowly, send slowly, and send what they should not; rows 57 to 66."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import ssl
import struct
from typing import Any, Self

import pytest

from tests.faults.program import Program
from tests.faults.trial import NEVER, SOON, Trial, left, says, turns
from tests.faults.wire import (
    CHAT,
    DONE,
    LAST,
    STREAM,
    WELL,
    WELL_EVENTS,
    asking,
    chunk,
    completion,
    piece,
    read,
    request,
    whole,
)  # fmt: skip

GONE = {"guardproxy_callers_gone_total": 1, 'guardproxy_requests_total{source="none",status="none"}': 1}


class App:
    """A socket that does as it likes."""

    def __init__(self, trial: Trial | Program) -> None:
        self._trial = trial
        self.was_reset = False
        """Whether the proxy ended the connection the hard way."""

    async def __aenter__(self) -> Self:
        host, _, port = self._trial.app.rpartition(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    def say(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def hear(self, until: bytes = b"") -> bytes:
        """Read until *until* has come, or to the end."""
        came = bytearray()
        try:
            async with asyncio.timeout(SOON):
                while more := await self.reader.read(1 << 20):
                    came += more
                    if until and until in came:
                        break
        except ConnectionResetError:
            self.was_reset = True
        return bytes(came)


def hanging(*pieces: bytes):
    """A play that says *pieces*, then waits until it is hung up on; and the list of those that were."""
    dropped = []

    async def play(peer):
        await peer.send(*pieces)
        await left(peer)
        dropped.append(asyncio.get_running_loop().time())
        return False

    return play, dropped


WAYS = {"fin": lambda app: app.writer.close(), "rst": App.reset, "half": lambda app: app.writer.write_eof()}
BODIES = {
    "whole": {},
    "stream": {"stream": True},
    "judged": {"response_format": {"type": "json_object"}},
    "judged-stream": {"response_format": {"type": "json_object"}, "stream": True},
}


@pytest.mark.row(57, 59)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_left_before_an_answer(way, body):
    """The model server is hung up on within a second; nobody is blamed, nothing stored, the log says 499."""
    async with Trial({"retry": {"attempts": 2}}) as trial:
        trial.llama.play, dropped = hanging()
        told = GONE | {'guardproxy_attempts_total{kind="ignored",model="llama"}': 1}
        async with trial.accounts(llama=1, told=told), App(trial) as app:
            app.say(request(asking(**body), close=False))
            await trial.until(lambda: trial.llama.calls)
            at = asyncio.get_running_loop().time()
            way(app)
            await trial.until(lambda: dropped)
        assert dropped[0] - at < 1
        assert [line["status"] for line in trial.log_lines if line["msg"] == "request"] == [499]


@pytest.mark.row(58, 59)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_left_in_the_middle_of_a_stream(way):
    """The same, and half an answer is never kept."""
    async with Trial() as trial:
        trial.llama.play, dropped = hanging(STREAM + chunk(WELL_EVENTS[0]))
        async with trial.accounts(llama=1, told=GONE), App(trial) as app:
            app.say(request(asking(stream=True), close=False))
            await app.hear(until=b"data: ")
            way(app)
            await trial.until(lambda: dropped)
        assert [line["status"] for line in trial.log_lines if line["msg"] == "request"] == [499]


@pytest.mark.row(60)
async def test_reads_slowly():
    """A stream waits for its reader: little is held, the model server is held back, and not blamed for the silence."""
    async with Trial({"timeouts": {"stall": 0.3}}) as trial:
        big = piece("x" * 100_000)
        sent = []

        async def play(peer):
            await peer.send(STREAM)
            for _ in range(200):
                await peer.send(chunk(big))
                sent.append(1)
            await peer.send(chunk(*WELL_EVENTS, DONE) + LAST)
            return True

        trial.llama.play = play
        async with trial.accounts("S", llama=1, kept=1), App(trial) as app:
            app.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            app.say(request(asking(stream=True)))
            await trial.until(lambda: len(sent) > 5)
            await asyncio.sleep(0.8)  # longer than a stall
            assert len(sent) < 150
            came = await app.hear()
        assert came.endswith(DONE + b"\r\n" + LAST)
        assert b'"error"' not in came


@pytest.mark.row(60)
@pytest.mark.parametrize("secured", [False, True])
async def test_reads_nothing(certs, secured):
    """Who takes nothing of what he is sent is taken for gone: the model is hung up on, and not blamed."""
    changes: dict[str, Any] = {"limits": {"body_timeout": 0.5}, "timeouts": {"stall": 60, "total": 60}}
    if secured:
        changes["tls"] = {"certificate": str(certs / "server.crt"), "key": str(certs / "server.key")}
    async with Trial(changes) as trial:
        hung_up = asyncio.Event()

        async def play(peer):
            await peer.send(STREAM)
            with contextlib.suppress(ConnectionError):
                while not peer.writer.is_closing():
                    await peer.send(chunk(piece("x" * 100_000)))
            hung_up.set()
            return False

        trial.llama.play = play
        async with trial.accounts("-", llama=1, told=GONE):
            host, _, port = trial.app.rpartition(":")
            tls = ssl.create_default_context(cafile=certs / "ca.pem") if secured else None
            reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, limit=1 << 16)
            writer.write(request(asking(stream=True)))
            await reader.readexactly(100)
            async with asyncio.timeout(30):
                await hung_up.wait()
            await trial.until(lambda: not trial.proxy.desk.in_flight)
            writer.transport.abort()


@pytest.mark.row(60)
async def test_reads_a_little_now_and_then():
    """As long as a caller reads, however slowly, he is served; the clock begins anew each time."""
    async with Trial({"limits": {"body_timeout": 0.8}, "timeouts": {"stall": 60, "total": 60}}) as trial:
        big = piece("x" * 100_000)

        async def play(peer):
            await peer.send(STREAM)
            for _ in range(100):
                await peer.send(chunk(big))
            await peer.send(chunk(*WELL_EVENTS, DONE) + LAST)
            return True

        trial.llama.play = play
        async with trial.accounts("S", llama=1, kept=1):
            host, _, port = trial.app.rpartition(":")
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
                sock.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, (host, int(port)))
                await loop.sock_sendall(sock, request(asking(stream=True)))
                came = b""
                for _ in range(8):
                    await asyncio.sleep(0.4)
                    came += await loop.sock_recv(sock, 50_000)
                while more := await loop.sock_recv(sock, 1 << 20):
                    came += more
        assert came.endswith(DONE + b"\r\n" + LAST)


@pytest.mark.row(60)
async def test_never_reads():
    """When the call's time is over nobody knows whether the model would have been done: that is not held against it."""
    told = {'guardproxy_attempts_total{kind="ignored",model="llama"}': 1}
    async with Trial({"timeouts": {"stall": 9, "total": 1}}) as trial:
        big = piece("x" * 100_000)

        async def play(peer):
            await peer.send(STREAM)
            with contextlib.suppress(RuntimeError, ConnectionError):  # hung up on in the end
                for _ in range(2000):
                    await peer.send(chunk(big))
            return False

        trial.llama.play = play
        async with trial.accounts("-", llama=1, told=told), App(trial) as app:
            app.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            app.say(request(asking(stream=True)))
            await trial.until(lambda: len(trial.llama.calls) == 1)
            await asyncio.sleep(1.5)


@pytest.mark.row(61)
@pytest.mark.parametrize(
    "wire",
    [
        b"GET /",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nX: ",
        request(asking())[:-50],
        request(None, "Transfer-Encoding: chunked") + b"ff\r\n{",
    ],
    ids=["head", "field", "body", "chunk"],
)
async def test_sends_slowly(wire):
    """Bytes that come too slowly are answered 408 and the connection ends; others are served meanwhile."""
    async with Trial({"limits": {"header_timeout": 0.4, "body_timeout": 0.4}}) as trial:
        async with trial.accounts("S", llama=1, kept=1), App(trial) as app:
            app.say(wire)
            dripping = asyncio.ensure_future(drip(app))
            assert (await trial.ask(asking(), NEVER)).status == 200
            seen, _ = read(await app.hear())
            dripping.cancel()
        assert (seen.status, seen.error["code"]) == (408, "request_timeout")
        assert seen.fields["connection"] == "close"


async def drip(app: App) -> None:
    """Go on, a byte at a time: a clock that every byte winds would never end."""
    while True:
        await asyncio.sleep(0.1)
        app.say(b"x")


@pytest.mark.row(62)
async def test_pipelined():
    """Requests sent at once are answered in order, each with its own answer."""
    async with Trial() as trial:
        trial.llama.play = turns(*(says(whole(completion(f"number {n}")), then="keep") for n in range(8)))
        async with trial.accounts("SSSSSSSS", llama=8, kept=8):
            last = request(asking("7"), NEVER)
            wire = await trial.send(*(request(asking(str(n)), NEVER, close=False) for n in range(7)), last)
            for number in range(8):
                seen, wire = read(wire, more=True)
                assert f"number {number}".encode() in seen.body
            assert wire == b""


@pytest.mark.row(63)
@pytest.mark.parametrize("path", [CHAT, "/llama/v1/files"])
async def test_expects_to_be_told_to_go_on(path):
    """Who waits for 100 Continue gets it, then his answer; the field does not reach the model server."""
    async with Trial() as trial:
        trial.llama.play = says(whole(WELL))
        async with trial.accounts("S" * (path == CHAT), llama=1, kept=int(path == CHAT)), App(trial) as app:
            head, _, body = request(asking(), NEVER, "Expect: 100-continue", path=path).partition(b"\r\n\r\n")
            app.say(head, b"\r\n\r\n")
            assert await app.hear(until=b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            app.say(body)
            assert read(await app.hear())[0].body == WELL
        assert b"xpect" not in trial.llama.calls[0].partition(b"\r\n\r\n")[0]


TARGETS = [
    ("POST", "http://evil.test/v1/chat/completions", "", 200),
    ("POST", "http://evil.test:1/llama//v1/chat/completions", "", 200),
    ("POST", "//v1//chat/completions", "", 200),
    ("POST", "/llama/../qwen/v1/chat/completions", "", 400),
    ("POST", "/llama/%2e%2e/v1/chat/completions", "", 400),
    ("POST", "/v1/chat/completions", "evil.test@127.0.0.1:1", 200),
    ("POST", "/v1/chat/completions", "", 200),
    ("CONNECT", "evil.test:443", "", 400),
    ("TRACE", "/v1/chat/completions", "", 400),
    ("POST", "ftp://evil.test/", "", 400),
    ("POST", "v1/chat/completions", "", 400),
    ("POST", "/v1/chat/completions#x", "", 400),
]


@pytest.mark.row(64)
@pytest.mark.parametrize("method, target, host, status", TARGETS)
async def test_where_to_is_never_the_apps_to_say(method, target, host, status):
    """Whatever stands in the request line and in Host, the model server asked is a configured one, by its own name."""
    async with Trial() as trial:
        asked = int(status == 200)
        async with trial.accounts("S" * asked, llama=asked, kept=asked):
            wire = await trial.send(request(asking(), NEVER, method=method, path=target, host=host or "app.test"))
            assert read(wire)[0].status == status
        if asked:
            (call,) = trial.llama.calls
            assert call.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
            assert f"\r\nHost: {trial.llama.url.removeprefix('http://')}\r\n".encode() in call
            assert call.lower().count(b"\r\nhost:") == 1
            assert b"evil" not in call


@pytest.mark.row(65)
async def test_fields_for_one_hop():
    """What concerns one connection goes no further, in either direction; keys of upstreams never come back."""
    changes = {"upstreams": {"llama": {"api_key": "sk-ours"}}}
    async with Trial(changes) as trial:
        down = (b"X-Secret: 1", b"Keep-Alive: timeout=5", b"Proxy-Authenticate: x", b"Upgrade: h2c", b"X-Kept: 1")
        trial.llama.play = says(whole(WELL, b"Connection: X-Secret, keep-alive", *down))
        hop = ("Connection: X-Mine", "X-Mine: 1", "Keep-Alive: 3", "TE: trailers", "Trailer: X", "Upgrade: h2c")
        others = ("Proxy-Authorization: Basic eA==", "X-Through: 1", "Authorization: Bearer sk-mine")
        async with trial.accounts("S", llama=1, kept=1):
            seen = await trial.ask(asking(), NEVER, *hop, *others)
        (call,) = trial.llama.calls
        sent = {line.partition(b":")[0].lower() for line in call.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]}
        assert not sent & {b"x-mine", b"keep-alive", b"te", b"trailer", b"upgrade", b"connection"}
        assert not sent & {b"proxy-authorization", b"x-guardproxy-downshift"}
        assert b"x-through" in sent
        assert b"Bearer sk-ours" in call
        assert b"sk-mine" not in call
        assert not seen.fields.keys() & {"x-secret", "keep-alive", "proxy-authenticate", "upgrade"}
        assert seen.fields["x-kept"] == "1"
        assert b"sk-" not in seen.wire


@pytest.mark.row(66)
@pytest.mark.parametrize("path", [CHAT, "/llama/v1/files"])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_hundred_megabytes(path, *, chunked):
    """A body beyond `limits.request_bytes` is 413 as soon as that is known, and is not held in memory."""
    limit, size = 1 << 20, 100 << 20
    async with Trial({"limits": {"request_bytes": limit}}) as trial:
        part = b"x" * (1 << 20)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with trial.accounts(), App(trial) as app:
            fields = ("Transfer-Encoding: chunked",) if chunked else (f"Content-Length: {size}",)
            app.say(request(None, NEVER, *fields, path=path))
            sending = asyncio.ensure_future(upload(app, part if chunked else b""))
            seen, _ = read(await app.hear(), more=True)
            sending.cancel()
            assert (seen.status, seen.error["code"]) == (413, "request_too_large")
            assert seen.fields["connection"] == "close"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 30_000, f"{grown} KiB"
        assert json.dumps(limit).encode() in seen.body


async def upload(app: App, part: bytes) -> None:
    for _ in range(100 if part else 0):
        app.say(b"%x\r\n%b\r\n" % (len(part), part))
        try:
            await app.writer.drain()
        except ConnectionError:
            return
