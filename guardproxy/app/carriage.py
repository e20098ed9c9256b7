"""Orders that carry a file: what is kept goes out and comes in, piece by piece.

Here belongs how the pieces travel.  What is in them is `export`'s, who may give such an order `own`'s.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, final

import orjson

from guardproxy.app import export
from guardproxy.core.values import Reply
from guardproxy.flow.read import JSON, error
from guardproxy.net.server import Unreadable
from guardproxy.openai.keeping import OVERHEAD

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Mapping

    from guardproxy.app.house import House
    from guardproxy.net.server import Outlet, Request

_FILE = [(b"Content-Type", b"application/octet-stream")]
SEALED = 4096
"""Bytes that a record may have besides what is kept in it."""


@final
class Carriage:
    """Takes files out of *house*, and puts them in."""

    def __init__(self, house: House, loop: asyncio.AbstractEventLoop) -> None:
        self._house = house
        self._loop = loop

    def table(self) -> Mapping[str, Any]:
        """Each method and path, and who obeys it."""
        return {"POST /guard/cache/dump": self.dump, "PUT /guard/cache/load": self.load}

    async def dump(self, request: Request, outlet: Outlet) -> None:
        """Give out what is kept, where that is allowed, as fast as it is taken."""
        del request
        house, cache = self._house, self._house.cache
        if cache is None or not cache.settings.export:
            _answer(outlet, error(403, "forbidden", "what is kept is not given out: see cache.export"))
            return
        outlet.begin(200, _FILE)
        pieces = export.dump(cache, export.seal_of(house.config), house.rules.epoch, self._loop.time())
        async for piece in pieces:
            outlet.write(piece)
            await outlet.drain()
        outlet.end()

    async def load(self, request: Request, outlet: Outlet) -> None:
        """Keep what another proxy has given out, where that is allowed."""
        house, cache = self._house, self._house.cache
        if cache is None or not cache.settings.export:
            _answer(outlet, error(403, "forbidden", "nothing is put into the cache from outside: see cache.export"))
            return
        most = house.config.limits.response_bytes + OVERHEAD + SEALED
        try:
            async with aclosing(aiter(request.body)) as pieces:
                reply = await self._loaded(pieces, most)
                async for _ in pieces:  # who is still sending hears the answer when he has done
                    pass
        except Unreadable as unreadable:
            outlet.closing = True
            reply = error(unreadable.status, unreadable.code, str(unreadable))
        _answer(outlet, reply)

    async def _loaded(self, pieces: AsyncIterator[bytes], most: int) -> Reply:
        house, cache = self._house, self._house.cache
        assert cache is not None  # noqa: S101 -- looked at by the only one who calls
        seal, now = export.seal_of(house.config), self._loop.time()
        try:
            loaded = await export.load(cache, seal, pieces, most, house.rules.epoch, now)
        except export.Unfit as unfit:
            return error(422, "invalid_request", str(unfit))
        return Reply(200, orjson.dumps({"kept": loaded.kept, "of_no_use": loaded.of_no_use}), JSON)


def _answer(outlet: Outlet, reply: Reply) -> None:
    outlet.reply(reply.status, reply.headers, reply.body)
