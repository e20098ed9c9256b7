"""A call leaves nothing for the garbage collector: what it held is free as soon as it is over."""

import asyncio
import gc

import pytest

from bench import upstream
from bench.inside import Inside
from guardproxy.core.values import Call, Record
from guardproxy.net.exchange import Exchange
from guardproxy.net.gather import Gather
from guardproxy.net.outlet import Outlet
from guardproxy.net.perform import Performer
from guardproxy.net.relay import Events
from guardproxy.net.upstream import Upstream


class Line:
    """The caller's end: takes everything."""

    transport: asyncio.Transport | None = None
    writing_paused = False

    def last(self):
        return False

    def abandon(self) -> None:
        """Nobody leaves here."""

    def cut(self, *, reset):
        raise AssertionError(reset)

    async def relief(self):
        raise AssertionError


@pytest.mark.parametrize("kind", [{}, {"schema": True}, {"events": 3}], ids=["miss", "schema", "stream"])
async def test_a_miss_makes_no_circle(kind):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: upstream.Model(loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inside = Inside(loop)
    model = Upstream("qwen", f"http://127.0.0.1:{port}", clock=loop.time)
    old = inside.house.performer
    performer = Performer({"qwen": model}, old._timeouts, old._bounds, loop)

    async def one(body):
        now = loop.time()
        record = Record(now)
        call = inside.house.rules.admit(inside.read(body, now), record, now)
        assert isinstance(call, Call)
        outlet = Outlet(Line(), head_only=False, old=False, closing=False)
        await performer.perform(call, inside.house.rules, record, outlet)

    bodies = inside.bodies(6, **kind)
    for body in bodies[:3]:
        await one(body)
    gc.collect()
    gc.disable()
    try:
        for body in bodies[3:]:
            await one(body)
        left = [thing for thing in gc.get_objects() if type(thing) in (Gather, Events, Exchange)]
    finally:
        gc.enable()
    server.close()
    await model.close()
    assert not left
