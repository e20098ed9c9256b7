"""What goes wrong around a proxy while it is under load: reloads, model servers and stores that die and come back.

Here belong the making of trouble and its repair.  What must be true meanwhile is `soak`'s.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from typing import TYPE_CHECKING, Any, Self

from tests.app.stand import merged
from tests.stores.server import Redis, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from tests.faults.program import Program

SECRET = "between-us"


class Shared:
    """A real store on a port that stays the same, or none where the program is not installed."""

    def __init__(self) -> None:
        self.there = shutil.which("redis-server") is not None
        self.port = free_port()
        self._redis: Redis

    @property
    def settings(self) -> dict[str, Any]:
        """What a proxy must be told to use it."""
        if not self.there:
            return {}
        url = f"redis://127.0.0.1:{self.port}/0"
        return {"shared": {"url": url, "secret": SECRET, "timeout": 0.05, "state": True}}

    async def __aenter__(self) -> Self:
        if self.there:
            self._redis = await Redis(port=self.port).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.there:
            await self._redis.__aexit__()

    async def die(self, seconds: float) -> None:
        """Be killed, and started again as empty as it was at first."""
        await self._redis.__aexit__()
        await asyncio.sleep(seconds)
        self._redis = await Redis(port=self.port).__aenter__()

    async def hang(self, seconds: float) -> None:
        """Answer nobody for a while."""
        self._redis.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            self._redis.go_on()


async def reloads(
    run: Program, settings: Mapping[str, Any], dice: Random, until: float, count: Callable[[str], None]
) -> None:
    """Other settings every few seconds, by signal."""
    while time.monotonic() < until:
        await asyncio.sleep(5.0)
        run.write(merged(settings, {"cache": {"ttl_seconds": dice.choice((4, 5, 6))}}))
        run.signal(signal.SIGHUP)
        count("reloads")


async def deaths(run: Program, dice: Random, until: float, count: Callable[[str], None]) -> None:
    """Model servers that are killed and come back."""
    models = list(run.models.values())
    await asyncio.sleep(1.0)
    while time.monotonic() < until:
        await asyncio.sleep(4.5)
        model = dice.choice(models)
        model.raw.down()
        for task in list(model.raw.tasks):
            task.cancel()
        count("model servers killed")
        await asyncio.sleep(0.5)
        server = await asyncio.start_server(model.raw.play, "127.0.0.1", model.raw.port)
        model.raw.down = server.close


async def outages(store: Shared, until: float, count: Callable[[str], None]) -> None:
    """A store that is killed, and comes back; then one that hangs, and goes on."""
    while time.monotonic() < until:
        await asyncio.sleep(2.0)
        count("stores killed")
        await store.die(1.0)
        await asyncio.sleep(4.0)
        count("stores that hung")
        await store.hang(1.0)
        await asyncio.sleep(2.0)
