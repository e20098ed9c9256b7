"""The control endpoint of a simulated server, `/simulate`: orders, state, reset.

Here belongs what is read from and written to that one path. It must stay reachable while the server is "down", so a
server that is down over HTTP still listens: every other request has its connection reset before any byte.
(`Simulator.down()` in Python stops listening altogether: connection refused.)

    POST /simulate {"fault": "latency=0.5,reset-before", "times": 3}   replaces all orders; times, rate may stand apart
    POST /simulate {"fault": ["status=503,rate=0.1", "latency=0.2"]}   several orders at once
    POST /simulate {"fault": null}                                     good manners
    POST /simulate {"down": true}                                      and false
    GET /simulate                                                      state, counters, the last visits
    DELETE /simulate                                                   counters to nought, orders as at the start, up

Every answer is the state. An order nobody can follow is a 400 that lists the right names, and changes nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import web

from guardproxy.simulator import shapes
from guardproxy.simulator.manners import MannerError, Manners

if TYPE_CHECKING:
    from guardproxy.simulator.server import Simulator
    from guardproxy.simulator.visits import Visit

PATH: Final = "/simulate"
_SHOWN = 20
_KEYS: Final = {"fault", "times", "rate", "down"}


def control(simulator: Simulator, visit: Visit) -> web.Response:
    """Do what a request to `/simulate` asks, and answer with the state."""
    try:
        match visit.method:
            case "GET" | "HEAD":
                pass
            case "POST":
                _order(simulator, visit.body)
            case "DELETE":
                simulator.reset()
            case _:
                return _json(shapes.error("GET, POST or DELETE", "MethodNotAllowedError", 405), 405)
    except MannerError as problem:
        return _json(shapes.error(str(problem), "BadRequestError", 400, "fault"), 400)
    return _json(state(simulator))


def _order(simulator: Simulator, body: Any) -> None:
    if not isinstance(body, dict) or not body or not body.keys() <= _KEYS:
        raise MannerError(f"the body must be an object with some of {', '.join(sorted(_KEYS))}")
    down = body.get("down", simulator.resets_all)
    if not isinstance(down, bool):
        raise MannerError("down must be true or false")
    if "fault" in body:
        lines = body["fault"] if isinstance(body["fault"], list) else [body["fault"]]
        if not all(line is None or isinstance(line, str) for line in lines):
            raise MannerError("fault must be an order, a list of orders, or null")
        limits = ",".join(f"{key}={body[key]}" for key in ("times", "rate") if body.get(key) is not None)
        limit = Manners.parse(limits)
        orders = [limit.over(Manners.parse(line)) for line in lines if line]
        simulator.faults = orders
    elif "times" in body or "rate" in body:
        raise MannerError("times and rate limit a fault: say which")
    simulator.resets_all = down


def state(simulator: Simulator) -> dict[str, Any]:
    """What `GET /simulate` says: who this is, the orders and how far they are, what was seen."""
    memory = simulator.memory
    return {
        "name": simulator.name,
        "model": simulator.model,
        "url": simulator.url,
        "pid": os.getpid(),
        "down": simulator.resets_all,
        "orders": simulator.orders.state(),
        "calls": dict(memory.calls),
        "manners": dict(memory.manners),
        "fates": dict(memory.fates),
        "open": len(memory.open),
        "last": [visit.state() for visit in list(memory.requests)[-_SHOWN:]],
    }


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
