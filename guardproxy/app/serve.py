"""The life of the process: build, start, run, drain.

Here belongs the order in which everything starts and ends.  What is built is `house`'s, what a request meets is
`desk`'s.

    build ─► listen ─► say so ─► … ─► SIGTERM: readyz 503, new answers close ─► idle or time over ─► close ─► exit 0
                                  └─► a second signal: now
"""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING, final

from guardproxy import __version__
from guardproxy.app.carriage import Carriage
from guardproxy.app.desk import Desk
from guardproxy.app.house import build, read
from guardproxy.app.memory import Memory, granted
from guardproxy.app.orders import Orders
from guardproxy.app.own import Own
from guardproxy.app.sharing import connect
from guardproxy.app.sinks import Sinks
from guardproxy.app.tracing import spans
from guardproxy.app.views import Views
from guardproxy.app.watch import Watch
from guardproxy.config import registry
from guardproxy.config.files import version
from guardproxy.config.load import Invalid
from guardproxy.net.prober import Prober
from guardproxy.net.secure import identity
from guardproxy.net.server import Server, ServerLimits
from guardproxy.net.webhook import Webhook
from guardproxy.telemetry.exposition import exposition, registry_of
from guardproxy.telemetry.feed import Feed
from guardproxy.telemetry.gauges import Gauges, Readings
from guardproxy.telemetry.log import Log
from guardproxy.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.app.house import House
    from guardproxy.config.load import Loaded
    from guardproxy.core.values import Headers
    from guardproxy.net.server import Request

TICK = 1.0
"""Seconds between two looks at what changes by time alone."""
FIXED = ("listen", "admin", "tls", "admin_tls", "limits", "log", "alerts", "debug", "shared")
"""Sections that are read once, at start."""
YOUNG = (10_000, 20, 20)
"""When Python looks for circles of garbage: its own 700 would have it look after every dozen calls, for nothing."""


@final
class Proxy:
    """A proxy in this process."""

    def __init__(
        self,
        loaded: Loaded,
        loop: asyncio.AbstractEventLoop,
        *,
        load: Callable[[], Loaded] | None = None,
        fd: int = 1,
        human: bool | None = None,
    ) -> None:
        """Builds what *loaded* describes and opens nothing yet; *load* reads the configuration again."""
        config = loaded.config
        self._loop = loop
        self._load = load
        self._reading = asyncio.Lock()
        self.house = house = build(loaded, loop, time.time)
        wall = time.time
        people = sys.stdout.isatty() if human is None else human
        if config.log.format != "auto":
            people = config.log.format == "human"
        self.log = Log(fd, wall, level=config.log.level, human=people, share=config.log.sample)
        names, modes = list(house.upstreams), list(config.modes)
        hook = config.alerts.webhook
        webhook = None if hook is None else Webhook(hook, modes, wall, instance=socket.gethostname())
        metrics, feed = Metrics(names, modes), Feed(wall, bodies=config.debug.bodies)
        self.sinks = Sinks(metrics, self.log, feed, webhook, loop, wall, spans(config))
        self._collectors = registry_of(self.sinks.metrics, Readings(self._gauges))
        self._neighbours = None if house.far is None else connect(house.far, lambda: self.house, self.sinks, loop)
        self.prober, self._signals = self._prober(house), house.signals(loop)
        self.desk = Desk(house, self._own(house, self.prober), self.sinks.record, loop, self.sinks.spans)
        limits = ServerLimits(
            connections=config.limits.connections,
            per_client=config.limits.connections_per_client,
            header_timeout=config.limits.header_timeout,
            body_timeout=config.limits.body_timeout,
        )
        self.app = Server(self.desk.handle, settings=limits, error=self._refused, on_error=self._escaped)
        self.admin = Server(
            self.desk.handle_admin, settings=ServerLimits(), error=self._refused, on_error=self._escaped
        )
        self._identities = [identity(tls.certificate, tls.key, tls.client_ca) for tls in (config.admin_tls, config.tls)]
        self.memory = Memory(config.limits.memory or granted())
        self._ticking: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._seen = version(loaded.path)
        self._stop = asyncio.Event()
        self._now = asyncio.Event()

    async def start(self) -> None:
        """Listen and begin to check the models; raises `OSError` where an address cannot be had."""
        config = self.house.config
        admin, app = (shown and shown.context for shown in self._identities)
        await self.admin.start(str(config.admin), admin)
        await self.app.start(str(config.listen), app)
        self.prober.start()
        if self.house.far is not None:
            self.house.far.start()
        self._signals.start()
        self._ticking = self._loop.create_task(self._tick(), name="tick")
        addresses = {"listen": " ".join(self.app.addresses), "admin": " ".join(self.admin.addresses)}
        self.log.say("info", "ready", version=__version__, config=self.house.loaded.digest, **addresses)
        gc.collect()
        gc.freeze()  # what was built lives as long as the process: nothing to look through again and again
        gc.set_threshold(*YOUNG)

    async def reload(self) -> list[str]:
        """Read the configuration again and take over all of it, or nothing; returns what is wrong with it.

        Circuits, kept answers and connections of upstreams that are as they were go on; calls under way end as they
        began.
        """
        async with self._reading:
            before, problems = self.house.loaded.digest, await self._change()
        self.sinks.reload(before, self.house.loaded.digest, len(problems))
        if problems:
            self.log.say("error", "reload refused", problems=problems)
        else:
            self.log.say("info", "reloaded", config=self.house.loaded.digest)
        return problems

    async def _change(self) -> list[str]:
        load, loop = self._load, self._loop
        if load is None:
            return ["this proxy was not started from a configuration that can be read again"]
        try:
            # not on the loop: YAML takes its time, and so do large schemas
            loaded, schemas = await loop.run_in_executor(None, read, load)
            old = self.house
            for name in FIXED:
                if getattr(loaded.config, name) != getattr(old.config, name):
                    return [f"{name} cannot be changed without a restart"]
            house = build(loaded, loop, time.time, old, schemas)
            for shown in filter(None, self._identities):
                shown.renew()
        except Invalid as invalid:
            return [str(problem) for problem in invalid.problems]
        except (OSError, ValueError) as error:
            return [str(error)]
        self.sinks.metrics.know(list(house.upstreams), list(house.config.modes))
        former, self.prober = (self.prober, self._signals), self._prober(house)
        self._signals = house.signals(loop)
        self.desk.own = self._own(house, self.prober)
        self.house = self.desk.house = house
        for one in former:
            self._leave(loop.create_task(one.stop()))
        self.prober.start()
        self._signals.start()
        for name, upstream in old.upstreams.items():
            if house.upstreams.get(name) is not upstream:
                self._leave(loop.create_task(upstream.close()))
        return []

    def _leave(self, task: asyncio.Task[None]) -> None:
        """Let *task* end by itself."""
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _prober(self, house: House) -> Prober:
        chat = next(dialect for dialect in registry.dialects() if dialect.name == "chat")
        told, answered = self.sinks.check, self.sinks.metrics.answered
        return Prober(house.health, house.breaker, house.rules, house.performer, chat, told, answered, self._loop)

    def _own(self, house: House, prober: Prober) -> Own:
        views = Views(
            house,
            prober,
            self.sinks,
            exposition=self._exposition,
            draining=lambda: self.desk.draining,
            loop=self._loop,
        )
        ordered = None if self._neighbours is None else self._neighbours.ordered
        orders = Orders(house, self.sinks.news, self.reload, self._loop, ordered)
        watch = Watch(house, self.sinks, lambda: self.desk, lambda: (self.app, self.admin), self._loop)
        config = house.config
        shown, streams = {**views.table(), "/guard": watch.page}, {"/guard/live": watch.stream}
        carriers = Carriage(house, self._loop).table()
        return Own(shown, orders.table(), streams, carriers, hosts=config.own_hosts, token=config.admin_token)

    def stop(self) -> None:
        """Begin to drain; a second time: end now."""
        if self._stop.is_set():
            self._now.set()
        self._stop.set()

    async def run(self) -> None:
        """Serve until a signal comes, then drain and close."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, lambda: self._leave(self._loop.create_task(self._reload())))
        await self._stop.wait()
        await self.drain()
        await self.close()

    async def drain(self) -> None:
        """Let calls finish: loopback callers are served until they have been quiet for a while."""
        drain, desk, loop = self.house.config.drain, self.desk, self._loop
        desk.draining = True
        self.app.drain(local=True)
        self.log.say("info", "draining", in_flight=desk.in_flight)
        desk.last = loop.time()  # an app that ends at the same time may still call
        until = desk.last + drain.seconds
        while loop.time() < until and not self._now.is_set():
            if not desk.in_flight and loop.time() - desk.last >= drain.idle_seconds:
                break
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End everything; what is still under way is cut."""
        await self.app.close(0.0)
        await self.admin.close(0.0)
        self.desk.background.close()
        if self.house.far is not None:
            await self.house.far.close()
        await self.prober.stop()
        await self._signals.stop()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        for upstream in self.house.upstreams.values():
            await upstream.close()
        await self.house.scales.close()
        if self.sinks.webhook is not None:
            await self.sinks.webhook.close()
        self.sinks.fold()
        if self.sinks.spans is not None:
            await self._loop.run_in_executor(None, self.sinks.spans.close)
        self.log.say("info", "stopped")
        self.log.close()

    async def _reload(self) -> None:
        await self.reload()

    def _gauges(self) -> Gauges:
        return self.sinks.gauges(self.house, self.desk, (self.app, self.admin))

    def _exposition(self, accept: str) -> tuple[bytes, bytes]:
        self.sinks.fold()
        return exposition(self._collectors, accept)

    async def _tick(self) -> None:
        while True:
            due = self._loop.time() + TICK
            await asyncio.sleep(TICK)
            now = self._loop.time()
            self.sinks.lags.append(max(0.0, now - due))
            self.sinks.news(self.house.rules.tick(now))
            while (cache := self.house.cache) and cache.sweeping and self._loop.time() < now + TICK / 4:
                await asyncio.sleep(0)  # the calls that have come meanwhile go first
                cache.tick(self._loop.time())
            if said := self.memory.look(self.house.cache):
                self.log.say("warning", "short of memory", what=said, limit=self.memory.limit)
            self.desk.full = self.memory.full
            self.log.flush()
            if (seen := version(self.house.loaded.path)) != self._seen:
                self._seen = seen
                await self.reload()

    def _refused(self, status: int, code: str, message: str) -> tuple[Headers, bytes]:
        return self.sinks.refused(status, code, message, self.house.reading.ident([]))

    def _escaped(self, error: BaseException, request: Request | None) -> None:
        where = "" if request is None else f"{request.method} {request.target.partition('?')[0][:200]}"
        trace = "".join(traceback.format_exception(error)[-6:])
        self.log.say("error", "a request met a mistake of ours", request=where, error=repr(error), trace=trace)
