"""Asking engines how many calls wait within them.

Here belongs the reading of each upstream's own ``/metrics``, where it has one: a leading sign of overload, since vLLM
and llama.cpp queue without bound.  What follows from it is the load guard's.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, final

import aiohttp

from guardproxy.core.exposed import waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RARE = 60.0
"""Seconds between two looks at an upstream that has not said anything of the kind."""
LARGEST = 4 << 20
"""Bytes of an exposition that are read."""
PATIENCE = 2.0
"""Seconds that one look may take."""


@final
class Signals:
    """Looks at each of *urls* (by upstream) every *seconds*; *heard* takes the upstream's name and how many wait."""

    def __init__(
        self,
        urls: Mapping[str, str],
        seconds: float,
        heard: Callable[[str, int, float], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._urls = {name: place for name, url in urls.items() if (place := exposition_of(url)) is not None}
        self._seconds = seconds
        self._heard = heard
        self._loop = loop
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        if self._seconds > 0 and self._urls:
            self._task = self._loop.create_task(self._look(), name="signals")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._watch(session, name, url) for name, url in self._urls.items()))

    async def _watch(self, session: aiohttp.ClientSession, name: str, url: str) -> None:
        said = False
        while True:
            try:
                found = await _asked(session, url)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
                found = None
            if found is not None or said:
                self._heard(name, found or 0, self._loop.time())
            said = found is not None
            await asyncio.sleep(self._seconds if said else max(RARE, self._seconds))


async def _asked(session: aiohttp.ClientSession, url: str) -> int | None:
    """How many calls wait, by what is exposed at *url*."""
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            return None
        text = bytearray()
        async for part in answer.content.iter_any():
            text += part
            if len(text) > LARGEST:
                return None
        return waiting(bytes(text))


def exposition_of(url: str) -> str | None:
    """Where the engine at *url* exposes its numbers; None where it is not reached by a host's name."""
    if not url.startswith(("http://", "https://")):
        return None
    return url.rstrip("/").removesuffix("/v1").rstrip("/") + "/metrics"
