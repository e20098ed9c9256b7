"""Requests that the front refuses itself: nothing of them may reach a handler."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardproxy.net.front import Front, ServerLimits
from tests.net.callers import GET, echo, envelope, hello, post, serving, until

if TYPE_CHECKING:
    from guardproxy.net.server import Outlet, Request

HOST = b"Host: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

BAD = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http2 version": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "http0.9": b"GET /\r\n\r\n",
    "http0.9 version": b"GET / HTTP/0.9\r\n" + HOST + b"\r\n",
    "http1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "method unknown": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "method lower": b"get / HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n\x16\x03\x01",
    "trace": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "cl and te": CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "te and cl": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te gzip chunked": CHUNKED.replace(b"chunked", b"gzip, chunked") + b"0\r\n\r\n",
    "te gzip": CHUNKED.replace(b"chunked", b"gzip"),
    "te identity": CHUNKED.replace(b"chunked", b"identity"),
    "te empty": CHUNKED.replace(b"chunked", b""),
    "te twice": CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "te chunked chunked": CHUNKED.replace(b"chunked", b"chunked, chunked") + b"0\r\n\r\n",
    "te xchunked": CHUNKED.replace(b"chunked", b"xchunked") + b"0\r\n\r\n",
    "te in 1.0": CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n",
    "cl twice": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nA",
    "cl list": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\nA",
    "cl plus": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n\r\nA",
    "cl minus": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\nA",
    "cl hex": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n\r\nA",
    "cl empty": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n\r\n",
    "cl 2^64-1": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551615\r\n\r\nA",
    "cl 2^64": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 18446744073709551616\r\n\r\nA",
    "fold": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n",
    "fold first": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "bare lf in line": b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    "bare lf in fields": b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
    "bare lf at end": b"GET / HTTP/1.1\r\nHost: x\r\n\n",
    "bare cr": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\rc\r\n\r\n",
    "nul in value": b"GET / HTTP/1.1\r\n" + HOST + b"A: b\0c\r\n\r\n",
    "nul in name": b"GET / HTTP/1.1\r\n" + HOST + b"A\0: b\r\n\r\n",
    "nul in target": b"GET /a\0b HTTP/1.1\r\n" + HOST + b"\r\n",
    "space before colon": b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\n" + HOST + b": b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\n" + HOST + b"Ab\r\n\r\n",
    "target not ascii": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "target with fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "target with space": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "target bare": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "target star": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "target ftp": b"GET ftp://h/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "target userinfo": b"GET http://a:b@h/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "target no host": b"GET http:///x HTTP/1.1\r\n" + HOST + b"\r\n",
    "target bad port": b"GET http://h:99999999/x HTTP/1.1\r\n" + HOST + b"\r\n",
}


@pytest.mark.parametrize("wire", BAD.values(), ids=BAD.keys())
async def test_bad_http(wire: bytes):
    """One envelope and the end, whether it comes at once or byte by byte; never a handler, never plain text."""
    called: list[Request] = []

    async def note(request: Request, outlet: Outlet) -> None:
        called.append(request)
        outlet.reply(200, [], b"")

    async with serving(note) as house:
        for size in (len(wire), 1):
            phone = await house.dial()
            for start in range(0, len(wire), size):
                phone.send(wire[start : start + size])
                await asyncio.sleep(0)
            heard = await phone.hear()
            assert (heard.status, heard.code) == (400, "invalid_request")
            assert heard.fields[b"connection"] == b"close"
            phone.send(GET)
            assert await phone.rest(0.5) == b""
    assert not called


async def test_a_refusal_keeps_its_turn():
    """A good request in front of a bad one is answered first; what comes behind is not read."""

    async def slow(request: Request, outlet: Outlet) -> None:
        await asyncio.sleep(0.02)
        outlet.reply(200, [], b"good")

    async with serving(slow) as house:
        phone = await house.dial()
        phone.send(GET)
        await until(lambda: house.phases[0].startswith("<Caller busy"))
        phone.send(b"BAD\r\n\r\n")
        await asyncio.sleep(0.005)
        phone.send(GET * 3)
        good = await phone.hear()
        assert (good.status, good.body) == (200, b"good")
        assert b"connection" not in good.fields
        assert (await phone.hear()).code == "invalid_request"
        assert await phone.rest() == b""


async def test_a_refusal_quotes_nothing():
    """What the parser stumbles over may be a key."""
    async with serving() as house:
        heard = await house.ask(b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer sk-secret\r\n\r\n")
        assert heard.status == 400
        assert b"secret" not in heard.body
        assert b"Invalid header token" in heard.body


@pytest.mark.parametrize(
    "wire",
    [
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A" * 3000 + b": b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: %b\r\n" % (n, b"b" * 500) for n in range(12)) + b"\r\n",
    ],
    ids=["target", "value", "name", "whole"],
)
@pytest.mark.parametrize("size", [100_000, 700])
async def test_a_head_too_large(wire: bytes, size: int):
    """431 with an envelope as soon as the bound is passed, in one piece or many."""
    async with serving(head_bytes=5000, line_bytes=2000) as house:
        phone = await house.dial()
        for start in range(0, len(wire), size):
            phone.send(wire[start : start + size])
            await asyncio.sleep(0.001)
        heard = await phone.hear()
        assert (heard.status, heard.code) == (431, "request_too_large")
        assert await phone.rest() == b""


async def test_an_endless_head_is_cut_off():
    """A head that never ends is refused at its bound, and the rest is dropped unread."""
    async with serving(head_bytes=5000, line_bytes=2000) as house:
        phone = await house.dial()
        phone.send(b"GET / HTTP/1.1\r\n", *(b"A: b\r\n" for _ in range(100)))
        await asyncio.sleep(0.01)
        phone.send(*(b"A%d: %b\r\n" % (n, b"b" * 900) for n in range(20)))
        assert (await phone.hear()).status == 431


async def test_too_many_fields():
    """A head of many small fields is refused too."""
    async with serving(fields=20) as house:
        heard = await house.ask(b"GET / HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n" * 30, b"\r\n")
        assert (heard.status, heard.code) == (400, "invalid_request")


async def test_a_head_below_the_bound_next_to_a_large_body():
    """Only the head is counted, however the bytes are cut."""
    async with serving(echo, head_bytes=200) as house:
        phone = await house.dial()
        for body in (b"x" * 100_000, b"y" * 10):
            phone.send(post(body) * 2)
            for _ in range(2):
                assert (await phone.hear()).body == body


@pytest.mark.parametrize(
    "target, path, host",
    [
        (b"http://h/a?b", "/a?b", b"h"),
        (b"HTTP://h:80", "/", b"h:80"),
        (b"https://[::1]:8/x//y", "/x//y", b"[::1]:8"),
        (b"http://h?q", "/?q", b"h"),
    ],
)
async def test_absolute_targets(target: bytes, path: str, host: bytes):
    """Reduced to origin-form, and their host is the one that counts (RFC 9112 § 3.2.2)."""
    seen: list[Request] = []

    async def note(request: Request, outlet: Outlet) -> None:
        seen.append(request)
        outlet.reply(200, [], b"")

    async with serving(note) as house:
        await house.ask(b"GET ", target, b" HTTP/1.1\r\nHost: other\r\nX: y\r\n\r\n")
    assert seen[0].target == path
    assert seen[0].headers == [(b"Host", host), (b"X", b"y")]


async def test_options_star():
    """The one target that is no path."""
    async with serving() as house:
        assert (await house.ask(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"*"


UPGRADE = b"Connection: Upgrade\r\nUpgrade: "


async def test_an_upgrade_is_not_made():
    """The request is served as any other; what follows a switch that never was is not read as a request."""
    async with serving() as house:
        phone = await house.dial()
        phone.send(b"GET /ws HTTP/1.1\r\nHost: x\r\n", UPGRADE, b"websocket\r\n\r\n", GET)
        heard = await phone.hear()
        assert (heard.status, heard.body) == (200, b"/ws")
        assert heard.fields[b"connection"] == b"close"
        assert await phone.rest() == b""


@pytest.mark.parametrize("split", [False, True])
async def test_an_offer_of_http2_keeps_the_connection(*, split: bool):
    """Java's client makes it with every first request; it must not cost a connection each time."""
    async with serving(echo) as house:
        phone = await house.dial()
        wire = post(b"body", UPGRADE + b"h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAA")
        for _ in range(3):
            phone.send(wire[:-4] if split else wire)
            if split:
                await asyncio.sleep(0.01)
                phone.send(b"body")
            heard = await phone.hear()
            assert (heard.status, heard.body) == (200, b"body")
            assert b"connection" not in heard.fields


async def test_what_follows_an_offer_of_http2_is_answered_or_visibly_not():
    """aiohttp drops such bytes: a caller must be told that nothing more is read, not left waiting."""
    async with serving(echo) as house:
        for wire in (
            b"GET / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"h2c\r\n\r\n" + GET,
            post(b"body", UPGRADE + b"h2c") + GET,
            CHUNKED[:-2] + UPGRADE + b"h2c\r\n\r\n0\r\n\r\n" + GET,
        ):
            phone = await house.dial()
            phone.send(wire)
            assert (await phone.hear()).fields[b"connection"] == b"close"
            assert await phone.rest() == b""


async def test_one_connection_too_many():
    """503 with an envelope and Retry-After, for loopback as for anybody; and room again when one has left."""
    async with serving(connections=2) as house:
        first, second = await house.dial(), await house.dial()
        for phone in (first, second):
            phone.send(GET)
            assert (await phone.hear()).status == 200
        third = await house.dial()
        assert await third.silent()  # an answer before any question could pass for one to nothing
        third.send(post(b"x" * 100_000))
        heard = await third.hear()
        assert (heard.status, heard.code) == (503, "overloaded")
        assert heard.fields[b"connection"] == b"close"
        assert heard.fields[b"retry-after"] == b"1"
        assert await third.rest() == b""
        await third.hang_up()
        assert (house.server.connections, house.server.turned_away) == (2, 1)
        await first.hang_up()
        await until(lambda: house.server.connections == 1)
        assert (await house.ask(GET)).status == 200
        assert not house.server._front.leaving


async def test_a_flood_of_connections_is_bounded():
    """Those who are turned away do not pile up either."""
    async with serving(connections=1) as house:
        (await house.dial()).send(GET)
        phones = [await house.dial() for _ in range(200)]
        await until(lambda: house.server.turned_away == 200)
        assert len(house.server._front.leaving) == 128
        for phone in phones:
            await phone.hang_up()
        await until(lambda: not house.server._front.leaving)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_confuse_it(data: st.DataObject):
    """Whatever comes, the front answers with complete messages and then closes, or waits for more."""
    good = [GET, post(b"abc"), CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", *BAD.values()]
    wire = data.draw(st.lists(st.sampled_from(good), max_size=3).map(b"".join))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(wire)))
        wire = wire[:at] + data.draw(st.binary(max_size=4)) + wire[at + data.draw(st.integers(0, 2)) :]
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=4).map(sorted))

    async def run() -> None:
        async with serving(hello) as house:
            phone = await house.dial()
            for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
                phone.send(wire[start:end])
                await asyncio.sleep(0)
            while True:
                try:
                    async with asyncio.timeout(0.03):
                        head = await phone.reader.readuntil(b"\r\n\r\n")
                except (TimeoutError, asyncio.IncompleteReadError, ConnectionResetError):
                    break
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert head.startswith(b"HTTP/1.1 ")
                if length and not wire.startswith(b"HEAD"):
                    await phone.reader.readexactly(int(length[1]))
            assert not house.faults

    asyncio.run(run())


def test_one_client_cannot_take_every_place():
    """From one address so many and no more; loopback is exempt, and whoever leaves makes room."""
    front = Front(hello, ServerLimits(connections=6, per_client=2), envelope, None)
    callers: list[Any] = [object() for _ in range(8)]  # all that is asked of them is who they are
    first, second, third, other, *local = callers
    assert [front.enter(one, "192.0.2.1") for one in (first, second, third)] == [True, True, False]
    assert front.enter(other, "192.0.2.2")
    front.leave(third, "192.0.2.1")  # was never in
    assert front.crowd == {"192.0.2.1": 2, "192.0.2.2": 1}
    front.leave(first, "192.0.2.1")
    assert front.enter(third, "192.0.2.1")
    assert [front.enter(one, "") for one in local] == [True, True, True, False]
    for one, host in ((second, "192.0.2.1"), (third, "192.0.2.1"), (other, "192.0.2.2")):
        front.leave(one, host)
    assert front.crowd == {}
