"""A proxy starts warm with what another has kept; nobody else gets at it."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import replace

import pytest

from guardproxy.app import export
from guardproxy.app.export import FORM, MAGIC
from guardproxy.cli import cache as cli
from guardproxy.cli.main import main
from tests.app.conftest import make, pytest_asyncio_loop_factories  # noqa: F401 -- fixtures
from tests.app.stand import CHAT


async def command(*arguments):
    return await asyncio.to_thread(main, ["cache", *arguments])


async def test_a_warm_start(make, tmp_path, capsys):  # noqa: F811 -- the fixture
    """What one took out another puts in: the same bytes, the same age, no model asked; either kind, in its own time."""
    file = tmp_path / "warm"
    one = await make({"cache": {"export": True, "ttl_seconds": 60}})
    first, streamed = await one.chat("a"), await one.chat("b", stream=True)
    assert await command("dump", str(file), one.admin) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    where = {name: {"url": sim.url} for name, sim in one.sims.items()}
    other = await make({"cache": {"export": True}, "upstreams": where})
    assert await command("load", str(file), other.admin) == 0
    assert "2 entries put in, 0 of no use" in capsys.readouterr().out
    asked = one.asked("llama")
    again = await other.chat("a")
    assert again.body == first.body
    assert again.headers["Cache-Status"].startswith("guardproxy; hit; ttl=5")
    assert (await other.chat("b", stream=True)).body == streamed.body
    assert one.asked("llama") == asked


async def test_it_is_off_by_default(make, tmp_path, capsys):  # noqa: F811 -- the fixture
    """Neither out nor in, and never on the app's port."""
    file = tmp_path / "warm"
    file.write_bytes(MAGIC + FORM)
    stand = await make()
    assert await command("dump", str(tmp_path / "no"), stand.admin) == 1
    assert await command("load", str(file), stand.admin) == 1
    assert capsys.readouterr().err.count("cache.export") == 2
    assert (await stand.ask("POST", "/guard/cache/dump")).status == 403
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda _file: b"something else", "no file that guardproxy cache dump has written"),
        (lambda _file: b"", "no file that guardproxy cache dump has written"),
        (lambda file: MAGIC + b"1" + file[8:], "form '1', and this version reads form '2'"),
        (lambda file: file[:20] + b"\0\0\0\0" + file[24:], "another secret (shared.secret, else admin_token)"),
        (lambda file: file[:-4], "its end is missing"),
        (lambda file: file[:-40], "its end is missing"),
        (lambda file: file + b"x", "something follows its end"),
        (lambda file: file[:8] + b"\xff" * 4 + file[12:], "the file is damaged"),
    ],
)
async def test_what_is_no_such_file(make, tmp_path, capsys, spoil, says):  # noqa: F811 -- the fixture
    """It is said what is wrong with it."""
    stand = await make({"cache": {"export": True}})
    file = tmp_path / "warm"
    await stand.chat("a")
    assert await command("dump", str(file), stand.admin) == 0
    file.write_bytes(spoil(file.read_bytes()))
    assert await command("load", str(file), stand.admin) == 1
    assert says in capsys.readouterr().err


async def test_another_secret(make, tmp_path, capsys):  # noqa: F811 -- the fixture
    """A file of proxies that know another secret is refused whole."""
    one = await make({"cache": {"export": True}, "admin_token": "t0ken"})
    other = await make({"cache": {"export": True}, "admin_token": "other"})
    file = tmp_path / "warm"
    await one.chat("a")
    assert await command("dump", str(file), one.admin) == 0
    assert await command("load", str(file), other.admin) == 1
    assert "sealed with another secret" in capsys.readouterr().err


async def test_keys_of_another_version(make, tmp_path, capsys, monkeypatch):  # noqa: F811 -- the fixture
    """What nobody would find is not put in."""
    stand = await make({"cache": {"export": True}})
    file = tmp_path / "warm"
    await stand.chat("a")
    with monkeypatch.context() as other:
        other.setattr(export, "VERSION", b"guardproxy 0")
        assert await command("dump", str(file), stand.admin) == 0
    assert await command("load", str(file), stand.admin) == 1
    assert "another version of guardproxy" in capsys.readouterr().err


async def test_a_damaged_file(make, tmp_path, capsys):  # noqa: F811 -- the fixture
    """What is whole in it is put in, and nothing else."""
    stand = await make({"cache": {"export": True}, "admin_token": "t0ken"})
    file = tmp_path / "warm"
    await stand.chat("a")
    await stand.chat("b")
    assert await command("dump", str(file), stand.admin) == 0
    whole = bytearray(file.read_bytes())
    whole[-60] ^= 1
    file.write_bytes(whole)
    assert await command("load", str(file), stand.admin) == 0
    assert "1 entries put in, 1 of no use" in capsys.readouterr().out
    assert await command("load", str(tmp_path / "missing"), stand.admin) == 1
    assert await command("dump", str(file), "http://127.0.0.1:9") == 1
    assert stand.asked("llama", CHAT) == 2


async def test_a_large_file(make, tmp_path, monkeypatch, capsys):  # noqa: F811 -- the fixture
    """It goes in pieces, out and in; calls are answered meanwhile, and it is said how far it is."""
    monkeypatch.setattr(cli, "EVERY", 0.0)
    stand = await make({"cache": {"export": True, "max_size": 10_000}})
    await stand.chat("a")
    cache = stand.proxy.house.cache
    (key,) = cache.entries.keys()
    entry = cache.entries.stale(key, 0.0)
    now = stand.proxy._loop.time()
    bodies = [os.urandom(40_000) for _ in range(300)]
    for number, body in enumerate(bodies):
        value = replace(entry.value, body=body)
        cache.entries.put(number.to_bytes(32, "big"), value, value.weight, now)
    file = tmp_path / "warm"
    dumping = asyncio.ensure_future(command("dump", str(file), stand.admin))
    while not dumping.done():
        assert (await stand.chat("a")).status == 200
    assert await dumping == 0
    assert 12_000_000 < file.stat().st_size < 13_000_000
    assert not file.with_name("warm.part").exists()
    assert capsys.readouterr().err.count("MB taken out") > 10
    cache.purge()
    assert await command("load", str(file), stand.admin) == 0
    told = capsys.readouterr()
    assert "301 entries put in, 0 of no use" in told.out
    assert told.err.count("of 12 MB put in") > 10
    assert cache.entries.stale((299).to_bytes(32, "big"), now).value.body == bodies[299]


async def test_a_proxy_that_dies_meanwhile(tmp_path, capsys):
    """Half a file is none."""

    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nGPCACHE2\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await command("dump", str(tmp_path / "warm"), f"127.0.0.1:{port}") == 1
    assert list(tmp_path.iterdir()) == []
    assert "no whole answer" in capsys.readouterr().err
