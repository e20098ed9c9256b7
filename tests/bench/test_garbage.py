"""A call leaves nothing for the garbage collector: what it held is free as soon as it is over."""

import asyncio
import gc

import pytest

from bench import upstream
from bench.inside import Inside
from guardproxy.core.values import Call, Record
from guardproxy.net.errand import Errand
from guardproxy.net.exchange import Exchange
from guardproxy.net.gather import Gather
from guardproxy.net.outlet import Outlet
from guardproxy.net.perform import Performance, Performer
from guardproxy.net.relay import Events
from guardproxy.net.upstream import Upstream


class Line:
    """The caller's end: takes everything."""

    transport: asyncio.Transport | None = None
    writing_paused = False

    def __init__(self, over: asyncio.Future[None]) -> None:
        self.over = over

    def leaving(self):
        return False

    def last(self):
        return False

    def cut(self, *, reset):
        raise AssertionError(reset)

    def broke(self, mistake):
        raise mistake

    def relieved(self, then):
        raise AssertionError(then)

    def answered(self):
        self.over.set_result(None)


@pytest.mark.parametrize("kind", [{}, {"schema": True}, {"events": 3}], ids=["miss", "schema", "stream"])
async def test_a_miss_makes_no_circle(kind):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: upstream.Model(loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    inside = Inside(loop)
    model = Upstream("qwen", f"http://127.0.0.1:{port}", clock=loop.time)
    roads = inside.house.performer.roads
    performer = Performer({"qwen": model}, roads.timeouts, roads.bounds, loop)

    async def one(body):
        now = loop.time()
        record = Record(now)
        call = inside.house.rules.admit(inside.read(body, now), record, now)
        assert isinstance(call, Call)
        over = loop.create_future()
        outlet = Outlet(Line(over), head_only=False, old=False, closing=False)
        performer.begin(call, inside.house.rules, record, outlet, lambda record: None)
        await over

    bodies = inside.bodies(6, **kind)
    for body in bodies[:3]:
        await one(body)
    gc.collect()
    gc.disable()
    try:
        for body in bodies[3:]:
            await one(body)
        left = [thing for thing in gc.get_objects() if type(thing) in (Gather, Events, Exchange, Errand, Performance)]
    finally:
        gc.enable()
    server.close()
    await model.close()
    assert not left
