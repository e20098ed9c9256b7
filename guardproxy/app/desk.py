"""Where every request arrives.

Here belongs the way of one request through the proxy: own path or call, body read or streamed, admitted, performed,
recorded.  What each of these means is elsewhere; this is the one place that knows their order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Record, Reply
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
        self._serve(place, body, request, record, outlet)
        return None

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
            record.gone = outlet.gone
            if not outlet.gone:  # it is the proxy that leaves
                record.reply = error(503, "shutting_down", "the proxy is shutting down")
            self._over(record)
            raise
        else:
            self._serve(place, body, request, record, outlet)

    def _serve(self, place: Place, body: bytes, request: Request, record: Record, outlet: Outlet) -> None:
        """From the request to a call that every guard has admitted, and that is performed, or to a reply."""
        house = self.house
        now = self._loop.time()
        try:
            call = house.reading.call(request.method, place, request.headers, body, now)
            if type(call) is not Reply:
                record.call = call
                if self.spans is not None:
                    self.spans.begin(call, record)
                call = house.rules.admit(call, record, now)
                if house.rules.lined and type(call) is not Reply:
                    call = foreseen(call, house.rules, record, now) or call
        except BaseException:  # ours: the front answers it, but the call is counted as over all the same
            self._over(record)
            raise
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
