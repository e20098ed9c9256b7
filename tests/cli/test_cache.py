"""A proxy starts warm with what another has kept; nobody else gets at it."""

from __future__ import annotations

import asyncio
import stat

from guardproxy.app.export import MAGIC
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
    file.write_bytes(MAGIC)
    stand = await make()
    assert await command("dump", str(tmp_path / "no"), stand.admin) == 1
    assert await command("load", str(file), stand.admin) == 1
    assert capsys.readouterr().err.count("cache.export") == 2
    assert (await stand.ask("POST", "/guard/cache/dump")).status == 403
    assert not (tmp_path / "no").exists()


async def test_what_is_no_such_file(make, tmp_path, capsys):  # noqa: F811 -- the fixture
    """Another file is refused; a damaged or forged one puts in what is whole and nothing else."""
    stand = await make({"cache": {"export": True}, "admin_token": "t0ken"})
    file = tmp_path / "warm"
    file.write_bytes(b"something else")
    assert await command("load", str(file), stand.admin) == 1
    await stand.chat("a")
    await stand.chat("b")
    assert await command("dump", str(file), stand.admin) == 0
    whole = bytearray(file.read_bytes())
    whole[60] ^= 1
    file.write_bytes(whole[:-5])
    assert await command("load", str(file), stand.admin) == 0
    assert "0 entries put in, 2 of no use" in capsys.readouterr().out
    assert await command("load", str(tmp_path / "missing"), stand.admin) == 1
    assert await command("dump", str(file), "http://127.0.0.1:9") == 1
    assert stand.asked("llama", CHAT) == 2
