"""Where every request arrives.

Here belongs the way of one request through the proxy: own path or call, body read or streamed, admitted, performed,
recorded.  What each of these means is elsewhere; this is the one place that knows their order.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, final

from guardproxy.core.values import Record, Reply
from guardproxy.flow.read import error
from guardproxy.flow.share import is_due
from guardproxy.net.background import Background
from guardproxy.net.perform import answer
from guardproxy.net.server import TooLarge, Unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from guardproxy.app.house import House
    from guardproxy.app.own import Own
    from guardproxy.core.values import Call
    from guardproxy.net.server import Body, Outlet, Request


@final
class Desk:
    """Takes the requests of the app's port."""

    def __init__(self, house: House, own: Own, told: Callable[[Record], None], loop: asyncio.AbstractEventLoop) -> None:
        self.house = house
        self.own = own
        self._told = told
        self._loop = loop
        self.in_flight = 0
        """Calls being answered."""
        self.last = loop.time()
        """When the last call came or ended."""
        self.draining = False
        self.background = Background(told, loop)

    async def handle(self, request: Request, outlet: Outlet) -> None:
        """Answer one request of an app."""
        if self.own.covers(request.method, request.target):
            await self.own.handle(request, outlet)
            return
        record = Record(request.arrived)
        self.in_flight += 1
        self.last = self._loop.time()
        try:
            await self._serve(request, record, outlet)
        except asyncio.CancelledError:
            record.gone = outlet.gone
            if not outlet.gone:  # it is the proxy that leaves
                record.reply = error(503, "shutting_down", "the proxy is shutting down")
            raise
        finally:
            self.in_flight -= 1
            record.ended = self.last = self._loop.time()
            self._told(record)

    async def handle_admin(self, request: Request, outlet: Outlet) -> None:
        """Answer one request of an operator: own paths, and nothing else."""
        await self.own.handle(request, outlet, admin=True)

    async def _serve(self, request: Request, record: Record, outlet: Outlet) -> None:
        taken = await self._take(request, record, outlet)
        if isinstance(taken, Reply):
            record.reply = taken
            if record.call is None:  # it has not become a call: its id is needed all the same
                ident = self.house.reading.ident(request.headers)
                taken.headers = [*taken.headers, (b"X-Request-Id", ident.encode())]
            answer(taken, record, outlet)
            if record.refresh is not None:
                self._refresh(record)
        else:
            upload = None
            if taken.dialect is None and request.body.length != 0:
                upload = _bounded(request.body, self.house.config.limits.request_bytes)
            await self.house.performer.perform(taken, self.house.rules, record, outlet, upload)

    def _refresh(self, record: Record) -> None:
        """What was shown is old: have it made anew, if that is not being done."""
        call, record.refresh = record.refresh, None
        house = self.house
        if call is not None and not self.draining and is_due(call, house.rules, self._loop.time()):
            self.background.start(call, house.rules, house.performer)

    async def _take(self, request: Request, record: Record, outlet: Outlet) -> Call | Reply:
        """From the request to a call that every guard has admitted, or to the reply it gets instead."""
        house = self.house
        limits = house.config.limits
        if self.draining and not request.local:
            reply = error(503, "shutting_down", "the proxy is shutting down")
            reply.headers = [*reply.headers, (b"Retry-After", b"1")]
            return reply
        place = house.reading.place(request.method, request.target)
        if isinstance(place, Reply):
            return place
        body = b""
        try:
            if place.dialect is not None:
                body = await request.body.read(limits.request_bytes, limits.body_timeout)
            elif (request.body.length or 0) > limits.request_bytes:
                raise TooLarge(limits.request_bytes)
        except Unreadable as unreadable:
            outlet.closing = True
            return error(unreadable.status, unreadable.code, str(unreadable))
        now = self._loop.time()
        call = house.reading.call(request.method, place, request.headers, body, now)
        if isinstance(call, Reply):
            return call
        record.call = call
        return house.rules.admit(call, record, now)


async def _bounded(body: Body, limit: int) -> AsyncIterator[bytes]:
    """A *body* as it comes, whose length nobody may have declared; raises a kind of `Unreadable`."""
    size = 0
    async with aclosing(aiter(body)) as parts:
        async for part in parts:
            size += len(part)
            if size > limit:
                raise TooLarge(limit)
            yield part
