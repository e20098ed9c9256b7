"""The simulated server itself: its socket, its life, and who answers which request.

Here belongs listening, going down and coming back, and stopping. Here does not belong what is answered on which path
(`endpoints`, `control`).
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Self, final

import orjson
from aiohttp import web

from guardproxy.simulator import endpoints, wire
from guardproxy.simulator.composing import Speaker
from guardproxy.simulator.control import PATH, control
from guardproxy.simulator.engines import ENGINES
from guardproxy.simulator.manners import MannerError, Manners
from guardproxy.simulator.orders import Orders, conversation_of
from guardproxy.simulator.shapes import error
from guardproxy.simulator.visits import Memory, Visit

if TYPE_CHECKING:
    from collections import Counter, deque
    from collections.abc import Sequence
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader
    from aiohttp.web_protocol import RequestHandler

    Faults = str | Manners | Sequence[str | Manners] | None

_MOST_BYTES = 128 * 2**20
_BACKLOG = 1024
# How long (seconds) `stop` waits for requests to notice that their connection has gone.
_FAREWELL = 1.0


@final
class Simulator:
    """A simulated OpenAI-compatible model server that misbehaves on order.

    `name` and `model` (the id it serves) are what it calls itself; any model name is accepted unless `strict-model` is
    ordered. `port` 0 takes a free one. `faults` are the orders it starts with: a line such as `latency=0.2,status=503`,
    a `Manners`, or several of either, all due at once. The last `remember` requests are kept.

    `engine` is whose manners it has (`engines.ENGINES`).

    `async with Simulator(...) as simulator:` starts and stops it. Raises `MannerError` for an order nobody can follow,
    `OSError` from `start` where the port is taken. One event loop only; no method is safe from another thread.
    """

    def __init__(
        self,
        name: str = "qwen",
        model: str = "Qwen/Qwen2.5-7B-Instruct",
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        faults: Faults = None,
        remember: int = 200,
        engine: str = "openai",
    ) -> None:
        self.name, self.model, self.host, self.port = name, model, host, port
        self.engine = ENGINES[engine]
        self.memory = Memory(remember)
        self.orders = Orders()
        # Over HTTP a server is down by resetting all connections but those to `/simulate`, which must hear "up" again.
        self.resets_all = False
        self._at_start = _orders(faults)
        self.faults = self._at_start
        self._listener: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._server: web.Server | None = None

    def __repr__(self) -> str:
        condition = "listening" if self._listener else "down" if self._reserved else "stopped"
        return f"<Simulator {self.name} {self.url} {condition} faults={[str(each) for each in self.faults]}>"

    @property
    def url(self) -> str:
        """The base URL without `/v1`, such as `http://127.0.0.1:18001`."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    @property
    def faults(self) -> list[Manners]:
        """The standing orders. Set a line, a `Manners`, a sequence of them, or None; their counting starts anew."""
        return [order.manners for order in self.orders.standing]

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.orders.stand(_orders(faults))

    @property
    def calls(self) -> Counter[str]:
        """How many requests came to each path, since the last `reset` (those to `/simulate` are not counted)."""
        return self.memory.calls

    @property
    def requests(self) -> deque[Visit]:
        """The last requests, the newest last, with headers, body and what became of them."""
        return self.memory.requests

    async def start(self) -> None:
        """Listen. Raises `OSError` where that cannot be."""
        self._server = web.Server(
            self._serve, request_factory=_request, handler_cancellation=True, access_log=None, keepalive_timeout=75.0
        )
        self._reserve()
        await self.up()

    async def stop(self) -> None:
        """Stop listening, close every connection and wait until the requests on them have ended. Does no harm twice."""
        if self._listener is not None:
            self._listener.close()
        if self._reserved is not None:
            self._reserved.close()
        self._listener = self._reserved = None
        if self._server is not None:
            self._leave("down")
            await self._server.shutdown(_FAREWELL)
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def down(self) -> None:
        """Stop listening (connection refused) and reset every connection. The port stays reserved for `up`."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._reserve()
        self._leave("down")

    async def up(self) -> None:
        """Listen again on the same port. Does nothing where it listens already."""
        if self._reserved is not None and self._server is not None:
            reserved, self._reserved = self._reserved, None
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(self._server, sock=reserved, backlog=_BACKLOG)

    async def idle(self, timeout: float = 1.0) -> None:
        """Return when no request is open, so that a test may read how they ended; `TimeoutError` after some seconds."""
        await asyncio.wait_for(self.memory.idle(), timeout)

    def reset(self) -> None:
        """Counters to nought, orders as at the start, and not down over HTTP."""
        self.memory.forget()
        self.orders = Orders()
        self.faults = self._at_start
        self.resets_all = False

    def _reserve(self) -> None:
        # Bound but not listening: connections are refused, and nobody else is given the port meanwhile.
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        reserved = socket.socket(family, socket.SOCK_STREAM)
        try:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((self.host, self.port))
        except OSError:
            reserved.close()
            raise
        self.port = reserved.getsockname()[1]
        self._reserved = reserved

    def _leave(self, fate: str) -> None:
        for visit in self.memory.open:
            visit.became(fate)
        if self._server is not None:
            for connection in self._server.connections:
                wire.reset(connection.transport)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        visit = Visit(request.method, request.raw_path, request.headers, peer[:2] if peer else None)
        if visit.path == PATH:
            await _read(request, visit)
            return control(self, visit)
        self.memory.begins(visit)
        try:
            return await self._answer(request, visit)
        except (asyncio.CancelledError, ConnectionError):
            visit.became("cancelled")
            raise
        finally:
            self.memory.ends(visit)

    async def _answer(self, request: web.BaseRequest, visit: Visit) -> web.StreamResponse:
        if self.resets_all:
            return wire.reset_visit(request, visit)
        await _read(request, visit)
        try:
            asked = Manners.parse(",".join(request.headers.getall("X-Simulate", [])))
        except MannerError as problem:
            body = error(str(problem), "BadRequestError", 400, "X-Simulate")
            return await wire.send_whole(request, orjson.dumps(body), 400, {}, Manners(), visit)
        # Standing orders spare the paths beside inference: a real engine that hangs still answers /health.
        if visit.path in endpoints.INFERENCE:
            manners = self.orders.due(asked, conversation_of(visit.body))
        else:
            manners = asked.over(self.orders.beside_inference())
        visit.manners = manners.names
        return await endpoints.answer(
            request, visit, manners, Speaker(name=self.name, model=self.model, engine=self.engine)
        )


def _orders(faults: Faults) -> list[Manners]:
    several = [] if faults is None else [faults] if isinstance(faults, str | Manners) else faults
    return [Manners.parse(each) if isinstance(each, str) else each for each in several]


async def _read(request: web.BaseRequest, visit: Visit) -> None:
    visit.raw = await request.read()
    try:
        visit.body = orjson.loads(visit.raw) if visit.raw else None
    except orjson.JSONDecodeError:
        visit.body = None


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MOST_BYTES)
