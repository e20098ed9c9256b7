"""The only place that waits.

Here belongs the performing of a story's steps: it asks upstreams, lets time pass, listens to others, and answers the
caller.  What is to be done, and in which order, the story says.

Nothing here is a task unless something has to be waited for that only a coroutine can wait for: the outcome of an
attempt is sent to the story in the loop turn in which the last byte came, and the answer leaves in the same.

    begun ─► step ─► asked, pausing, joined ─► outcome ─► step … ─► reply ─► answered, told
                         └─ the caller leaves, or the proxy ends ─► called off, told
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.core.steps import Ask, Fetch, Fetched, Join, Landed, Pause, Stand, Weigh
from guardproxy.core.values import Reply
from guardproxy.flow.read import error
from guardproxy.flow.story import story
from guardproxy.net import dress
from guardproxy.net.ear import Ear
from guardproxy.net.errand import Bounds, Errand, Roads
from guardproxy.net.hold import Hold
from guardproxy.net.race import Race
from guardproxy.net.scales import Scales

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Mapping

    from guardproxy.core.steps import Step
    from guardproxy.core.values import Call, Outcome, Record
    from guardproxy.flow.rules import Rules
    from guardproxy.flow.story import Story
    from guardproxy.net.clocks import Timeouts
    from guardproxy.net.far import Far
    from guardproxy.net.outlet import Outlet
    from guardproxy.net.upstream import Upstream

_LEAVING = "the proxy is shutting down"
__all__ = ["Bounds", "Performance", "Performer", "answer"]


@final
class Performer:
    """Performs stories against *upstreams*."""

    __slots__ = ("roads",)

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        timeouts: Timeouts,
        bounds: Bounds,
        loop: asyncio.AbstractEventLoop,
        scales: Scales | None = None,
        far: Far | None = None,
    ) -> None:
        self.roads = Roads(upstreams, timeouts, bounds, loop, Scales(loop) if scales is None else scales, far)

    def begin(
        self,
        call: Call,
        rules: Rules,
        record: Record,
        outlet: Outlet,
        told: Callable[[Record], None],
        upload: AsyncIterator[bytes] | None = None,
    ) -> None:
        """Tell the story of *call*, whose body is *upload* where it is not read here, and answer it at *outlet*.

        *told* is called when it is over.  Where nobody waits for the answer any more the upstream is hung up on, and
        closing the story gives back every permit that is still out.
        """
        telling = story(call, rules, record, self.roads.loop.time())
        Performance(telling, call, record, outlet, told, self.roads, upload).begin()

    async def ask(self, ask: Ask, record: Record) -> Outcome:
        """Put one call to one upstream for somebody who waits for the outcome: a health check."""
        came: asyncio.Future[Outcome] = self.roads.loop.create_future()

        def over(outcome: Outcome) -> None:
            if not came.done():  # whoever waited may have been told to stop in this very turn of the loop
                came.set_result(outcome)

        errand = Errand(ask, self.roads, record, over)
        try:
            return await came
        finally:
            errand.cancel()


@final
class Performance:
    """One story that is being performed."""

    __slots__ = ("_call", "_errand", "_hold", "_outlet", "_record", "_roads", "_task", "_telling", "_timer", "_told", "_upload")  # fmt: skip  # noqa: E501

    def __init__(
        self,
        telling: Story[Reply],
        call: Call,
        record: Record,
        outlet: Outlet,
        told: Callable[[Record], None],
        roads: Roads,
        upload: AsyncIterator[bytes] | None,
    ) -> None:
        self._telling = telling
        self._call = call
        self._record = record
        self._outlet = outlet
        self._told = told
        self._roads = roads
        self._upload = upload
        self._errand: Errand | Race | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | Ear | None = None
        self._hold: Hold | None = None

    def begin(self) -> None:
        """Take charge of the answer and perform the first step."""
        call, roads = self._call, self._roads
        self._outlet.charge(self._called_off)
        if call.stream and call.whole and call.dialect is not None and call.dialect.comment:
            self._hold = Hold(self._outlet, self._record, call.dialect, roads.bounds.hold_comment, roads.loop)
        self._tell(None)

    def _tell(self, outcome: Any) -> None:
        """Send the story what came of its last step, and begin what it wants next."""
        try:
            try:
                step = self._telling.send(outcome)
            except StopIteration as end:
                self._end(end.value)
            else:
                self._take(step)
        except Exception as mistake:  # noqa: BLE001 -- ours: the caller gets an answer and the operator hears of it
            self._fail(mistake)

    def _take(self, step: Step) -> None:
        """Perform *step*."""
        loop, flight = self._roads.loop, self._record.flight
        if flight is not None:
            flight.pilot = self._outlet
        if type(step) is Ask:
            if step.hedge is None:
                self._errand = Errand(step, self._roads, self._record, self._tell, self._outlet, self._upload)
            else:
                self._errand = Race(step, step.hedge, self._run, self._record, self._tell, loop)
            return
        if (flight := self._record.flight) is not None:
            flight.pilot = self._outlet  # others may join before anything is asked
        if type(step) is Pause:
            if self._outlet.pause():
                self._timer = loop.call_later(step.seconds, self._woken)
            else:
                self._called_off()
        elif type(step) is Stand:
            step.ticket.wake = self._called
            self._timer = loop.call_later(step.seconds, self._woken)
        elif type(step) is Join:
            ear = self._task = Ear(step, self._record, self._outlet, loop, self._landed)
            ear.join()
        else:
            self._task = loop.create_task(self._wait(step))

    def _run(self, ask: Ask, over: Callable[[Outcome], None], begun: Callable[[], None]) -> Errand:
        """One of two errands of a race."""
        return Errand(ask, self._roads, self._record, over, self._outlet, begun=begun)

    def _woken(self) -> None:
        self._timer, self._outlet.pausing = None, False
        self._tell(self._roads.loop.time())

    def _called(self) -> None:
        """It is our turn: who says so is in the middle of another story, so in a moment."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._roads.loop.call_later(0, self._woken)

    def _landed(self, landed: Landed) -> None:
        self._task = None
        self._tell(landed)

    async def _wait(self, step: Fetch | Weigh) -> None:
        """Perform a *step* that takes a coroutine."""
        try:
            came: Any = await (self._fetch(step) if type(step) is Fetch else self._weigh(step))
        except Exception as mistake:  # noqa: BLE001 -- ours, as in `_tell`
            self._task = None
            self._fail(mistake)
        else:
            self._task = None
            self._tell(came)

    async def _weigh(self, weigh: Weigh) -> float:
        """Have something judged off the loop."""
        weigh.answer = await self._roads.scales.weigh(weigh.question, weigh.until)
        return self._roads.loop.time()

    async def _fetch(self, fetch: Fetch) -> Fetched:
        """Look into the store that several proxies share; others may join meanwhile."""
        roads = self._roads
        found = None if roads.far is None else await roads.far.fetch(fetch.call)
        return Fetched(roads.loop.time(), found)

    def _end(self, reply: Reply) -> None:
        """The story has been told: answer."""
        outlet, record = self._outlet, self._record
        if self._hold is not None:
            self._hold.stop()
        if outlet.gone:
            record.gone = True  # but others have listened to the end
        if not reply.sent:
            answer(reply, record, outlet)
        self._over()

    def _called_off(self) -> None:
        """Nobody waits for the answer any more, or the proxy ends."""
        outlet, record = self._outlet, self._record
        self._stop()
        record.gone = outlet.gone
        if not outlet.gone:  # it is the proxy that leaves
            record.reply = error(503, "shutting_down", _LEAVING)
            outlet.closing = True
            if not outlet.begun:
                answer(record.reply, record, outlet)
            elif not outlet.over:
                dialect = self._call.dialect
                if dialect is not None:
                    outlet.write(dialect.told(dialect.error(502, "upstream_stream_interrupted", _LEAVING)))
                outlet.abort()
        self._over()

    def _stop(self) -> None:
        """Hang up on whoever is asked, wait for nothing any more, and end the story where it stands."""
        if self._errand is not None:
            self._errand.cancel()
        for waiting in (self._timer, self._task):
            if waiting is not None:
                waiting.cancel()
        if self._hold is not None:
            self._hold.stop()
        self._telling.close()

    def _fail(self, mistake: Exception) -> None:
        """A mistake of ours: the caller gets an answer, and the operator hears of it."""
        self._record.reply = self._record.reply or error(500, "internal_error", "internal error")
        self._outlet.fail(mistake)
        try:
            self._stop()
        except Exception as another:  # noqa: BLE001 -- they seldom come alone
            self._telling.close()
            self._outlet.fail(another)
        self._over()

    def _over(self) -> None:
        told, self._told = self._told, _nobody
        self._errand = self._hold = None
        try:
            if self._roads.far is not None and self._call.key:
                self._roads.far.finish(self._call, self._record)
            told(self._record)
        except Exception as mistake:  # noqa: BLE001 -- whatever becomes of the book, the next request is served
            self._outlet.fail(mistake)
        self._outlet.finish()


def _nobody(record: Record) -> None:
    """Take the place of who has been told."""
    del record


def answer(reply: Reply, record: Record, outlet: Outlet) -> None:
    """Send *reply*: in one block, or as events where some have left already."""
    if not outlet.begun:
        outlet.prepared(dress.block(reply, record), reply.body)
    elif reply.events and reply.status == 200:
        if record.committed:  # its head left before anything was known
            outlet.write(dress.late(record))
        outlet.write(reply.body)
        outlet.end()
    else:  # 200 has left: what went wrong can only be told in the stream, which then ends without its last event
        dialect = record.call.dialect if record.call is not None else None
        outlet.write(reply.body if dialect is None else dialect.told(reply.body))
        outlet.abort()
