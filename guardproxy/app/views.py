"""What own paths show: health, readiness, metrics, state, models, the checklist.

Here belongs the shape of each of these answers.  Who may ask is `own`'s; what changes something is `orders`'.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, final
from urllib.parse import parse_qs, unquote

import orjson

from guardproxy import __version__
from guardproxy.checklist.checks import verify
from guardproxy.core.shadow import Shadow
from guardproxy.core.values import Reply
from guardproxy.flow.read import JSON, error
from guardproxy.guards.breaker import State
from guardproxy.guards.health import UNASKED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from guardproxy.app.house import House
    from guardproxy.app.sinks import Sinks
    from guardproxy.guards.health import Check
    from guardproxy.net.prober import Prober
    from guardproxy.net.server import Request

TEXT = [(b"Content-Type", b"text/plain; charset=utf-8")]


@final
class Views:
    """The read side of the proxy's own paths."""

    def __init__(
        self,
        house: House,
        prober: Prober,
        sinks: Sinks,
        exposition: Callable[[str], tuple[bytes, bytes]],
        draining: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._house = house
        self._prober = prober
        self._sinks = sinks
        self._exposition = exposition
        self._draining = draining
        self._loop = loop
        self._verifying = asyncio.Lock()

    def table(self) -> Mapping[str, Any]:
        """Each path and who answers it."""
        return {
            "/health/llm": self.health,
            "/healthz": self.alive,
            "/readyz": self.ready,
            "/metrics": self.metrics,
            "/guard/state": self.state,
            "/guard/verify": self.verify,
            "/guard/report": self.report,
            "/guard/requests": self.requests,
            "/guard/requests/": self.request,
            "/v1/models": self.models,
            "/v1/models/": self.model,
        }

    async def alive(self, _request: Request, _path: str, _query: str) -> Reply:
        """Liveness: that this is answered is the answer."""
        return Reply(200, b"ok\n", TEXT)

    async def ready(self, _request: Request, _path: str, _query: str) -> Reply:
        """Readiness: yes until the proxy drains, whatever the upstreams do."""
        return Reply(503, b"draining\n", TEXT) if self._draining() else Reply(200, b"ready\n", TEXT)

    async def metrics(self, request: Request, _path: str, _query: str) -> Reply:
        """Everything countable, in the format that is preferred."""
        accept = ",".join(found.decode("latin-1") for name, found in request.headers if name.lower() == b"accept")
        kind, body = self._exposition(accept)
        return Reply(200, body, [(b"Content-Type", kind)])

    async def health(self, _request: Request, _path: str, query: str) -> Reply:
        """The health of one model, or of all, by a test inference made now."""
        name = parse_qs(query).get("model", ["all"])[-1]
        names = list(self._house.upstreams)
        if name == "all":
            checks = await asyncio.gather(*(self._prober.check(one) for one in names))
            models = {one: self._health(one, check) for one, check in zip(names, checks, strict=True)}
            well = all(told["status"] == "healthy" for told in models.values())
            return _json(200, {"status": "healthy" if well else "degraded", "models": models})
        if name not in names:
            message = f"there is no model {name[:200]!r}; there are all, {', '.join(names)}"
            return error(422, "model_not_found", message, "model")
        told = self._health(name, await self._prober.check(name))
        return _json(200 if told["status"] == "healthy" else 503, told)

    async def state(self, _request: Request, _path: str, _query: str) -> Reply:
        """What the proxy is like at this moment."""
        return _json(200, self.told())

    async def report(self, _request: Request, _path: str, _query: str) -> Reply:
        """What the guards have done since the start, and what those in shadow would have."""
        self._sinks.fold()
        house, config, now = self._house, self._house.config, self._loop.time()
        numbers = self._sinks.metrics.glance()
        gates = {guard.name: guard.state(now)["would"] for guard in house.rules.guards if isinstance(guard, Shadow)}
        guards: dict[str, dict[str, Any]] = {
            "json": {
                "enabled": config.json_guard.enabled,
                "results": numbers["json"],
                "invalid": numbers["invalid"],
            },
            "cache": {"enabled": config.cache.enabled, **numbers["lookups"]},
            "breaker": {"enabled": config.circuit_breaker.enabled},
            "throttle": {"enabled": config.throttle.enabled},
            "load": {"enabled": config.load.enabled},
        }
        for name, would in gates.items():
            guards[name]["would"] = would
        calls = sum(count for source, count in numbers["requests"].items() if source != "own")
        told = {"seconds": round(self._sinks.age, 1), "digest": house.loaded.digest, "calls": calls, "guards": guards}
        return _json(200, told)

    async def requests(self, _request: Request, _path: str, query: str) -> Reply:
        """The last calls that are over, each in a line, the latest first."""
        since = parse_qs(query).get("since", ["0"])[-1]
        self._sinks.fold()
        calls = self._sinks.feed.calls(int(since) if since.isascii() and since.isdigit() else 0)
        return _json(200, {"requests": calls[::-1]})

    async def request(self, request: Request, path: str, _query: str) -> Reply:
        """One of them, with each step."""
        ident = unquote(path.removeprefix("/guard/requests/"))
        self._sinks.fold()
        told = self._sinks.feed.call(ident)
        if told is None:
            return error(404, "not_found", f"{ident[:128]!r} is none of the last calls that are over", "id")
        if not request.local:
            told.pop("bodies", None)
        return _json(200, told)

    async def verify(self, _request: Request, _path: str, _query: str) -> Reply:
        """The pre-promotion checklist, run now."""
        async with self._verifying:
            names = list(self._house.upstreams)
            checks = await asyncio.gather(*(self._prober.check(name) for name in names))
            models = {name: self._health(name, check) for name, check in zip(names, checks, strict=True)}
        house, now = self._house, self._loop.time()
        breaker, config = house.breaker, house.config
        off = config.circuit_breaker.enabled
        circuits = off if breaker is None else {name: c.state.value for name, c in breaker.circuits.items()}
        told = verify(
            config.json_guard,
            circuits,
            config.cache,
            models,
            now,
            digest=house.loaded.digest,
            schemas=house.parts.schemas,
            reloaded=self._sinks.reloaded,
        )
        return _json(200, told)

    async def models(self, _request: Request, _path: str, _query: str) -> Reply:
        """Every name that may be written into ``model``."""
        return _json(200, {"object": "list", "data": [_model(*pair) for pair in self._house.reading.router.names()]})

    async def model(self, _request: Request, path: str, _query: str) -> Reply:
        """One of them."""
        name = unquote(path.removeprefix("/v1/models/"))
        for pair in self._house.reading.router.names():
            if pair[0] == name:
                return _json(200, _model(*pair))
        return error(404, "model_not_found", f"there is no model {name[:200]!r}", "model")

    def told(self) -> dict[str, Any]:
        """The state as a document."""
        house, now = self._house, self._loop.time()
        guards = {guard.name: guard.state(now) for guard in house.rules.guards}
        breaker, cache = house.breaker, house.cache
        names = list(house.upstreams)
        open_ = {name for name in names if breaker is not None and breaker.circuits[name].state is State.OPEN}
        return {
            "version": __version__,
            "config": {"path": house.loaded.path, "digest": house.loaded.digest},
            "draining": self._draining(),
            "available": [name for name in names if name not in open_],
            "mode": house.modes.state(now),
            "breakers": {} if breaker is None else guards.pop("breaker"),
            "cache": {} if cache is None else cache.state(now),
            "shared": {} if house.far is None else house.far.state(),
            "guards": guards,
            "upstreams": {name: self._upstream(name) for name in names},
            "events": self._sinks.feed.events(),
        }

    def _upstream(self, name: str) -> dict[str, Any]:
        settings, upstream = self._house.config.upstreams[name], self._house.upstreams[name]
        return {
            "url": settings.url,
            "model": settings.model,
            "aliases": list(settings.aliases),
            "connections": {"open": upstream.open, "idle": upstream.idle, "waiting": upstream.waiting},
        }

    def _health(self, name: str, check: Check) -> dict[str, Any]:
        """One model in the shape that scripts read."""
        breaker = self._house.breaker
        circuit = "closed" if breaker is None else breaker.circuits[name].state.value
        pulse = self._house.health.pulses[name]
        told: dict[str, Any] = {"model": name, "status": "healthy" if check.ok and pulse.healthy else "unhealthy"}
        if check.reason != UNASKED:
            told["latency_ms"] = int(check.seconds * 1000)
        told["circuit_state"] = "error" if not check.ok and circuit == "closed" else circuit
        if not check.ok:
            told["reason"] = check.reason
        elif not pulse.healthy:
            told["reason"] = f"fewer than {self._house.config.health.rise} checks in a row have succeeded"
        if check.detail and check.detail != check.reason:
            told["detail"] = check.detail
        return told


def _model(name: str, upstream: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": upstream}


def _json(status: int, doc: Any) -> Reply:
    return Reply(status, orjson.dumps(doc, option=orjson.OPT_APPEND_NEWLINE), JSON)
