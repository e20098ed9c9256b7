"""A proxy between model servers and apps that are nothing but sockets, and the books that must balance.

    async with Trial({"retry": {"attempts": 1}}) as trial:
        trial.llama.play = says(whole(WELL)[:-5])
        seen = await trial.ask(asking())

Here belong the servers, the app and the books: how often each server was asked, what circuits and metrics say, and
that tasks, sockets, permits and the cache's bytes are back where they were.  What each fault must look like is for
the tests.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from guardproxy.app.serve import Proxy
from guardproxy.config.load import loads
from guardproxy.core.circuit import Circuit
from tests.app.stand import merged
from tests.faults.wire import WELL, Seen, read, request, whole
from tests.net.raw import Peer, Raw, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from guardproxy.config.load import Loaded

    Play = Callable[[Peer], Awaitable[bool | None]]
    """What a server does once it has read a request; true: another request may follow."""

SOON = 15.0
"""Seconds after which a test that waits has failed: much, for machines are shared."""
NEVER = "X-Guardproxy-Downshift: never"
PROBE = b"perfume description"
"""What health checks ask for: they are answered well, and not counted."""
NAMES = ("llama", "mistral", "qwen")
CALM: dict[str, Any] = {
    "listen": "127.0.0.1:0",
    "admin": "127.0.0.1:0",
    "json_guard": {"backoff_base": 0.01, "jitter": 0.01},
    "health": {"interval": 300, "timeout": 5},
    "timeouts": {"connect": 5, "first_token": 10, "stall": 10, "total": 20},
    "circuit_breaker": {"minimum_requests": 100},
    "retry": {"attempts": 0, "min_per_second": 100},
    "downshift": {"recovery_seconds": 0.1, "dwell_seconds": 0},
    "drain": {"seconds": 2, "idle_seconds": 0.1},
}
"""Nothing is tried again and no circuit opens, so that each fault is seen as it is."""


def says(*pieces: bytes, then: str = "fin", pause: float = 0.01) -> Play:
    """Write *pieces*, each by itself, *then* end with ``fin`` or ``rst``, ``stay`` silently, or ``keep`` serving."""

    async def play(peer: Peer) -> bool:
        for number, part in enumerate(pieces):
            if number:
                await asyncio.sleep(pause)
            if peer.writer.is_closing():
                return False  # the proxy has had enough
            await peer.send(part)
        if then == "keep":
            return True
        if then == "stay":
            await left(peer)
        else:
            await asyncio.sleep(0.01)
            getattr(peer, then)()
        return False

    return play


def turns(*plays: Play) -> Play:
    """One play after the other, the last for ever."""
    rest = list(plays)

    async def play(peer: Peer) -> bool | None:
        return await (rest.pop(0) if len(rest) > 1 else rest[0])(peer)

    return play


async def left(peer: Peer) -> None:
    """Wait until the proxy has closed the connection."""
    try:
        while await peer.reader.read(65536):
            pass
    except ConnectionError:
        pass


well = says(whole(WELL), then="keep")


class Model:
    """A model server made of bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.play: Play = well
        self.calls: list[bytes] = []
        """Requests read, health checks aside."""
        self.url = ""
        self.raw: Raw

    async def __call__(self, peer: Peer) -> None:
        while asked := await peer.request():
            if PROBE in asked:
                await peer.send(whole(WELL, b"Connection: close"))
                return
            self.calls.append(asked)
            peer.last = asked
            if not await self.play(peer):
                return


@dataclass(frozen=True)
class Books:
    """What must balance."""

    metrics: Counter[str]
    windows: dict[str, tuple[int, int]]
    calls: dict[str, int]


class Trial:
    """The proxy, three model servers and an app."""

    def __init__(self, changes: Mapping[str, Any] | None = None, *, urls: Mapping[str, str] | None = None) -> None:
        """*urls* stand in for those of model servers; ``{port}`` in one is that server's port."""
        self.changes = dict(changes or {})
        self._urls = dict(urls or {})
        self._instead: dict[str, Any] | None = None
        self.models = {name: Model(name) for name in NAMES}
        self.llama, self.mistral, self.qwen = self.models.values()

    async def __aenter__(self) -> Self:
        self._fds_at_first = _fds()
        async with AsyncExitStack() as stack:
            for model in self.models.values():
                raw = model.raw = await stack.enter_async_context(serve(model))
                model.url = self._urls.get(model.name, raw.url).format(port=raw.port)
            self._log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- the stack closes it
            loop = asyncio.get_running_loop()
            loaded = self.load()
            self.proxy = Proxy(loaded, loop, load=self.load, fd=self._log.fileno(), human=False)
            await self.proxy.start()
            stack.push_async_callback(self.proxy.close)
            self.app, self.admin = self.proxy.app.addresses[0], self.proxy.admin.addresses[0]
            await self.until(lambda: all(pulse.last for pulse in self.proxy.house.health.pulses.values()))
            await self.until(lambda: not self.proxy.prober._running)
            self._stack = stack.pop_all()
        self._tasks = _tasks()
        self._fds = self._own_fds()
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                await self.balanced()
                mistakes = [line for line in self.log_lines if line["msg"] == "a request met a mistake of ours"]
                assert not mistakes, mistakes
        finally:
            await self._stack.aclose()
        if kind is None:
            await self.until(lambda: _fds() <= self._fds_at_first)

    def load(self) -> Loaded:
        urls = {model.name: {"url": model.url, "model": model.name} for model in self.models.values()}
        return loads(json.dumps(merged(merged(CALM, self._instead or {"upstreams": urls}), self.changes)))

    def load_upstreams(self, upstreams: Mapping[str, Any], **more: Any) -> None:
        """Have the next reload find these *upstreams* instead."""
        self._instead = {"upstreams": upstreams, **more}

    # -- asking

    async def send(self, *parts: bytes, to: str = "", pause: float = 0.0) -> bytes:
        """Send bytes over a connection of their own; answers everything that came until the proxy closed it."""
        reader, writer = await asyncio.open_connection(*_host_port(to or self.app))
        came = bytearray()
        try:
            async with asyncio.timeout(SOON):
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(pause)
                while more := await reader.read(1 << 16):
                    came += more
        except ConnectionResetError:
            pass
        finally:
            writer.transport.abort()
        return bytes(came)

    async def ask(self, body: Any = None, *fields: str, to: str = "", **more: Any) -> Seen:
        """Ask on a connection of its own, and read the one answer there must be."""
        wire = await self.send(request(body, *fields, **more), to=to)
        return read(wire, bodiless=more.get("method") == "HEAD")[0]

    async def get(self, path: str) -> Seen:
        return await self.ask(None, method="GET", path=path, to=self.admin, host="127.0.0.1")

    # -- the books

    async def books(self) -> Books:
        """How things stand."""
        lines = [line for line in (await self.get("/metrics")).body.decode().splitlines() if line[:1] not in ("#", "")]
        metrics = Counter({name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)})
        breaker = self.proxy.house.breaker
        circuits = {} if breaker is None else breaker.circuits
        windows = {name: (circuit._window.bad, circuit._window.total) for name, circuit in circuits.items()}
        return Books(metrics, windows, {name: len(model.calls) for name, model in self.models.items()})

    @asynccontextmanager
    async def accounts(
        self, breaker: str = "-", *, kept: int = 0, told: Mapping[str, float] | None = None, **calls: int
    ) -> AsyncIterator[None]:
        """Hold what happens within to the books.

        *calls*: how often each server is asked; *breaker*: what llama's circuit makes of it, as in the list, more
        than once as ``FF``; *told*: by how much metrics move.
        """
        before = await self.books()
        yield
        await self.balanced(kept=kept)
        after = await self.books()
        assert {name: after.calls[name] - before.calls[name] for name in NAMES} == dict.fromkeys(NAMES, 0) | calls
        (bad, marks), (old_bad, old_marks) = after.windows["llama"], before.windows["llama"]
        assert (bad - old_bad, marks - old_marks) == (breaker.count("F"), breaker.count("F") + breaker.count("S"))
        changed = moved(before, after)
        assert {name: changed.get(name, 0) for name in told or {}} == dict(told or {})

    @property
    def circuits(self) -> dict[str, Circuit]:
        """Those of all."""
        breaker = self.proxy.house.breaker
        assert breaker is not None
        return breaker.circuits

    @property
    def circuit(self) -> Circuit:
        """That of llama."""
        return self.circuits["llama"]

    @property
    def kept(self) -> tuple[int, int]:
        """Answers in the cache, and their bytes."""
        cache = self.proxy.house.cache
        return (0, 0) if cache is None else (len(cache.entries), cache.entries.bytes)

    async def balanced(self, *, kept: int | None = None) -> None:
        """Wait until everything lent has been given back; *kept*: so many answers may be, and are then dropped."""
        if kept is not None:
            assert self.kept[0] == kept
        if self.proxy.house.cache is not None:
            self.proxy.house.cache.purge()
        assert self.kept == (0, 0)
        deadline = time.monotonic() + SOON
        while owed := self._owed():
            assert time.monotonic() < deadline, owed
            await asyncio.sleep(0.01)

    def _owed(self) -> list[str]:
        """What has not been given back."""
        house = self.proxy.house
        owed = [f"{self.proxy.desk.in_flight} in flight"] if self.proxy.desk.in_flight else []
        owed += [repr(up) for up in house.upstreams.values() if up.open != up.idle or up.waiting]
        if house.breaker is not None:
            owed += [f"a probe of {name}" for name, circuit in house.breaker.circuits.items() if circuit._probes]
        owed += [repr(house.scales)] if house.scales._busy else []
        owed += [repr(caller) for caller in self.proxy.app._front.callers]
        owed += [f"task {name}" for name in (_tasks() - self._tasks)]
        if (fds := self._own_fds()) > self._fds:
            owed.append(f"{fds - self._fds} sockets")
        return owed

    def _own_fds(self) -> int:
        """Files and sockets open, without what is kept for reuse: connections, and processes that judge.

        Both ends of a connection are in this process, and both pipes of a process.
        """
        house = self.proxy.house
        return _fds() - 2 * (sum(up.idle for up in house.upstreams.values()) + len(house.scales._idle))

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        self.proxy.sinks.fold()
        self.proxy.log.close()
        size = os.fstat(self._log.fileno()).st_size
        return [json.loads(line) for line in os.pread(self._log.fileno(), size, 0).splitlines()]

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + SOON
        while not true():
            assert time.monotonic() < deadline, "it did not become true in time"
            await asyncio.sleep(0.005)


def moved(before: Books, after: Books) -> dict[str, float]:
    """Which metrics moved, and by how much."""
    names = before.metrics.keys() | after.metrics.keys()
    return {
        name: after.metrics[name] - before.metrics[name]
        for name in names
        if after.metrics[name] != before.metrics[name]
    }


def _fds() -> int:
    """Files and sockets this process has open; the loop keeps /dev/null as a spare once it has accepted anybody."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            count += str(link.readlink()) != os.devnull
    return count


def _tasks() -> Counter[str]:
    """Tasks by the code that they run, those of the model servers aside."""
    names = (getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks() if not task.done())
    return Counter(name for name in names if not name.startswith(("Raw.", "test_")))


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
