"""Names, connections and what is left on them: rows 3 to 6, 18, 25, 52 and 53."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from dataclasses import replace

import pytest

from tests.faults.trial import NEVER, Trial, left, says, turns, well
from tests.faults.wire import WELL, asking, completion, mistake, read, request, whole
from tests.net.raw import serve

REQUESTS = 'llm_requests_total{model="llama"}'
FAILURES = 'llm_request_failures_total{model="llama"}'
ONE_FAILED = {REQUESTS: 1, FAILURES: 1, 'guardproxy_attempts_total{kind="failure",model="llama"}': 1}


@pytest.fixture
def black_hole():
    """A port whose every SYN is dropped: its queue is full, and nobody accepts."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]
        for filler in fillers:
            filler.close()


@pytest.mark.row(3)
async def test_a_black_hole(black_hole):
    """A connection that is never made is given up after `timeouts.connect`."""
    changes = {"timeouts": {"connect": 0.5}, "health": {"timeout": 1}}
    async with Trial(changes, urls={"llama": f"http://127.0.0.1:{black_hole}"}) as trial:
        async with trial.accounts("F", told=ONE_FAILED):
            seen = await trial.ask(asking(), NEVER)
        assert (seen.status, seen.error["code"]) == (504, "upstream_timeout")
        assert "connect timeout" in seen.error["message"]


class Names:
    """A name server that says what the test says of ``model.test``."""

    def __init__(self, monkeypatch) -> None:
        self.hosts: tuple[str, ...] = ("127.0.0.1",)
        self.error: OSError | None = None
        self.asked = 0
        loop = type(asyncio.get_running_loop())
        self._real = loop.getaddrinfo
        names = self

        def look_up(loop, host, port, **more):
            return names._say(port) if host == "model.test" else names._real(loop, host, port, **more)

        monkeypatch.setattr(loop, "getaddrinfo", look_up)

    async def _say(self, port):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)) for host in self.hosts]


NAMED = {"llama": "http://model.test:{port}"}


@pytest.mark.row(4)
@pytest.mark.parametrize(
    "error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), socket.gaierror(socket.EAI_AGAIN, "try")]
)
async def test_a_name_that_is_none(monkeypatch, error):
    """A name that cannot be looked up is a server that cannot be reached."""
    names = Names(monkeypatch)
    names.error = error
    async with Trial(urls=NAMED) as trial:
        async with trial.accounts("F", told=ONE_FAILED):
            seen = await trial.ask(asking(), NEVER)
        assert (seen.status, seen.error["code"]) == (502, "upstream_unreachable")
        assert "looked up" in seen.error["message"]
        names.error = None
        async with trial.accounts("S", llama=1, kept=1):  # asked again for each call, not only when an answer expires
            assert (await trial.ask(asking(), NEVER)).status == 200


@pytest.mark.row(4)
async def test_a_name_server_that_is_down_is_not_missed(monkeypatch):
    """Addresses that were good stay in use while nobody can say better."""
    names = Names(monkeypatch)
    async with Trial(urls=NAMED) as trial:
        names.error = socket.gaierror(socket.EAI_AGAIN, "try")
        trial.proxy.house.upstreams["llama"]._dialer.expires = 0.0
        async with trial.accounts("S", llama=1, kept=1):
            assert (await trial.ask(asking(), NEVER)).status == 200


@pytest.mark.row(5)
async def test_a_pod_that_moved(monkeypatch):
    """When the name has new addresses, kept connections to the old ones are let go."""
    names = Names(monkeypatch)
    async with Trial(urls=NAMED) as trial:
        async with trial.accounts("S", llama=1, kept=1):
            assert (await trial.ask(asking(), NEVER)).status == 200
        upstream = trial.proxy.house.upstreams["llama"]
        old = list(upstream._pool.all)
        port = trial.llama.raw.port
        moved = await asyncio.start_server(trial.llama.raw.play, "127.0.0.2", port)
        trial.llama.raw.down()
        names.hosts = ("127.0.0.2",)
        upstream._dialer.expires = 0.0
        async with trial.accounts("SS", llama=2, kept=1):
            for _ in range(2):
                assert (await trial.ask(asking(), NEVER, "Cache-Control: no-cache")).status == 200
        assert not upstream._pool.all.intersection(old)
        assert {one.peer for one in upstream._pool.all} == {"127.0.0.2"}
        moved.close()
        trial._fds += 1  # the socket that listens is the test's own


@pytest.mark.row(6)
@pytest.mark.parametrize(
    "cert, host, says",
    [
        ("old", "localhost", "expired"),
        ("other", "localhost", "match"),
        ("server", "localhost", ""),
        (None, "localhost", ""),
    ],
)
async def test_tls_that_does_not_hold(certs, cert, host, says):
    """Expired, for another name, from nobody known, or no TLS at all: nothing is sent, and nobody goes without."""
    tls = None
    if cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certs / f"{cert}.pem")
    asked = []

    async def script(peer):
        asked.append(await peer.reader.read(3))  # the first bytes of a handshake, or plain text

    upstream = {} if cert == "server" else {"ca_file": str(certs / "ca.pem")}
    async with serve(script, tls=tls) as raw:
        changes = {"upstreams": {"llama": upstream}, "health": {"timeout": 2}}
        async with Trial(changes, urls={"llama": f"https://{host}:{raw.port}"}) as trial:
            async with trial.accounts("F", told=ONE_FAILED):
                seen = await trial.ask(asking(), NEVER)
            assert (seen.status, seen.error["code"]) == (502, "upstream_unreachable")
            assert ("TLS" in seen.error["message"]) is (cert is not None)
            assert says in seen.error["message"]
        assert all(first[:1] in (b"\x16", b"") for first in asked), asked
    async with (
        serve(script, tls=tls) as raw,
        Trial(
            {"upstreams": {"llama": upstream}, "retry": {"attempts": 2}}, urls={"llama": f"https://{host}:{raw.port}"}
        ) as trial,
        trial.accounts(mistral=1, kept=1),
    ):
        assert (await trial.ask(asking())).fields["x-guardproxy-upstream"] == "mistral"


@pytest.mark.row(6)
async def test_tls_that_stalls(certs):
    """A handshake that does not go on ends with the time to connect, and is not begun again at the same server."""

    reached = []

    async def script(peer):
        reached.append(peer)
        await left(peer)

    async with serve(script) as raw:
        changes = {"timeouts": {"connect": 0.5}, "upstreams": {"llama": {"ca_file": str(certs / "ca.pem")}}}
        async with Trial(
            {**changes, "health": {"timeout": 1}}, urls={"llama": f"https://localhost:{raw.port}"}
        ) as trial:
            reached.clear()
            async with trial.accounts("F", told=ONE_FAILED):
                seen = await trial.ask(asking(), NEVER)
            assert (seen.status, seen.error["code"]) == (502, "upstream_unreachable")
            assert seen.fields["x-guardproxy-attempts"] == "1"
            assert len(reached) == 1
            assert (await trial.ask(asking("elsewhere"))).status == 200
            assert len(trial.mistral.calls) == 1


@pytest.mark.row(18)
@pytest.mark.parametrize("late", [False, True])
async def test_bytes_behind_an_answer(*, late):
    """What follows an answer is nobody's: its connection is closed, and the next call gets its own answer."""
    evil = whole(completion("evil"))
    async with Trial() as trial:
        pieces = (whole(WELL), evil) if late else (whole(WELL) + evil,)
        trial.llama.play = turns(says(*pieces, then="keep"), says(whole(completion("mine"))))
        async with trial.accounts("SS", llama=2, kept=2):
            assert (await trial.ask(asking("one"), NEVER)).body == WELL
            if late:
                await trial.until(lambda: not trial.proxy.house.upstreams["llama"].idle)
            assert b"mine" in (await trial.ask(asking("two"), NEVER)).body


@pytest.mark.row(25)
@pytest.mark.parametrize(
    "method, answer",
    [
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\nevil"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"),
        ("HEAD", whole(b"evil")),
    ],
)
async def test_a_body_where_there_is_none(method, answer):
    """A body that must not be is discarded; the connection that carried it is not used again."""
    async with Trial() as trial:
        trial.llama.play = says(answer, then="keep")
        for _ in range(2):
            async with trial.accounts(llama=1):
                seen = read(await trial.send(request(None, method=method, path="/llama/v1/files")), bodiless=True)[0]
                assert seen.status == int(answer[9:12])
                assert b"evil" not in seen.wire
                assert seen.fields.get("content-length", "4") == "4"


@pytest.mark.row(52)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/llama/v1/files"])
@pytest.mark.parametrize("status", [401, 413])
async def test_answered_while_uploading(path, status):
    """An answer that comes before the request is out is passed on, and the rest of the request is not sent."""
    size, read_so_far, calls = 40_000_000, [], []
    refusal = whole(mistake("too much"), b"Connection: close", status=b"%d No" % status)

    async def script(peer):
        asked = await peer.reader.readuntil(b"\r\n\r\n")
        if b": 40" not in asked and b"chunked" not in asked:
            await peer.send(whole(WELL, b"Connection: close"))  # the health check
            return
        calls.append(asked)
        await peer.send(refusal)
        count = 0
        await asyncio.sleep(0.1)
        try:
            while part := await peer.reader.read(65536):
                count += len(part)
        except ConnectionError:
            pass
        read_so_far.append(count)

    body = json.dumps(asking("x" * size)).encode()
    async with serve(script) as raw, Trial(urls={"llama": raw.url}) as trial:
        async with trial.accounts():
            seen = await trial.ask(body, NEVER, path=path)
            assert (seen.status, seen.body) == (status, mistake("too much"))
        await trial.until(lambda: read_so_far)
        assert read_so_far[0] < size / 2
        assert len(calls) == 1


@pytest.mark.row(53)
async def test_the_pool_is_exhausted():
    """Who finds every connection taken waits a little, then hears that it is too much; no circuit is told."""
    async with Trial() as trial:
        upstream = trial.proxy.house.upstreams["llama"]
        small = replace(upstream._limits, pool_size=1, queue=1, queue_timeout=0.3)
        upstream._limits = upstream._pool._limits = small
        go = asyncio.Event()

        async def play(peer):
            await go.wait()
            return await well(peer)

        trial.llama.play = play
        async with trial.accounts("S", llama=1, kept=1, told={'guardproxy_errors_total{code="overloaded"}': 2}):
            first = asyncio.ensure_future(trial.ask(asking("one"), NEVER))
            await trial.until(lambda: trial.llama.calls)
            others = await asyncio.gather(*(trial.ask(asking(text), NEVER) for text in ("two", "three")))
            go.set()
            assert (await first).status == 200
        for seen in others:
            assert (seen.status, seen.error["code"]) == (503, "overloaded")
            assert seen.fields["retry-after"] == "1"
