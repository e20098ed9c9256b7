"""Each wish, put to a real Redis: alone, over TLS, and as a cluster."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from guardproxy.core.store import Access, Unreachable
from guardproxy.stores.redis import SPEC
from tests.stores.server import Redis, certificate, free_port


async def until(true, seconds=20.0):
    """Wait for something to become true that has to be asked for."""
    deadline = time.monotonic() + seconds
    while not await true():
        assert time.monotonic() < deadline, "it did not become true in time"
        await asyncio.sleep(0.02)


async def informed(client):
    return b"cluster_state:ok" in await client.execute_command("CLUSTER", "INFO")


@pytest.fixture(params=["alone", "tls", "cluster"])
async def store(request, needs, tmp_path):
    needs("redis-server")
    ca_file = None
    options: tuple[str, ...] = ()
    if request.param == "tls":
        needs("openssl")
        cert, key = certificate(tmp_path)
        ca_file = str(cert)
        options = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no")
        options = (*options, "--tls-ca-cert-file", str(cert))
    if request.param == "cluster":
        options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    async with Redis(*options, tls=request.param == "tls") as redis:
        url = redis.url
        if request.param == "cluster":
            client = redis.client()
            await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await until(lambda: informed(client))
            await client.aclose()
            url = url.replace("redis://", "redis+cluster://")
        store = SPEC.build(Access(url, 5.0, ca_file))
        yield store
        await store.close()


async def test_values(store):
    """What is put is found, for as long as it was put."""
    assert list(await store.get("a", "table", ("x", "y"))) == [None, [None, None]]
    await store.put("a", b"\x00\xff", 60.0)
    assert list(await store.get("a", "table", ("x",))) == [b"\x00\xff", [None]]
    await store.put("a", b"short", 0.05)

    async def gone():
        return (await store.get("a", "table", ("x",)))[0] is None

    await until(gone)


async def test_marks(store):
    """The last one counts, for everybody."""
    await store.mark("table", "x", b"1")
    await store.mark("table", "x", b"2")
    await store.mark("table", "x", b"3", first=True)
    assert list(await store.get("a", "table", ("y", "x"))) == [None, [None, b"2"]]


async def test_many_at_once(store):
    """A crowd takes few connections, and each gets its own answer, mistakes of others aside."""
    await asyncio.gather(*(store.put(f"n{number}", b"%d" % number, 60.0) for number in range(300)))
    found = await asyncio.gather(*(store.get(f"n{number}", "table", ("x",)) for number in range(300)))
    assert [value for value, _ in found] == [b"%d" % number for number in range(300)]
    claimed = await asyncio.gather(*(store.claim("one", b"%d" % number, 60.0) for number in range(50)))
    assert claimed.count(True) == 1
    await store.put("table2", b"no table", 60.0)
    mixed: Any = await asyncio.gather(
        store.get("n1", "table", ("x",)), store.get("n1", "table2", ("x",)), store.ping(), return_exceptions=True
    )
    assert list(mixed[0]) == [b"1", [None]]
    assert isinstance(mixed[1], Unreachable)
    assert mixed[2] is None
    if not store._spread:
        assert len(await store._client.client_list()) <= 6


async def test_who_waits_no_longer(store):
    """Does not tear down what others wait for."""
    await store.put("a", b"1", 60.0)
    asked = [asyncio.ensure_future(store.get("a", "table", ("x",))) for _ in range(10)]
    await asyncio.sleep(0)
    for one in asked[::2]:
        one.cancel()
    done = await asyncio.gather(*asked[1::2])
    assert [value for value, _ in done] == [b"1"] * 5


async def test_claims(store):
    """One has it; another has it once it is freed or has ended; only its owner can renew and free it."""
    assert await store.claim("c", b"one", 60.0)
    assert not await store.claim("c", b"two", 60.0)
    assert not await store.renew("c", b"two", 60.0)
    await store.free("c", b"two")
    assert not await store.claim("c", b"two", 60.0)
    assert await store.renew("c", b"one", 60.0)
    await store.free("c", b"one")
    assert await store.claim("c", b"two", 0.05)
    await until(lambda: store.claim("c", b"three", 60.0))


async def test_who_outdoes_whom(store):
    """What begins with something greater stays, and is shown to who was too late; all is read at once."""
    assert await store.outdo("w", b"2", b"2b", 60.0) is None
    assert await store.outdo("w", b"1", b"1a", 60.0) == b"2b"
    assert await store.outdo("w", b"2", b"2c", 60.0) is None
    assert await store.outdo("v", b"3", b"3\x00\xff", 60.0) is None
    assert list(await store.read(["w", "nothing", "v"])) == [b"2c", None, b"3\x00\xff"]
    await store.outdo("w", b"3", b"3", 0.05)

    async def gone():
        return (await store.read(["w"]))[0] is None

    await until(gone)


async def test_one_clock(store):
    """It is the time of day, near enough, and goes on."""
    first = await store.clock("clock")
    assert abs(first - time.time()) < 60
    assert await store.clock("clock") > first


async def test_messages(store):
    """Whoever listens hears what is published afterwards."""
    ready, heard = asyncio.Event(), asyncio.Queue[bytes]()
    listening = asyncio.ensure_future(store.listen("news", ready.set, heard.put_nowait))
    async with asyncio.timeout(10):
        await ready.wait()
        await store.publish("news", b"one")
        await store.publish("other", b"not for us")
        await store.publish("news", b"two")
        assert [await heard.get(), await heard.get()] == [b"one", b"two"]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await store.ping()


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}", "redis+cluster://127.0.0.1:{}", "valkey://127.0.0.1:{}"])
async def test_nobody_there(url):
    """One kind of error, whatever is asked."""
    store = SPEC.build(Access(url.format(free_port()), 1.0))
    for asked in (
        store.get("a", "b", ("c",)),
        store.put("a", b"", 1.0),
        store.claim("a", b"", 1.0),
        store.read(["a"]),
        store.outdo("a", b"", b"", 1.0),
        store.clock("a"),
        store.renew("a", b"", 1.0),
        store.free("a", b""),
        store.mark("a", "b", b"c"),
        store.publish("a", b""),
        store.listen("a", lambda: None, lambda _: None),
        store.ping(),
        store.greet(),
    ):
        with pytest.raises(Unreachable):
            await asked
    await store.close()


async def test_the_wrong_certificate(needs, tmp_path):
    """A store that cannot prove who it is is not there."""
    needs("redis-server", "openssl")
    cert, key = certificate(tmp_path)
    options = ("--tls-cert-file", str(cert), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    async with Redis(*options, "--tls-ca-cert-file", str(cert), tls=True) as redis:
        store = SPEC.build(Access(redis.url, 5.0))
        with pytest.raises(Unreachable):
            await store.ping()
        await store.close()
