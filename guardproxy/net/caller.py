"""One caller: his requests, one after the other, each with its answer.

Here belong the turns of a connection: who may come in, which request is next, what becomes of a handler that
breaks or whose caller leaves.  Not here: reading (intake), time and the end (patience), what a request or an
answer is (inlet, outlet).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, final

from aiohttp import hdrs
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from guardproxy.net.inlet import Body, Malformed, Request, Unreadable, locate, measure
from guardproxy.net.intake import Intake
from guardproxy.net.outlet import Outlet
from guardproxy.net.patience import Phase
from guardproxy.net.seam import Refused
from guardproxy.net.turnaway import TurnedAway

if TYPE_CHECKING:
    from guardproxy.net.front import Front

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OLD = (1, 1)


@final
class Caller(Intake):
    """Serves the requests of one connection."""

    __slots__ = ("_local", "_outlet", "_relief", "_serving", "_task")

    def __init__(self, manager: Any, front: Front, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, front, loop, **settings)
        self._local = False
        self._serving: StreamReader = EMPTY_PAYLOAD
        """The body of the request being answered."""
        self._outlet: Outlet | None = None
        self._task: asyncio.Task[Any] | None = None
        self._relief: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"<Caller {self.phase.value}{' deaf' * self.deaf}{f' {self._outlet}' * (self._outlet is not None)}>"

    # -- what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in, or be turned away where there are too many."""
        front = self.front
        if len(front.callers) >= front.settings.connections:
            front.turned_away += 1
            refusal = TurnedAway(front.overloaded, front.leaving)
            transport.set_protocol(refusal)
            refusal.connection_made(transport)
            return
        front.callers.add(self)
        self._local = _is_local(transport.get_extra_info("peername"))
        self.rest(Phase.FRESH, front.settings.header_timeout)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell everybody who waits for this caller; a handler whose answer is complete may finish in peace."""
        self.front.callers.discard(self)
        self.phase, self.deaf = Phase.LEAVING, True
        self.stop_timer()
        for stream in (self.incoming, self._serving):
            if not stream.is_eof():
                stream.set_exception(Malformed("the caller left before the end of the body"))
        outlet, task = self._outlet, self._task
        super().connection_lost(exc)
        if self._relief is not None:
            self._relief.set()
        if outlet is not None:
            outlet.gone = True
            if task is not None and not (outlet.over or outlet.needed):
                task.cancel()

    def eof_received(self) -> None:
        """Take a half-close for the end: nothing could be told to a caller who has left otherwise."""
        outlet = self._outlet
        if outlet is not None and not outlet.over:
            outlet.gone = True
            self.drop()

    def resume_writing(self) -> None:
        """Go on: the caller has read."""
        super().resume_writing()
        if self._relief is not None:
            self._relief.set()

    # -- what an outlet asks

    def last(self) -> bool:
        """Whether no request can follow the one being answered."""
        return self.front.draining or not self._serving.is_eof() or (self.deaf and not self.queue)

    async def relief(self) -> None:
        """Wait until the caller has read, or has gone."""
        while self.writing_paused and self.transport is not None:
            if self._relief is None:
                self._relief = asyncio.Event()
            self._relief.clear()
            await self._relief.wait()

    def abandon(self) -> None:
        """End the handler of a caller who has left, and for whose answer nobody else waits any more."""
        if self._task is not None:
            self._task.cancel()

    def _invite(self) -> None:
        """Answer ``Expect: 100-continue``, unless the body is coming already (RFC 9110 § 10.1.1)."""
        outlet, transport = self._outlet, self.transport
        if outlet is None or outlet.begun or outlet.gone or transport is None or transport.is_closing():
            return
        if not self._serving.total_bytes:
            transport.write(CONTINUE)

    # -- answering

    async def start(self) -> None:
        """Answer requests until there is a last one."""
        self._task = asyncio.current_task()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._answer_all()
        except Exception as error:  # noqa: BLE001 - ours, then: the connection is in no state to go on
            self.front.tell(error, None)
            self.drop()
        self._task = None
        if self._serving.is_eof() and self.incoming.is_eof() and not self.deaf and not self.queue:
            self.hang_up()
        else:
            self.linger()

    async def _answer_all(self) -> None:
        front = self.front
        while True:
            message, self._serving = await self.take()
            self.work()
            if await self._answer(message, self.arrivals.pop(0)):
                return
            if self.writing_paused:
                self.watch(Phase.STUCK, front.settings.keepalive)
                await self.relief()
            if self.transport is None or self.transport.is_closing():
                return
            if self.partial:
                self.rest(Phase.HEAD, front.settings.header_timeout)
            elif front.draining and not self.queue:
                return
            else:
                self.rest(Phase.IDLE, front.settings.keepalive)

    async def _answer(self, message: Any, arrived: float) -> bool:
        """Answer one request; return whether it is the last."""
        front = self.front
        if isinstance(message, Refused):
            outlet = Outlet(self, head_only=False, old=False, closing=True)
            front.refuse(outlet, message.status, message.code, message.text)
            return True
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
            body = Body(self._serving, length, front.settings.body_timeout, invite)
            request = Request(message.method, target, headers, arrived, self._local, body, message.version)
            await front.handler(request, outlet)
            if not outlet.over:
                front.fail(RuntimeError("the handler returned before the end of its answer"), request, outlet)
        except asyncio.CancelledError:
            if outlet.gone:
                raise
            if front.stopping:
                front.interrupt(outlet)
                raise
            front.fail(RuntimeError("the handler was cancelled from within"), request, outlet)
        except Unreadable as fault:
            outlet.closing = self.deaf = True
            front.refuse(outlet, fault.status, fault.code, str(fault))
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer and the operator hears
            front.fail(error, request, outlet)
        self._outlet = None
        return outlet.closing or not self._serving.is_eof()

    # -- the end of the server

    def dismiss(self) -> asyncio.Task[Any] | None:
        """Close it unless it is being answered; return the task to wait for, or to cancel."""
        if self._task is not None and (self.queue or self.phase in (Phase.BUSY, Phase.STUCK)):
            return self._task
        if self.phase is not Phase.LEAVING:
            self.hang_up()
        return None


def _is_local(peer: object) -> bool:
    """Whether *peer* is on this machine; a unix socket has no name for it."""
    if not isinstance(peer, tuple):
        return True
    host = str(peer[0]).removeprefix("::ffff:")
    return host == "::1" or host.startswith("127.")
