"""How stories are performed: each step, each way to end, and that the connection goes on afterwards.

The stories are written here: a performance takes any generator for one.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from guardproxy.core.steps import Ask, Join, Pause, Weigh
from guardproxy.core.values import Answer, Call, Fault, Record, Reply, Target
from guardproxy.dialects.chat import Chat
from guardproxy.net.clocks import Timeouts
from guardproxy.net.errand import Bounds, Roads
from guardproxy.net.perform import Performance
from guardproxy.net.scales import Scales
from guardproxy.net.upstream import Upstream
from tests.net.callers import GET, House, serving, until
from tests.net.raw import OK, replies, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from guardproxy.net.outlet import Outlet
    from guardproxy.net.server import Request

    Story = Callable[["Stage"], Generator[Any, Any, Reply]]

TARGET = Target("qwen", "m")


class Stage:
    """Performs the story that a test wrote, for every request."""

    def __init__(self, url: str, story: Story, *, stream: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.upstream = Upstream("qwen", url, clock=self.loop.time)
        self.roads = Roads({"qwen": self.upstream}, Timeouts(), Bounds(), self.loop, Scales(self.loop))
        self.story = story
        self.told: list[Record] = []
        self.came: list[object] = []
        self.closed = 0
        self.spoilt = False
        """Whether telling of a call that is over is a mistake."""
        self.call = Call("id", "POST", "/v1/chat/completions", "", [], b"{}", {}, Chat(), stream=stream)

    def ask(self) -> Ask:
        return Ask(self.call, TARGET, [], b"{}", relay=self.call.stream, streams=self.call.stream)

    def __call__(self, request: Request, outlet: Outlet) -> None:
        record = Record(request.arrived, call=self.call)
        Performance(self.told_by(), self.call, record, outlet, self.tell, self.roads, None).begin()

    def told_by(self) -> Generator[Any, Any, Reply]:
        try:
            reply: Reply = yield from self.story(self)
            return reply
        finally:
            self.closed += 1

    def tell(self, record: Record) -> None:
        self.told.append(record)
        if self.spoilt:
            raise ArithmeticError


def asking(stage: Stage) -> Generator[Any, Any, Reply]:
    came = yield stage.ask()
    stage.came.append(came)
    return Reply(200, b"well")


def pausing(stage: Stage) -> Generator[Any, Any, Reply]:
    yield Pause(60.0)
    return Reply(200, b"rested")


def mistaken(stage: Stage) -> Generator[Any, Any, Reply]:
    yield from stage.came[:0]  # nothing: what is yielded nowhere is no generator
    raise KeyError


def mistaken_later(stage: Stage) -> Generator[Any, Any, Reply]:
    yield stage.ask()
    raise KeyError


def mistaken_in_a_task(stage: Stage) -> Generator[Any, Any, Reply]:
    yield Weigh(b"", None, "never")  # type: ignore[arg-type]  # that is the mistake
    return Reply(200, b"joined")


def unsayable(stage: Stage) -> Generator[Any, Any, Reply]:
    yield stage.ask()
    return Reply("no status", b"x")  # type: ignore[arg-type]  # that is the mistake


@contextlib.asynccontextmanager
async def playing(story: Story, answer: bytes = OK) -> AsyncIterator[tuple[Stage, House]]:
    """A front whose every request is performed by *story*, before a model server that gives this *answer*."""
    async with serve(replies(answer)) as raw:
        stage = Stage(raw.url, story)
        async with serving(stage) as house:
            yield stage, house
            await stage.upstream.close()


async def test_what_comes_is_told_to_the_story_and_its_reply_to_the_caller():
    async with playing(asking) as (stage, house):
        heard = await house.ask(GET)
        assert (heard.status, heard.body) == (200, b"well")
        (came,) = stage.came
        assert isinstance(came, Answer)
        assert came.body == b"ok"
        assert (len(stage.told), stage.closed) == (1, 1)


async def test_a_fault_before_anything_was_asked_is_told_too():
    """In a later turn of the loop, so that a story is never told anything while it is being told something."""
    stage = Stage("http://127.0.0.1:1", asking)
    async with serving(stage) as house:
        assert (await house.ask(GET)).status == 200
        (came,) = stage.came
        assert isinstance(came, Fault)
        assert came.code == "upstream_unreachable"


@pytest.mark.parametrize("story", [mistaken, mistaken_later, mistaken_in_a_task, unsayable])
async def test_a_mistake_of_ours_is_a_500_and_the_connection_goes_on(story):
    """Told once, to the operator and to the book, wherever in the story it was made."""
    async with playing(story) as (stage, house):
        phone = await house.dial()
        for number in (1, 2):
            phone.send(GET)
            heard = await phone.hear()
            assert (heard.status, heard.code) == (500, "internal_error")
            assert len(house.faults) == len(stage.told) == stage.closed == number
            assert (reply := stage.told[-1].reply) is not None
            assert reply.code == "internal_error"
            phone = await house.dial()  # an answer like that is the last on its connection


def mistaken_twice(stage: Stage) -> Generator[Any, Any, Reply]:
    yield Join(None, stage.call)  # type: ignore[arg-type]  # it can be neither joined nor left
    return Reply(200, b"joined")


async def test_a_mistake_seldom_comes_alone():
    """What cannot be ended either is told too, and the caller is answered all the same."""
    async with playing(mistaken_twice) as (stage, house):
        assert (await house.ask(GET)).status == 500
        await until(lambda: len(house.faults) == 2)
        assert len(stage.told) == stage.closed == 1


async def test_who_cannot_be_told_does_not_keep_the_next_request_waiting():
    async with playing(asking) as (stage, house):
        stage.spoilt = True
        phone = await house.dial()
        for number in (1, 2, 3):
            phone.send(GET)
            assert (await phone.hear()).body == b"well"
            assert len(house.faults) == len(stage.told) == number


@pytest.mark.parametrize("story", [asking, pausing])
async def test_a_caller_who_leaves_ends_the_story(story):
    """The upstream is hung up on, the story is closed where it stands, and the book says that he left."""
    async with playing(story, b"") as (stage, house):
        phone = await house.dial()
        phone.send(GET)
        await until(lambda: "busy" in "".join(house.phases))
        await asyncio.sleep(0.05)
        await phone.hang_up()
        await until(lambda: bool(stage.told))
        assert stage.told[0].gone
        assert (len(stage.told), stage.closed, stage.came) == (1, 1, [])
        assert stage.upstream.open == stage.upstream.idle == 0


@pytest.mark.parametrize("story", [asking, pausing])
async def test_the_end_of_the_proxy_is_answered(story):
    async with playing(story, b"") as (stage, house):
        phone = await house.dial()
        phone.send(GET)
        await until(lambda: "busy" in "".join(house.phases))
        await house.server.close(0)
        heard = await phone.hear()
        assert (heard.status, heard.code) == (503, "shutting_down")
        assert await phone.rest() == b""
        assert (len(stage.told), stage.closed) == (1, 1)
        assert stage.upstream.open == 0


async def test_pipelined_requests_are_performed_one_after_the_other():
    """However many there are: the next is begun when the one before is over, not deeper in its stack."""
    async with playing(asking) as (stage, house):
        phone = await house.dial()
        phone.send(GET * 1500)
        for _ in range(1500):
            assert (await phone.hear()).body == b"well"
        assert len(stage.told) == 1500
