"""Where every request arrives.

Here belongs the way of one request through the proxy: own path or call, body read or streamed, admitted, performed,
recorded.  What each of these means is elsewhere; this is the one place that knows their order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.steps import Ready
from guardproxy.core.values import Call, Record, Reply
from guardproxy.flow import refusals
from guardproxy.flow.foreseen import foreseen
from guardproxy.flow.read import error
from guardproxy.flow.share import is_due
from guardproxy.net.background import Background
from guardproxy.net.perform import answer
from guardproxy.net.server import TooLarge, Unreadable
from guardproxy.net.upload import Upload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from guardproxy.app.house import House
    from guardproxy.app.own import Own
    from guardproxy.flow.read import Place
    from guardproxy.net.server import Outlet, Request
    from guardproxy.telemetry.spans import Spans

LONG = 256 << 10
"""Bytes of a body above which others are served between reading it, admitting it and asking."""


@final
class Desk:
    """Takes the requests of the app's port."""

    def __init__(
        self,
        house: House,
        own: Own,
        told: Callable[[Record], None],
        loop: asyncio.AbstractEventLoop,
        spans: Spans | None = None,
    ) -> None:
        self.house = house
        self.own = own
        self._told = told
        self._loop = loop
        self.in_flight = 0
        """Calls being answered."""
        self.last = loop.time()
        """When the last call came or ended."""
        self.draining = False
        self.full = False
        """Whether new calls are refused for want of memory."""
        self.background = Background(told, loop)
        self.spans = spans

    def handle(self, request: Request, outlet: Outlet) -> Coroutine[Any, Any, None] | None:
        """Answer one request of an app."""
        if self.own.covers(request.method, request.target):
            return self.own.handle(request, outlet)
        record = Record(request.arrived)
        self.in_flight += 1
        self.last = self._loop.time()
        place = self._place(request)
        if type(place) is Reply:
            self._refuse(place, request, record, outlet)
            return None
        body: bytes | None = b""
        limit = self.house.config.limits.request_bytes
        try:
            if place.dialect is not None:
                body = request.body.at_hand(limit)
            elif (request.body.length or 0) > limit:
                raise TooLarge(limit)
        except Unreadable as unreadable:
            self._unread(unreadable, request, record, outlet)
            return None
        if body is None:
            return self._wait(place, request, record, outlet)
        return self._serve(place, body, request, record, outlet)

    async def handle_admin(self, request: Request, outlet: Outlet) -> None:
        """Answer one request of an operator: own paths, and nothing else."""
        await self.own.handle(request, outlet, admin=True)

    def _place(self, request: Request) -> Place | Reply:
        if self.draining and not request.local:
            reply = error(503, "shutting_down", "the proxy is shutting down")
            reply.headers = [*reply.headers, (b"Retry-After", b"1")]
            return reply
        if self.full:
            reply = error(503, "overloaded", "the proxy is short of memory")
            reply.headers = [*reply.headers, (b"Retry-After", b"1")]
            return reply
        return self.house.reading.place(request.method, request.target)

    async def _wait(self, place: Place, request: Request, record: Record, outlet: Outlet) -> None:
        """Wait for a body that is not here yet, then go on."""
        limits = self.house.config.limits
        try:
            body = await request.body.read(limits.request_bytes, limits.body_timeout)
        except Unreadable as unreadable:
            self._unread(unreadable, request, record, outlet)
        except asyncio.CancelledError:
            self._cut(record, outlet)
            raise
        else:
            if (going := self._serve(place, body, request, record, outlet)) is not None:
                await going

    def _cut(self, record: Record, outlet: Outlet) -> None:
        """Nobody waits any more for a call that has not begun, or the proxy leaves."""
        record.gone = outlet.gone
        if not outlet.gone:
            record.reply = error(503, "shutting_down", "the proxy is shutting down")
        self._over(record)

    def _serve(
        self, place: Place, body: bytes, request: Request, record: Record, outlet: Outlet
    ) -> Coroutine[Any, Any, None] | None:
        """From the request to a call that every guard has admitted, and that is performed, or to a reply.

        A coroutine where something has to be made ready first, or the body is long.
        """
        house = self.house
        now = self._loop.time()
        admitted: Call | Reply | Ready
        try:
            admitted = call = house.reading.call(request.method, place, request.headers, body, now)
            if type(call) is not Reply:
                record.call = call
                if self.spans is not None:
                    self.spans.begin(call, record)
                if len(body) > LONG:
                    return self._in_turns(call, house, request, record, outlet)
                admitted = _admitted(call, house, record, now)
        except BaseException:  # ours: the front answers it, but the call is counted as over all the same
            self._over(record)
            raise
        if type(admitted) is Ready:
            return self._in_turns(admitted, house, request, record, outlet)
        self._begin(admitted, house, request, record, outlet)
        return None

    async def _in_turns(
        self, came: Call | Reply | Ready, house: House, request: Request, record: Record, outlet: Outlet
    ) -> None:
        """Go on in several turns of the loop: for what is long, and to wait until what the guards need is ready."""
        try:
            if isinstance(came, Call):
                await asyncio.sleep(0)
                came = _admitted(came, house, record, self._loop.time())
                await asyncio.sleep(0)
            while isinstance(came, Ready):
                if await house.scales.make_ready(came):
                    came = _admitted(came.call, house, record, self._loop.time(), came)
                else:
                    came = refusals.not_ready(came.call)
        except asyncio.CancelledError:
            self._cut(record, outlet)
            raise
        except BaseException:
            self._over(record)
            raise
        self._begin(came, house, request, record, outlet)

    def _begin(self, call: Call | Reply, house: House, request: Request, record: Record, outlet: Outlet) -> None:
        if type(call) is Reply:
            self._refuse(call, request, record, outlet)
            return
        upload = None
        if call.dialect is None and request.body.length != 0:
            upload = Upload(request.body, house.config.limits.request_bytes)
        house.performer.begin(call, house.rules, record, outlet, self._over, upload)

    def _unread(self, why: Unreadable, request: Request, record: Record, outlet: Outlet) -> None:
        outlet.closing = True
        self._refuse(error(why.status, why.code, str(why)), request, record, outlet)

    def _refuse(self, reply: Reply, request: Request, record: Record, outlet: Outlet) -> None:
        """Answer at once: what was kept, or why not."""
        record.reply = reply
        if record.call is None:  # it has not become a call: its id is needed all the same
            ident = record.ident = self.house.reading.ident(request.headers)
            reply.headers = [*reply.headers, (b"X-Request-Id", ident.encode())]
        try:
            answer(reply, record, outlet)
            if record.refresh is not None:
                self._refresh(record)
        finally:
            self._over(record)

    def _refresh(self, record: Record) -> None:
        """What was shown is old: have it made anew, if that is not being done."""
        call, record.refresh = record.refresh, None
        house = self.house
        if call is not None and not self.draining and is_due(call, house.rules, self._loop.time()):
            self.background.start(call, house.rules, house.performer)

    def _over(self, record: Record) -> None:
        self.in_flight -= 1
        record.ended = self.last = self._loop.time()
        self._told(record)


def _admitted(call: Call, house: House, record: Record, now: float, since: Ready | None = None) -> Call | Reply | Ready:
    """What the guards say to *call*, and a refusal where it can be foreseen."""
    rules = house.rules
    admitted = rules.admit(call, record, now, since)
    if rules.lined and type(admitted) is Call:
        return foreseen(admitted, rules, record, now) or admitted
    return admitted
