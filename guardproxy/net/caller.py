"""One caller: his requests, one after the other, each with its answer.

Here belong the turns of a connection: who may come in, which request is next, what becomes of a handler that
breaks or whose caller leaves.  A request is handed over in the loop turn in which its head is complete, the next
one when its answer is over: there is no task but the one that a handler wants.  Not here: reading (intake), time and
the end (patience), what a request or an answer is (inlet, outlet).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, final

from aiohttp import hdrs
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from guardproxy.net.inlet import Body, Malformed, Request, Unreadable, locate, measure
from guardproxy.net.intake import Intake
from guardproxy.net.listen import abroad
from guardproxy.net.outlet import Outlet
from guardproxy.net.patience import BUSY, FRESH, HEAD, IDLE, LEAVING, STUCK
from guardproxy.net.seam import Refused
from guardproxy.net.turnaway import TurnedAway

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.net.front import Front

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OLD = (1, 1)
_UNANSWERED = "the handler returned before the end of its answer"


@final
class Caller(Intake):
    """Serves the requests of one connection."""

    __slots__ = ("_host", "_outlet", "_relieved", "_request", "_serving", "_task", "_turning")

    def __init__(self, manager: Any, front: Front, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, front, loop, **settings)
        self._host = ""
        """The address he calls from; empty for this machine."""
        self._serving: StreamReader = EMPTY_PAYLOAD
        """The body of the request being answered."""
        self._request: Request | None = None
        """The request being answered."""
        self._outlet: Outlet | None = None
        """The answer under way."""
        self._task: asyncio.Task[None] | None = None
        """The handler, where it is a coroutine."""
        self._relieved: list[Callable[[], None]] = []
        """Who waits until the caller has read."""
        self._turning = False
        """Whether turns are being taken further up the stack."""

    def __repr__(self) -> str:
        return f"<Caller {self.phase.value}{' deaf' * self.deaf}{f' {self._outlet}' * (self._outlet is not None)}>"

    @property
    def local(self) -> bool:
        """Whether he is on this machine."""
        return not self._host

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, or be turned away where there are too many."""
        front = self.front
        self._host = abroad(transport.get_extra_info("peername"))
        if not front.enter(self, self._host):
            front.turned_away += 1
            refusal = TurnedAway(front.overloaded, front.leaving)
            transport.set_protocol(refusal)
            refusal.connection_made(transport)
            return
        self.rest(FRESH, front.settings.header_timeout)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell everybody who waits for this caller; a handler whose answer is complete may finish in peace."""
        self.front.leave(self, self._host)
        self.phase, self.deaf = LEAVING, True
        self.stop_timer()
        for stream in (self.incoming, self._serving):
            if not stream.is_eof():
                stream.set_exception(Malformed("the caller left before the end of the body"))
        super().connection_lost(exc)
        outlet = self._outlet
        if outlet is not None:
            outlet.gone = True
            if not outlet.needed:
                self._call_off(outlet)
        self._relieve()
        self._serving = EMPTY_PAYLOAD

    def eof_received(self) -> None:
        """Take a half-close for the end: nothing could be told to a caller who has left otherwise."""
        outlet = self._outlet
        if outlet is not None and not outlet.over:
            outlet.gone = True
            self.drop()

    def resume_writing(self) -> None:
        """Go on: the caller has read."""
        super().resume_writing()
        self._relieve()
        if self.phase is STUCK and self._outlet is None and self._settle():
            self._take_turns()

    # -- what an outlet asks

    def leaving(self) -> bool:
        """Whether the proxy is about to leave."""
        return self.front.draining

    def last(self) -> bool:
        """Whether no request can follow the one being answered."""
        return self.front.draining or not self._serving.is_eof() or (self.deaf and not self.queue)

    def relieved(self, then: Callable[[], None]) -> None:
        """Have *then* called once, as soon as the caller has read, or has gone."""
        if self.writing_paused and self.transport is not None:
            self._relieved.append(then)
        else:
            then()

    def answered(self) -> None:
        """Serve the next request, unless that is done further up the stack."""
        outlet = self._outlet
        if outlet is not None and not self._turning and self._over(outlet):
            self._take_turns()

    def broke(self, mistake: Exception) -> None:
        """Answer that it was a mistake of ours."""
        if self._outlet is not None:
            self._broke(mistake, self._request, self._outlet)

    def _invite(self) -> None:
        """Answer ``Expect: 100-continue``, unless the body is coming already (RFC 9110 § 10.1.1)."""
        outlet, transport = self._outlet, self.transport
        if outlet is None or outlet.begun or outlet.gone or transport is None or transport.is_closing():
            return
        if not self._serving.total_bytes:
            transport.write(CONTINUE)

    # -- answering

    def ready(self) -> None:
        """Serve what stands in the queue, unless somebody is being served, or has not read his answer yet."""
        if self._outlet is None and not self._turning and self.phase is not STUCK:
            self._take_turns()

    def _take_turns(self) -> None:
        self._turning = True
        try:
            while self.queue and self._serve(*self.take()):
                pass
        finally:
            self._turning = False

    def _serve(self, message: Any, body: StreamReader) -> bool:
        """Answer one request; return whether the next may be served now."""
        front, self._serving = self.front, body
        self.work()
        arrived = self.arrivals.popleft()
        if isinstance(message, Refused):
            outlet = self._outlet = Outlet(self, head_only=False, old=False, closing=True)
            front.refuse(outlet, message.status, message.code, message.text)
            return self._over(outlet)
        old = message.version < _OLD
        outlet = self._outlet = Outlet(
            self, head_only=message.method == hdrs.METH_HEAD, old=old, closing=message.should_close
        )
        request = None
        try:
            length = measure(message)
            target, headers = locate(message)
            invite = None
            if length != 0 and not old and message.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
                invite = self._invite
            content = Body(body, length, front.settings.body_timeout, invite)
            request = self._request = Request(
                message.method, target, headers, arrived, not self._host, content, message.version
            )
            going = front.handler(request, outlet)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the operator hears
            self._broke(error, request, outlet)
            return self._over(outlet)
        if going is not None:
            self._task = task = self.work_on(going)
            task.add_done_callback(partial(self._attended, request, outlet))
            return False
        if outlet.left is not None:
            return False  # somebody has taken charge
        if not outlet.over:
            front.fail(RuntimeError(_UNANSWERED), request, outlet)
        return self._over(outlet)

    def _attended(self, request: Request, outlet: Outlet, task: asyncio.Task[None]) -> None:
        """The handler's coroutine has ended."""
        front, self._task = self.front, None
        if task.cancelled():
            if front.stopping and not outlet.gone:
                front.interrupt(outlet)
            elif not outlet.gone:
                front.fail(RuntimeError("the handler was cancelled from within"), request, outlet)
        elif (error := task.exception()) is not None:
            self._broke(error, request, outlet)
        elif outlet.left is not None:
            if outlet.gone and not outlet.needed:
                self._call_off(outlet)  # the caller left while it was handed over
            return
        elif not outlet.over:
            front.fail(RuntimeError(_UNANSWERED), request, outlet)
        if self._outlet is outlet and self._over(outlet):
            self._take_turns()

    def _broke(self, error: BaseException, request: Request | None, outlet: Outlet) -> None:
        if isinstance(error, Unreadable):
            outlet.closing = self.deaf = True
            self.front.refuse(outlet, error.status, error.code, str(error))
        else:
            self.front.fail(error, request, outlet)

    def _over(self, outlet: Outlet) -> bool:
        """The turn is over; return whether there may be another now."""
        self._outlet = self._request = None
        if outlet.closing or not self._serving.is_eof():
            self._part()
            return False
        if self.transport is None or self.transport.is_closing():
            return False
        if self.writing_paused:
            self.watch(STUCK, self.front.settings.keepalive)
            return False
        return self._settle()

    def _settle(self) -> bool:
        """Wait for the next request, or part; return whether there may be one."""
        settings = self.front.settings
        if self.partial:
            self.rest(HEAD, settings.header_timeout)
        elif self.front.draining and not self.queue and not (self.front.gentle and self.local):
            self._part()
            return False
        else:
            self.rest(IDLE, settings.keepalive)
        return True

    def _part(self) -> None:
        if self._serving.is_eof() and self.incoming.is_eof() and not self.deaf and not self.queue:
            self.hang_up()
        else:
            self.linger()

    def _relieve(self) -> None:
        waiting, self._relieved = self._relieved, []
        for then in waiting:
            then()

    # -- the end

    def _call_off(self, outlet: Outlet) -> None:
        """Tell whoever is answering that nobody waits for it."""
        if outlet.over:
            return
        if self._task is not None:
            self._task.cancel()
        elif outlet.left is not None:
            try:
                outlet.left()
            except Exception as error:  # noqa: BLE001 - ours; nobody is there to be told but the operator
                self.front.tell(error, None)

    def disturb(self) -> None:
        """The proxy is about to leave: what only lets time pass, before another attempt, does not go on."""
        if self._outlet is not None and self._outlet.pausing:
            self._call_off(self._outlet)

    def dismiss(self) -> bool:
        """Close it unless it is being answered; return whether it is."""
        if self.phase is LEAVING:
            return False
        if self.queue or self.phase in (BUSY, STUCK):
            return True
        self.hang_up()
        return False

    def interrupt(self) -> asyncio.Task[None] | None:
        """The grace is over: call off what is being answered; return the task to wait for, if there is one."""
        outlet, task = self._outlet, self._task
        if outlet is not None:
            self._call_off(outlet)
            if task is None and not outlet.over:
                self.front.interrupt(outlet)
                self._over(outlet)
        return task
