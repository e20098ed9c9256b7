from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from guardproxy.net.server import Server
from tests.net.callers import GET, echo, hello, post, serving, until

if TYPE_CHECKING:
    from guardproxy.net.server import Outlet, Request

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: b\r\n"


async def test_a_connection_is_kept():
    """Requests follow each other on one connection, and an answer says nothing of it in HTTP/1.1."""
    async with serving() as house:
        phone = await house.dial()
        for path in (b"/a", b"/b?c=d", b"/%2e%2E//x"):
            phone.send(GET.replace(b"/ ", path + b" "))
            heard = await phone.hear()
            assert (heard.status, heard.body) == (200, path)
            assert b"connection" not in heard.fields
            assert heard.fields[b"date"].endswith(b" GMT")
        assert house.server.connections == 1
        assert house.phases == ["<Caller idle>"]


async def test_what_a_handler_sees():
    """Header fields as they came, in order and spelling; the target undecoded; when, and from where."""
    seen: list[Request] = []

    async def note(request: Request, outlet: Outlet) -> None:
        seen.append(request)
        outlet.reply(204, [], b"")

    async with serving(note) as house:
        before = asyncio.get_running_loop().time()
        phone = await house.dial()
        phone.send(b"GET /a%20b?x=%C3%A9 HTTP/1.1\r\nhOsT: x\r\nX-B: 2 \r\nX-A:1\r\nX-B:\t3\xff\r\n\r\n")
        heard = await phone.hear()
    assert heard.status == 204
    assert b"content-length" not in heard.fields
    (request,) = seen
    assert request.method == "GET"
    assert request.target == "/a%20b?x=%C3%A9"
    assert request.headers == [(b"hOsT", b"x"), (b"X-B", b"2"), (b"X-A", b"1"), (b"X-B", b"3\xff")]
    assert request.version == (1, 1)
    assert request.local is True
    assert request.body.length == 0
    assert -0.01 <= request.arrived - before < 2


async def test_pipelined_requests_are_answered_in_order_one_at_a_time():
    """However the bytes are cut; the next handler starts when the one before has answered."""
    at_work = 0

    async def slow_first(request: Request, outlet: Outlet) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        body = await request.body.read(100, 1)
        await asyncio.sleep(0.01 if request.target == "/0" else 0)
        outlet.reply(200, [], request.target.encode() + body)
        at_work -= 1

    wire = b"".join(
        GET.replace(b"/ ", b"/%d " % n) if n % 2 else post(b"body%d" % n).replace(b"/v1/x", b"/%d" % n)
        for n in range(40)
    )
    async with serving(slow_first) as house:
        for cut in (len(wire), 700, 61):
            phone = await house.dial()
            for piece in itertools.batched(wire, cut) if hasattr(itertools, "batched") else _batched(wire, cut):
                phone.send(bytes(piece))
                await asyncio.sleep(0)
            for n in range(40):
                assert (await phone.hear()).body == (b"/%d" % n if n % 2 else b"/%dbody%d" % (n, n))


def _batched(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def test_more_pipelined_than_the_queue_holds():
    """Hundreds at once lose none: aiohttp stops reading at 32, and goes on."""
    async with serving() as house:
        phone = await house.dial()
        phone.send(*(GET.replace(b"/ ", b"/%d " % n) for n in range(500)))
        for n in range(500):
            assert (await phone.hear()).body == b"/%d" % n


async def test_a_client_that_pipelines_without_reading_waits():
    """What nobody reads is not heaped up: the next request is served when the last answers are being read."""
    served = 0

    async def big(request: Request, outlet: Outlet) -> None:
        nonlocal served
        served += 1
        outlet.reply(200, [], b"x" * 50_000)

    async with serving(big) as house:
        phone = await house.dial(window=4096)
        phone.send(GET * 1000)
        await until(lambda: house.phases == ["<Caller stuck>"])
        assert served < 300  # what the kernel takes, and 64 KiB
        for _ in range(1000):
            assert len((await phone.hear()).body) == 50_000
        assert served == 1000


@pytest.mark.parametrize("way", ["reply", "prepared", "begin", "length"])
async def test_head_requests_get_the_head_alone(way: str):
    """The length is that of the body there would have been, no byte of it is sent, the connection goes on."""

    async def any_way(request: Request, outlet: Outlet) -> None:
        if way == "reply":
            outlet.reply(200, [], b"12345")
        elif way == "prepared":
            outlet.prepared(HEAD, b"12345")
        else:
            outlet.begin(200, [], length=5 if way == "length" else None)
            outlet.write(b"12345")
            outlet.end()

    async with serving(any_way) as house:
        phone = await house.dial()
        for _ in range(2):
            phone.send(GET.replace(b"GET", b"HEAD"))
            heard = await phone.hear(bodiless=True)
            assert heard.fields.get(b"content-length") == (None if way == "begin" else b"5")
            assert b"transfer-encoding" not in heard.fields
        phone.send(GET)
        assert (await phone.hear()).body == b"12345"


async def test_a_relayed_head_answer_keeps_its_length():
    """An upstream's answer to HEAD has no body, but a length that means something."""

    async def relay(request: Request, outlet: Outlet) -> None:
        outlet.reply(200, [(b"content-length", b"777")], b"")

    async with serving(relay) as house:
        phone = await house.dial()
        phone.send(GET.replace(b"GET", b"HEAD"))
        assert (await phone.hear(bodiless=True)).fields[b"content-length"] == b"777"
        phone.send(GET)
        assert (await phone.hear()).fields[b"content-length"] == b"0"


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("way", ["reply", "prepared", "begin"])
async def test_answers_without_a_body_have_none(status: int, way: str):
    """RFC 9112 § 6.3: bytes behind such a head would be read as the next answer."""

    async def bare(request: Request, outlet: Outlet) -> None:
        if way == "reply":
            outlet.reply(status, [(b"Content-Length", b"9")], b"wrong")
        elif way == "prepared":
            outlet.prepared(b"HTTP/1.1 %d Some\r\nX-A: b\r\n" % status, b"wrong")
        else:
            outlet.begin(status, [])
            outlet.write(b"wrong")
            outlet.end()

    async with serving(bare) as house:
        phone = await house.dial()
        phone.send(GET * 2)
        for _ in range(2):
            heard = await phone.hear()
            assert heard.status == status
            assert b"content-length" not in heard.fields
            assert b"transfer-encoding" not in heard.fields
        assert await phone.silent()


@pytest.mark.parametrize("way", ["reply", "prepared", "begin", "length"])
@pytest.mark.parametrize("keep", [False, True])
async def test_http_1_0(way: str, *, keep: bool):
    """Never chunked; kept alive only where it was asked for and the length is known, and then it is told so."""

    async def any_way(request: Request, outlet: Outlet) -> None:
        assert request.version == (1, 0)
        if way == "reply":
            outlet.reply(200, [], b"12345")
        elif way == "prepared":
            outlet.prepared(HEAD, b"12345")
        else:
            outlet.begin(200, [], length=5 if way == "length" else None)
            outlet.write(b"123")
            outlet.write(b"45")
            outlet.end()

    async with serving(any_way) as house:
        phone = await house.dial()
        phone.send(b"GET / HTTP/1.0\r\n", b"Connection: keep-alive\r\n" * keep, b"\r\n")
        heard = await phone.hear()
        assert heard.body == b"12345"
        assert b"transfer-encoding" not in heard.fields
        if keep and way != "begin":
            assert heard.fields[b"connection"] == b"keep-alive"
            phone.send(b"GET / HTTP/1.0\r\n\r\n")
            assert (await phone.hear()).fields[b"connection"] == b"close"
        else:
            assert heard.fields[b"connection"] == b"close"
        assert await phone.rest() == b""


async def test_a_caller_may_close():
    """``Connection: close`` is echoed and done; what was pipelined behind it is not served."""
    async with serving() as house:
        phone = await house.dial()
        phone.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        heard = await phone.hear()
        assert heard.fields[b"connection"] == b"close"
        assert await phone.rest() == b""


async def test_a_handler_may_close():
    """`closing`, set before the head leaves, is told to the caller and kept; set later it is kept all the same."""

    async def closing(request: Request, outlet: Outlet) -> None:
        outlet.closing = request.target == "/before"
        outlet.reply(200, [], b"")
        outlet.closing = True

    async with serving(closing) as house:
        for path, said in ((b"/before", b"close"), (b"/after", None)):
            phone = await house.dial()
            phone.send(GET.replace(b"/ ", path + b" "))
            assert (await phone.hear()).fields.get(b"connection") == said
            assert await phone.rest() == b""


async def test_a_chunked_answer():
    """Each write is one chunk, an empty one is none (it would be the end), and the connection goes on."""

    async def stream(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [(b"Content-Type", b"text/event-stream")])
        begun = [outlet.begun]
        for piece in (b"data: 1\n\n", b"", b"data: 2\n\n", b"y" * 100_000):
            outlet.write(piece)
        assert [*begun, outlet.begun] == [False, True]
        outlet.end()

    async with serving(stream) as house:
        phone = await house.dial()
        phone.send(GET * 2)
        for _ in range(2):
            heard = await phone.hear()
            assert heard.fields[b"transfer-encoding"] == b"chunked"
            assert heard.body == b"data: 1\n\ndata: 2\n\n" + b"y" * 100_000


async def test_the_head_of_a_stream_waits_for_its_first_write():
    """Until then a real status is possible; `flush` commits it."""
    go = asyncio.Event()

    async def held(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        if request.target == "/flush":
            outlet.flush()
            await go.wait()
            outlet.write(b"late")
            outlet.end()
        else:
            await asyncio.sleep(0.02)
            outlet.reply(503, [], b"sorry")

    async with serving(held) as house:
        assert (await house.ask(GET)).body == b"sorry"
        phone = await house.dial()
        phone.send(GET.replace(b"/ ", b"/flush "))
        head = await phone.head()
        assert b"chunked" in head
        go.set()
        assert await phone.reader.readexactly(14) == b"4\r\nlate\r\n0\r\n\r\n"
        assert await phone.silent()


async def test_a_stream_of_known_length():
    """As many bytes as were declared, and the connection goes on."""

    async def stream(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [(b"Content-Length", b"99"), (b"Transfer-Encoding", b"chunked")], length=6)
        outlet.write(b"abc")
        outlet.write(b"def")
        outlet.end()
        outlet.end()

    async with serving(stream) as house:
        phone = await house.dial()
        phone.send(GET * 2)
        for _ in range(2):
            assert (await phone.hear()).body == b"abcdef"


@pytest.mark.parametrize("fault", ["short", "long", "abort", "raise", "forget"])
@pytest.mark.parametrize("length", [6, None])
async def test_a_broken_stream_is_a_visible_cut(fault: str, length: int | None):
    """No end of the body is sent, and the connection is closed: a caller never takes it for an answer."""

    async def stream(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [], length=length)
        outlet.write(b"abc")
        if fault == "abort" or (fault in ("short", "long") and length is None):
            outlet.abort()
            outlet.write(b"def")
            outlet.end()
        elif fault == "long":
            outlet.write(b"defg")
        elif fault == "short":
            outlet.end()
        elif fault == "raise":
            raise KeyError("x")

    async with serving(stream) as house:
        phone = await house.dial()
        phone.send(GET * 2)
        said = await phone.rest()
        assert said.endswith(b"\r\n\r\nabc" if length else b"\r\n\r\n3\r\nabc\r\n")
        assert said.count(b"HTTP/1.1") == 1


async def test_a_cut_is_visible_to_http_1_0_too():
    """Only the end of the connection frames such a body, so the cut is a reset."""
    go = asyncio.Event()

    async def stream(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        outlet.write(b"abc")
        await go.wait()
        outlet.abort()

    async with serving(stream) as house:
        phone = await house.dial()
        phone.send(b"GET / HTTP/1.0\r\n\r\n")
        await phone.head()
        assert await phone.reader.readexactly(3) == b"abc"
        go.set()
        with pytest.raises(ConnectionResetError):
            await phone.rest()


async def test_abort_leaves_the_handler_in_peace():
    """A handler that cut its answer goes on to settle its books; it is not cancelled by its own doing."""
    settled = asyncio.Event()

    async def stream(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        outlet.write(b"abc")
        outlet.abort()
        await asyncio.sleep(0.05)
        settled.set()

    async with serving(stream) as house:
        phone = await house.dial()
        phone.send(GET)
        await phone.rest()
        await asyncio.wait_for(settled.wait(), 1)


async def test_a_large_body_arrives_whole():
    """Megabytes in one reply, prepared or not, to a caller who reads slowly."""
    body = os.urandom(3_000_000)

    async def big(request: Request, outlet: Outlet) -> None:
        if request.target == "/reply":
            outlet.reply(200, [], body)
        else:
            outlet.prepared(HEAD, body)

    async with serving(big) as house:
        for path in (b"/reply", b"/prepared"):
            phone = await house.dial(window=8192)
            phone.send(GET.replace(b"/ ", path + b" ") * 2)
            for _ in range(2):
                assert (await phone.hear()).body == body


async def test_a_prepared_head_goes_out_as_it_is():
    """The block comes first, untouched, then what frames the body, and the time."""

    async def ready(request: Request, outlet: Outlet) -> None:
        outlet.prepared(HEAD, b"{}")

    async with serving(ready) as house:
        phone = await house.dial()
        phone.send(GET)
        head = await phone.head()
        assert head.startswith(HEAD + b"Content-Length: 2\r\nDate: ")
        assert head.count(b"\r\n") == HEAD.count(b"\r\n") + 3
        assert await phone.reader.readexactly(2) == b"{}"


async def test_a_header_value_cannot_become_a_second_answer():
    """A line break or NUL in a field is refused, and the caller gets our 500 instead."""

    async def split(request: Request, outlet: Outlet) -> None:
        value = {"/lf": b"a\nSet-Cookie: b", "/crlf": b"a\r\n\r\nHTTP/1.1 200", "/cr": b"a\rb", "/nul": b"a\0b"}
        outlet.reply(200, [(b"X", value[request.target])], b"")

    async with serving(split) as house:
        for path in (b"/lf", b"/crlf", b"/cr", b"/nul"):
            heard = await house.ask(GET.replace(b"/ ", path + b" "))
            assert (heard.status, heard.code) == (500, "internal_error")


async def test_fields_that_frame_the_message_are_ours_alone():
    """Whatever a relay passes on by mistake, there is one framing and one Date."""

    async def relay(request: Request, outlet: Outlet) -> None:
        headers = [
            (b"content-length", b"999"),
            (b"Transfer-Encoding", b"gzip"),
            (b"CONNECTION", b"keep-alive"),
            (b"Keep-Alive", b"timeout=5"),
            (b"date", b"Mon, 01 Jan 2024 00:00:00 GMT"),
            (b"X-Ours", b"yes"),
        ]
        outlet.reply(299, headers, b"body")

    async with serving(relay) as house:
        heard = await house.ask(GET)
    assert heard.head.startswith(b"HTTP/1.1 299 \r\n")
    assert heard.body == b"body"
    assert set(heard.fields) == {b"content-length", b"date", b"x-ours"}
    assert heard.fields[b"date"] == b"Mon, 01 Jan 2024 00:00:00 GMT"


async def test_a_handler_that_breaks_is_a_500_and_known():
    """The caller learns nothing of why, the hook everything; the connection goes on where nothing was sent."""

    async def broken(request: Request, outlet: Outlet) -> None:
        if request.target == "/held":
            outlet.begin(200, [])
        if request.target == "/silent":
            return
        if request.target == "/cancelled":
            raise asyncio.CancelledError
        raise ValueError("the secret")

    async with serving(broken) as house:
        phone = await house.dial()
        for path in (b"/", b"/held", b"/silent", b"/cancelled"):
            phone.send(GET.replace(b"/ ", path + b" "))
            heard = await phone.hear()
            assert (heard.status, heard.code) == (500, "internal_error")
            assert b"secret" not in heard.body
        assert [type(error) for error, _ in house.faults] == [ValueError, ValueError, RuntimeError, RuntimeError]
        assert [request.target for _, request in house.faults if request] == ["/", "/held", "/silent", "/cancelled"]


async def test_a_handler_that_breaks_after_its_answer_harms_nobody():
    """The answer stands, the fault is known, the next request is served."""

    async def late(request: Request, outlet: Outlet) -> None:
        outlet.reply(200, [], b"fine")
        outlet.reply(200, [], b"twice")

    async with serving(late) as house:
        phone = await house.dial()
        phone.send(GET * 2)
        for _ in range(2):
            assert (await phone.hear()).body == b"fine"
        assert await phone.silent()
        assert [str(error) for error, _ in house.faults] == ["an answer that is ended cannot be given"] * 2


async def test_an_answer_is_given_once():
    """An outlet kept beyond its request cannot write into the next answer."""
    kept: list[Outlet] = []

    async def keep(request: Request, outlet: Outlet) -> None:
        kept.append(outlet)
        outlet.begin(200, [])
        outlet.write(b"a")
        outlet.end()
        assert repr(outlet) == "<Outlet ended begun>"
        for misuse in (outlet.end, outlet.flush, outlet.abort):
            misuse()
        if len(kept) == 2:
            for act in (
                lambda: kept[0].write(b"x"),
                lambda: kept[0].reply(200, [], b""),
                lambda: kept[0].begin(200, []),
            ):
                with pytest.raises(RuntimeError):
                    act()

    async with serving(keep) as house:
        phone = await house.dial()
        phone.send(GET * 2)
        for _ in range(2):
            assert (await phone.hear()).body == b"a"
        assert await phone.silent()
        assert not house.faults


@pytest.mark.parametrize("status", [100, 101, 199, 0, 1000])
async def test_only_final_statuses_are_answers(status: int):
    """An interim status as an answer would leave the caller waiting for ever."""

    async def interim(request: Request, outlet: Outlet) -> None:
        outlet.reply(status, [], b"")

    async with serving(interim) as house:
        assert (await house.ask(GET)).status == 500


# -- where it listens, how it ends


async def test_addresses():
    """Port 0 is resolved, and one port serves all families of the wildcard."""
    async with serving(address=":0") as house:
        ports = {address.rpartition(":")[2] for address in house.server.addresses}
        assert len(ports) == 1
        assert house.server.addresses[0].startswith("0.0.0.0:")
        for address in house.server.addresses:
            here = address.replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
            phone = await house.dial(here)
            phone.send(GET)
            assert (await phone.hear()).status == 200
        assert repr(house.server) == (
            f"<Server serving {' '.join(house.server.addresses)} connections={len(house.server.addresses)}>"
        )


async def test_several_addresses_and_a_unix_socket(tmp_path: Path):
    """One server may listen in several places; a caller on a unix socket is local; the file goes with the server."""
    seen: list[bool] = []

    async def note(request: Request, outlet: Outlet) -> None:
        seen.append(request.local)
        outlet.reply(200, [], b"")

    path = tmp_path / "front.sock"
    async with serving(note) as house:
        await house.server.start(f"unix:{path}")
        assert house.server.addresses[1] == f"unix:{path}"
        phone = await house.dial(f"unix:{path}")
        phone.send(GET)
        assert (await phone.hear()).status == 200
        with pytest.raises(OSError, match=rf"cannot listen on unix:{path}: address already in use"):
            await house.server.start(f"unix:{path}")
        await asyncio.sleep(0.02)  # asyncio loses track of a connection that is accepted while its server closes
        assert path.exists()
    assert seen == [True]
    assert not path.exists()


async def test_a_unix_socket_left_behind_is_taken_over(tmp_path: Path):
    """A server that was killed leaves its file; one that is somebody's, or no socket, is not touched."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with serving(address=f"unix:{path}") as house:
        phone = await house.dial()
        phone.send(GET)
        assert (await phone.hear()).status == 200
    path.write_text("mine")
    server = Server(hello, error=lambda status, code, message: ([], b""))
    with pytest.raises(OSError, match="address already in use"):
        await server.start(f"unix:{path}")
    assert path.read_text() == "mine"


async def test_an_address_in_use_is_named():
    """An operator who starts a second one reads which address it is."""
    async with serving() as house:
        server = Server(hello, error=lambda status, code, message: ([], b""))
        with pytest.raises(OSError, match=f"cannot listen on {house.address}: address already in use") as caught:
            await server.start(house.address)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=r"cannot listen on nowhere\.invalid:80: "):
            await server.start("nowhere.invalid:80")


@pytest.mark.parametrize("address", ["", "80", "host", "host:", "host:http", "host:65536", "::1:80", "h:-1", "h:²"])
async def test_what_is_no_address(address: str):
    """Said at start, in words."""
    server = Server(hello, error=lambda status, code, message: ([], b""))
    with pytest.raises(ValueError, match="is no address"):
        await server.start(address)


async def test_draining():
    """Resting connections close, answers say it is the last, new connections are still served."""
    go = asyncio.Event()

    async def slow(request: Request, outlet: Outlet) -> None:
        if request.target == "/slow":
            await go.wait()
        outlet.reply(200, [], b"")

    async with serving(slow) as house:
        resting, working, fresh = [await house.dial() for _ in range(3)]
        resting.send(GET)
        await resting.hear()
        working.send(GET.replace(b"/ ", b"/slow "))
        await until(lambda: house.phases[0].startswith("<Caller busy"))
        house.server.drain()
        assert await resting.rest() == b""
        go.set()
        for phone in (working, fresh, await house.dial()):
            if phone is not working:
                phone.send(GET)
            assert (await phone.hear()).fields[b"connection"] == b"close"
            assert await phone.rest() == b""


async def test_stop_accepting():
    """Nobody new comes in; who is in stays."""
    async with serving() as house:
        phone = await house.dial()
        phone.send(GET)
        await phone.hear()
        await house.server.stop_accepting()
        assert house.server.addresses == []
        with pytest.raises(ConnectionError):
            await house.dial()
        phone.send(GET)
        assert (await phone.hear()).status == 200


async def test_closing_waits_for_who_is_at_work():
    """Within the grace an answer is finished, and closing takes no longer than that."""

    async def slow(request: Request, outlet: Outlet) -> None:
        outlet.begin(200, [])
        outlet.write(b"a")
        await asyncio.sleep(0.1)
        outlet.write(b"b")
        outlet.end()

    async with serving(slow) as house:
        phone, idle = await house.dial(), await house.dial()
        phone.send(GET)
        await phone.head()
        began = asyncio.get_running_loop().time()
        await house.server.close(5)
        assert asyncio.get_running_loop().time() - began < 1
        assert await phone.rest() == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
        assert await idle.rest() == b""


async def test_closing_cancels_who_does_not_finish():
    """After the grace: an envelope where nothing was sent, else what the handler says last, else a cut."""

    async def endless(request: Request, outlet: Outlet) -> None:
        if request.target != "/":
            outlet.begin(200, [])
            outlet.write(b"a")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if request.target == "/polite":
                outlet.write(b"bye")
                outlet.end()
            raise

    async with serving(endless) as house:
        phones = {path: await house.dial() for path in (b"/", b"/cut", b"/polite")}
        for path, phone in phones.items():
            phone.send(GET.replace(b"/ ", path + b" "))
        await until(lambda: all(phase.startswith("<Caller busy") for phase in house.phases) and len(house.phases) == 3)
        await house.server.close(0.05)
        heard = await phones[b"/"].hear()
        assert (heard.status, heard.code) == (503, "shutting_down")
        assert (await phones[b"/cut"].rest()).endswith(b"1\r\na\r\n")
        assert (await phones[b"/polite"].rest()).endswith(b"3\r\nbye\r\n0\r\n\r\n")


async def test_closing_does_not_hang_on_a_handler_that_will_not_end(monkeypatch: pytest.MonkeyPatch):
    """Whoever ignores his cancellation is left behind."""
    monkeypatch.setattr("guardproxy.net.server.LAST_WORDS", 0.1)
    release = asyncio.Event()

    async def stubborn(request: Request, outlet: Outlet) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        outlet.reply(200, [], b"")

    async with serving(stubborn) as house:
        phone = await house.dial()
        phone.send(GET)
        await until(lambda: house.phases[0].startswith("<Caller busy"))
        async with asyncio.timeout(3):
            await house.server.close(0)
        assert await phone.rest() == b""
        release.set()


async def test_nothing_is_left_behind():
    """Neither connections nor their parts are kept when callers have gone."""
    async with serving(echo) as house:
        gc.collect()
        gc.disable()  # nobody has to look for circles either
        try:
            for _ in range(20):
                phone = await house.dial()
                phone.send(post(b"x" * 100))
                await phone.hear()
                await phone.hang_up()
            house.phones.clear()
            await until(lambda: house.server.connections == 0)
        finally:
            gc.enable()
        assert house.server._manager is not None
        assert not house.server._manager.connections
        assert not [thing for thing in gc.get_objects() if type(thing).__name__ in ("Caller", "Outlet")]
