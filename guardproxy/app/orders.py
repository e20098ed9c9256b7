"""What own paths change: the cache, the ceiling, the circuits.

Here belongs the doing of each order.  Who may give one is `own`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final
from urllib.parse import parse_qs, unquote

import orjson

from guardproxy.core.values import News, Reply
from guardproxy.flow.read import JSON, error
from guardproxy.guards.breaker import State
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from guardproxy.app.house import House
    from guardproxy.net.server import Request

_STATES = {"open": State.OPEN, "closed": State.CLOSED, "auto": None}


@final
class Orders:
    """The write side of the proxy's own paths."""

    def __init__(
        self,
        house: House,
        tell: Callable[[list[News]], None],
        reload: Callable[[], Awaitable[list[str]]],
        loop: asyncio.AbstractEventLoop,
        ordered: Callable[[str | None, str | None], object] | None = None,
    ) -> None:
        self._ordered = ordered
        """Takes what is held, of which upstream or of the modes, for other proxies; None: there are none."""
        self._house = house
        self._tell = tell
        self._reload = reload
        self._loop = loop

    def table(self) -> Mapping[str, Any]:
        """Each method and path, and who obeys it."""
        return {
            "POST /guard/reload": self.reload,
            "DELETE /guard/cache": self.purge,
            "PUT /guard/mode": self.mode,
            "PUT /guard/breakers/": self.circuit,
        }

    async def reload(self, _request: Request, _path: str, _query: str, _body: bytes) -> Reply:
        """Read the configuration again; all of it is taken over, or nothing."""
        problems = await self._reload()
        return Reply(422 if problems else 200, orjson.dumps({"reloaded": not problems, "problems": problems}), JSON)

    async def purge(self, _request: Request, _path: str, query: str, _body: bytes) -> Reply:
        """Drop what is kept, of one upstream or all."""
        cache = self._house.cache
        name = parse_qs(query).get("model", [""])[-1]
        if name and name not in self._house.upstreams:
            names = ", ".join(self._house.upstreams)
            return error(422, "model_not_found", f"there is no model {name[:200]!r}; there are {names}", "model")
        self._house.rules.flights.close_all()  # what is on its way was asked before
        dropped = 0 if cache is None else cache.purge(name or None, self._loop.time())
        told = {"dropped": dropped}
        if self._house.far is not None:
            told["everywhere"] = await self._house.far.purge(name or None)
        return Reply(200, orjson.dumps(told), JSON)

    async def mode(self, _request: Request, _path: str, _query: str, body: bytes) -> Reply:
        """Hold the ceiling, or let go."""
        modes = self._house.modes
        given = _field(body, "ceiling")
        if given is not _ABSENT and (given is None or given in modes.names):
            now = self._loop.time()
            news = modes.hold(given, now)
            if news is not None:
                self._tell(self._house.rules.spread([news], now))
            if self._ordered is not None:
                self._ordered(None, given)
            return Reply(200, orjson.dumps(modes.state(now)), JSON)
        message = f'the body must be {{"ceiling": MODE}}, MODE being null or one of {", ".join(modes.names)}'
        return error(422, "invalid_request", message, "ceiling")

    async def circuit(self, _request: Request, path: str, _query: str, body: bytes) -> Reply:
        """Hold a circuit open or closed, or let go."""
        name = unquote(path.removeprefix("/guard/breakers/"))
        breaker = self._house.breaker
        if breaker is None or name not in breaker.circuits:
            names = ", ".join(breaker.circuits) if breaker is not None else "none: circuit_breaker is off"
            return error(404, "not_found", f"there is no circuit {name[:200]!r}; there are {names}")
        given = _field(body, "state")
        if not isinstance(given, str) or given not in _STATES:
            return error(422, "invalid_request", 'the body must be {"state": "open"}, "closed" or "auto"', "state")
        now = self._loop.time()
        self._tell(self._house.rules.spread(breaker.hold(name, _STATES[given], now), now))
        if self._ordered is not None:
            self._ordered(name, None if given == "auto" else given)
        return Reply(200, orjson.dumps(breaker.state(now)[name]), JSON)


_ABSENT = object()


def _field(body: bytes, name: str) -> Any:
    """The field *name* of a JSON object; `_ABSENT` where it is not there or the body is none."""
    try:
        doc = loads(body)
    except ValueError:
        return _ABSENT
    return doc.get(name, _ABSENT) if isinstance(doc, dict) else _ABSENT
