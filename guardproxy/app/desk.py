"""Where every request arrives.

Here belongs the way of one request through the proxy: own path or call, body read or streamed, admitted, performed,
recorded.  What each of these means is elsewhere; this is the one place that knows their order.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, final

from guardproxy.core.values import Record, Reply
from guardproxy.flow.read import error
from guardproxy.net.perform import answer
from guardproxy.net.server import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.app.house import House
    from guardproxy.app.own import Own
    from guardproxy.net.server import Outlet, Request


@final
class Desk:
    """Takes the requests of the app's port."""

    def __init__(self, house: House, own: Own, told: Callable[[Record], None], loop: asyncio.AbstractEventLoop) -> None:
        self.house = house
        self._own = own
        self._told = told
        self._loop = loop
        self.in_flight = 0
        """Calls being answered."""
        self.last = loop.time()
        """When the last call came or ended."""
        self.draining = False

    async def handle(self, request: Request, outlet: Outlet) -> None:
        """Answer one request of an app."""
        if self._own.covers(request.method, request.target):
            await self._own.handle(request, outlet)
            return
        record = Record(request.arrived)
        self.in_flight += 1
        self.last = self._loop.time()
        try:
            await self._serve(request, record, outlet)
        except asyncio.CancelledError:
            record.gone = True
            raise
        finally:
            self.in_flight -= 1
            record.ended = self.last = self._loop.time()
            self._told(record)

    async def handle_admin(self, request: Request, outlet: Outlet) -> None:
        """Answer one request of an operator: own paths, and nothing else."""
        await self._own.handle(request, outlet, admin=True)

    async def _serve(self, request: Request, record: Record, outlet: Outlet) -> None:
        house = self.house
        config = house.config
        if self.draining and not request.local:
            reply = error(503, "shutting_down", "the proxy is shutting down")
            reply.headers = [*reply.headers, (b"Retry-After", b"1")]
            return self._refuse(reply, record, outlet)
        place = house.reading.place(request.method, request.target)
        if isinstance(place, Reply):
            return self._refuse(place, record, outlet)
        body = b""
        if place.dialect is not None:
            try:
                body = await request.body.read(config.limits.request_bytes, config.limits.body_timeout)
            except Unreadable as unreadable:
                outlet.closing = True
                return self._refuse(error(unreadable.status, unreadable.code, str(unreadable)), record, outlet)
        elif (request.body.length or 0) > config.limits.request_bytes:
            outlet.closing = True
            message = f"the request body is larger than {config.limits.request_bytes} bytes"
            return self._refuse(error(413, "request_too_large", message), record, outlet)
        now = self._loop.time()
        call = house.reading.call(request.method, place, request.headers, body, now)
        if isinstance(call, Reply):
            return self._refuse(call, record, outlet)
        record.call = call
        call.deadline = record.started + config.timeouts.total
        admitted = house.rules.admit(call, record, now)
        if isinstance(admitted, Reply):
            return self._refuse(admitted, record, outlet)
        upload = None if call.dialect is not None or request.body.length == 0 else aiter(request.body)
        await house.performer.perform(admitted, house.rules, record, outlet, upload)

    @staticmethod
    def _refuse(reply: Reply, record: Record, outlet: Outlet) -> None:
        """Answer from the house."""
        record.reply = reply
        answer(reply, record, outlet)
