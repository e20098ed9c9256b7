"""Telling people elsewhere that something has changed: a POST of JSON to one address.

Here belongs which news leave the house, in which words, and how long it is tried.  Not here: what the news
mean (guards), the log (telemetry).  A call never waits for any of this: `tell` puts the news in a queue, and
one task delivers them in order.

    told   -> queued     the oldest leaves, undelivered, where the queue is full
    queued -> delivered  on any 2xx
           -> tried anew after no connection, a timeout, 408, 429 or 5xx: five tries in all
           -> failed     after the last try, or at once on any other answer: asking again would not change it
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any, final

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guardproxy.core.values import News

QUEUE = 100
"""News that wait at the most."""
TRIES = 5
LONGEST_WAIT = 10.0
"""Seconds between two tries at the most."""
ANSWER = aiohttp.ClientTimeout(total=10)
"""Seconds in which the other side has to take it."""

_CIRCUIT = {"open": "circuit_open", "closed": "circuit_closed"}


@final
class Webhook:
    """Alerts to *url*; *modes* stand highest first, *instance* says who is speaking, *wall* what time it is.

    The first wait between two tries is *backoff* seconds; each further one is twice as long, less up to a half by
    chance.  Proxies named by the environment (``HTTPS_PROXY``) are used; redirects are not followed.
    """

    def __init__(
        self, url: str, modes: Sequence[str], wall: Callable[[], float], *, instance: str = "", backoff: float = 0.5
    ) -> None:
        self._url = url
        self._modes = tuple(modes)
        self._wall = wall
        self._instance = instance
        self._backoff = backoff
        self._waiting: deque[bytes] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.failures = 0
        """News that could not be delivered, since start."""

    def __repr__(self) -> str:
        return f"<Webhook {len(self._waiting)} waiting, {self.failures} failed>"  # the address itself is a secret

    def tell(self, news: News) -> None:
        """Take note of *news* and deliver it later, if it is of a kind that people are alerted to; never waits."""
        event = self._event(news)
        if not event:
            return
        if self._closed:
            self.failures += 1
            return
        if len(self._waiting) >= QUEUE:
            self._waiting.popleft()
            self.failures += 1
        self._waiting.append(orjson.dumps(self._letter(event, news)))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._deliver(), name="webhook")

    async def close(self, seconds: float = 2.0) -> None:
        """Deliver what waits, for at most *seconds*; the rest counts as failed."""
        self._closed = True
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.failures += len(self._waiting)
        self._waiting.clear()

    def _event(self, news: News) -> str:
        if news.what == "circuit":
            return _CIRCUIT.get(news.new, "")
        if news.what == "ceiling" and self._modes:
            fell = self._height(news.new) - self._height(news.old)
            return "downshift" if fell > 0 else "recovery" if fell < 0 else ""
        return ""

    def _height(self, mode: str) -> int:
        return self._modes.index(mode) if mode in self._modes else 0  # no ceiling is the highest mode

    def _letter(self, event: str, news: News) -> dict[str, Any]:
        at = datetime.fromtimestamp(self._wall(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        who = f"guardproxy {self._instance}".strip()
        what = f"circuit of {news.subject}" if news.what == "circuit" else "mode ceiling"
        why = f" ({news.reason})" if news.reason else ""
        text = f"{who}: {event.replace('_', ' ')}: {what}, {news.old or '-'} → {news.new or '-'}{why}"
        return {
            "event": event,
            "at": at,
            "from": news.old,
            "to": news.new,
            "subject": news.subject,
            "reason": news.reason,
            "instance": self._instance,
            "text": escape(text, quote=False),  # in Slack, <!channel> would wake everybody
        }

    async def _deliver(self) -> None:
        # A context of our own (see `cli.run`), made aside: reading the system's certificates takes a while.
        trust = await asyncio.to_thread(ssl.create_default_context) if self._url.startswith("https:") else True
        connector = aiohttp.TCPConnector(ssl=trust)
        async with aiohttp.ClientSession(connector=connector, timeout=ANSWER, trust_env=True) as session:
            while self._waiting:
                delivered = False
                try:
                    delivered = await self._try(session, self._waiting.popleft())
                finally:  # also where `close` has lost patience
                    self.failures += not delivered

    async def _try(self, session: aiohttp.ClientSession, letter: bytes) -> bool:
        for tried in range(1, TRIES + 1):
            status = await self._post(session, letter)
            if status is not None and not (status in {408, 429} or status >= 500):
                return 200 <= status < 300
            if tried < TRIES:
                wait = min(LONGEST_WAIT, self._backoff * 2 ** (tried - 1))
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
        return False

    async def _post(self, session: aiohttp.ClientSession, letter: bytes) -> int | None:
        headers = {"Content-Type": "application/json"}
        try:
            async with session.post(self._url, data=letter, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, ValueError):  # a host name that no resolver takes is a ValueError
            return None
