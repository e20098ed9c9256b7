"""The live page for people, and the stream that feeds it.

Here belongs what ``/guard/`` shows and how it is kept up to date: one document without anything from elsewhere, and
once a second one event with how things stand and what is new.  Nothing is gathered while nobody watches.  What the page
looks like is in `live/`; what it may change, `own` decides, whatever the page shows.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any, final

import orjson

from guardproxy import __version__
from guardproxy.core.values import Reply
from guardproxy.flow.read import error
from guardproxy.telemetry.model import FIRST

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guardproxy.app.desk import Desk
    from guardproxy.app.house import House
    from guardproxy.app.sinks import Sinks
    from guardproxy.core.values import Headers
    from guardproxy.net.server import Outlet, Request, Server

EVERY = 1.0
"""Seconds between two looks."""
WATCHERS = 16
"""People who may watch at once: each costs less than a tenth of a millisecond a second, and a little for each call."""
GATES = ("throttle", "load")
"""Guards that may hold calls to an upstream back, besides its circuit."""
EVENTS, CALLS = 50, 100
"""What of the past a page is shown that has just been opened, and how much it is shown at once."""

_STREAM: Headers = [
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),
]


@final
class Watch:
    """Shows one house; *servers* are those whose callers are counted, *may* says what a watcher may change."""

    def __init__(
        self,
        house: House,
        sinks: Sinks,
        desk: Callable[[], Desk],
        servers: Callable[[], Sequence[Server]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._house = house
        self._sinks = sinks
        self._desk = desk
        self._servers = servers
        self._loop = loop

    async def page(self, _request: Request, _path: str, _query: str) -> Reply:
        """The document."""
        return Reply(200, _DOCUMENT, _HEADERS)

    async def stream(self, request: Request, outlet: Outlet, *, admin: bool) -> None:
        """One event a second, until the watcher leaves or the proxy begins to end."""
        sinks = self._sinks
        if sinks.watchers >= WATCHERS:
            refusal = error(503, "overloaded", f"{WATCHERS} are watching already")
            outlet.reply(refusal.status, refusal.headers, refusal.body)
            return
        may = self._may(request, admin=admin)
        sinks.watchers += 1
        try:
            outlet.begin(200, _STREAM)
            event = call = 0
            while self._desk().house is self._house:  # after a reload the page comes again, and is shown the new one
                told = self.told(event, call)
                told["may"] = may
                event, call = _last(told["events"], event), _last(told["calls"], call)
                outlet.write(b"retry: 1000\ndata: %b\n\n" % orjson.dumps(told))
                await outlet.drain()
                if self._desk().draining:
                    break
                await asyncio.sleep(EVERY)
            outlet.end()
        finally:
            sinks.watchers -= 1

    def told(self, event: int, call: int) -> dict[str, Any]:
        """How things stand, and what has happened since the *event* and the *call* with these serial numbers."""
        house, sinks, now = self._house, self._sinks, self._loop.time()
        sinks.fold()
        breaker, cache, numbers = house.breaker, house.cache, sinks.metrics.glance()
        health = house.health.state(now)
        models: dict[str, Any] = {}
        circuits = {} if breaker is None else breaker.state(now)
        gates = {guard.name: guard.state(now) for guard in house.rules.guards if guard.name in GATES}
        for name, upstream in house.upstreams.items():
            circuit = circuits.get(name)
            models[name] = {
                "model": house.config.upstreams[name].model,
                "health": health[name],
                "circuit": None if circuit is None else {k: v for k, v in circuit.items() if k != "settings"},
                "connections": {"open": upstream.open, "idle": upstream.idle, "waiting": upstream.waiting},
                "gates": {gate: state[name] for gate, state in gates.items() if name in state},
                "budget": house.rules.budgets[name].left(now),
                "first": numbers["first"][name],
            }
        desk = self._desk()
        return {
            "now": now,
            "started": sinks.started,
            "version": __version__,
            "digest": house.loaded.digest,
            "draining": desk.draining,
            "in_flight": desk.in_flight,
            "connections": sum(server.connections for server in self._servers()),
            "lag": max(sinks.lags),
            "mode": house.modes.state(now),
            "cache": None if cache is None else cache.state(now),
            "models": models,
            "bounds": FIRST,
            **{name: numbers[name] for name in ("requests", "errors", "json", "lookups")},
            "events": sinks.feed.events(event)[-EVENTS:],
            "calls": sinks.feed.calls(call)[-CALLS:],
        }

    def _may(self, request: Request, *, admin: bool) -> str:
        """Who may change something: ``yes`` this watcher; else what it would take."""
        if not admin:
            return "port"
        if request.local:
            return "yes"
        return "token" if self._house.config.admin_token is not None else "loopback"


def _last(shown: list[dict[str, Any]], before: int) -> int:
    return int(shown[-1]["serial"]) if shown else before


def _document() -> tuple[bytes, Headers]:
    """The page in one piece, and a policy under which it can run nothing but its own script and reach nobody else."""
    folder = resources.files("guardproxy.app") / "live"
    page, css, js = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    document = page.replace("/*CSS*/", css).replace("/*JS*/", js)
    policy = (
        f"default-src 'none'; style-src {_digest(css)}; script-src {_digest(js)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return document.encode(), [
        (b"Content-Type", b"text/html; charset=utf-8"),
        (b"Content-Security-Policy", policy.encode()),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"Cross-Origin-Opener-Policy", b"same-origin"),
        (b"Cross-Origin-Resource-Policy", b"same-origin"),
        (b"Cache-Control", b"no-store"),
    ]


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_DOCUMENT, _HEADERS = _document()
