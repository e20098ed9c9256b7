"""The store that several proxies share, as this proxy uses it: it may help, and is never needed.

Here belongs what is asked of the store, when, and how long anybody waits for it: an answer is looked for by whoever
is about to ask a model, and given to the store in the background; one proxy asks for all by a claim that ends by
itself; a purge is counted in the store, so that it holds even for proxies that missed the message.  The store itself
is in `guardproxy.stores`, whether it may be waited for is `core.trust`'s, how values are sealed `core.seal`'s.

    name of a value     HMAC(key, purges of everything, purges of its upstream): after a purge it is another name
    claim               name + ":c", for `LEASE` seconds, renewed while the call is on its way, freed when it is over
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, TypeVar, final

from guardproxy.core.hearsay import Hearsay
from guardproxy.core.store import Unreachable
from guardproxy.core.trust import Trust
from guardproxy.net.post import SAYS, Post
from guardproxy.openai.keeping import pack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from guardproxy.core.hearsay import Word
    from guardproxy.core.record import Record
    from guardproxy.core.seal import Seal
    from guardproxy.core.store import Store
    from guardproxy.core.values import Call

LEASE = 10.0
"""Seconds that a claim holds: how long others wait for a proxy that has died."""
LATE = 1.0
"""Seconds for what nobody waits for: writing, freeing, proving that it is there."""
POLL = (0.02, 0.1)
"""Seconds between two looks for what another proxy asks, at first and at the most."""
BEAT = 0.5
"""Seconds between two looks at what there is to do."""
CROWD = 256
"""Values on their way to the store; where there are more it is too slow, and they are not written."""
_ALL = "*"
"""Stands for all upstreams; no upstream is called so."""
_PURGE = b"purge "

T = TypeVar("T")


@final
class Far:
    """A store, its names, and the trust in it."""

    def __init__(
        self,
        store: Store,
        seal: Seal,
        loop: asyncio.AbstractEventLoop,
        epoch: float,
        *,
        prefix: str = "guardproxy",
        patience: float = 0.005,
    ) -> None:
        self.trust = Trust()
        self.counts = dict.fromkeys(("hits", "misses", "failures", "writes", "unwritten"), 0)
        self.purged: Callable[[str | None], object] = lambda _upstream: None
        """Called when another proxy has had an upstream's answers dropped, or (None) all."""
        self.changed: Callable[[bool, str], object] = lambda _well, _why: None
        """Called when the store has gone or come back."""
        self._store = store
        self._seal = seal
        self._loop = loop
        self._epoch = epoch
        self._patience = patience
        self._prefix = prefix
        self._table, self._channel = f"{prefix}:purges", f"{prefix}:news"
        self._purges: dict[str, int] = {}
        self._claims: dict[bytes, tuple[str, bytes]] = {}
        self._own = secrets.token_bytes(8)
        self.post = Post(store, seal, self.trust, Hearsay(self._own.hex()), loop, epoch, prefix)
        """What the proxies say to each other, where they do."""
        self.post.failed = self._failed
        self.talks = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Far {self.trust!r} claims={len(self._claims)} {self.counts}>"

    # -- for calls

    async def fetch(self, call: Call) -> bytes | None:
        """What another proxy has kept for *call*; waits where another is asking, if the caller does not want events.

        None: ask yourself.  Then `finish` must follow.
        """
        if not self.is_well():
            return None
        found = await self._get(call)
        if found is not None or call.stream or not call.flight:
            return found
        wait, most = POLL
        claim = (self._name(call) + ":c", self._own + secrets.token_bytes(8))
        while self.is_well():
            claimed = await self._timed(self._store.claim(*claim, LEASE))
            if claimed:
                self._claims[call.flight] = claim
                found = None if wait == POLL[0] else await self._get(call)  # it may have come just before
            if claimed or found is not None or self._loop.time() + wait >= call.deadline:
                return found
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, most)
            if (found := await self._get(call)) is not None:
                return found
        return None

    def is_well(self) -> bool:
        """Whether anybody waits for it."""
        return self.trust.well

    def finish(self, call: Call, record: Record) -> None:
        """The call is over: give the store what was kept of it, and let the next one ask."""
        kept, record.kept = record.kept, None
        claim = self._claims.pop(call.flight, None) if self._claims else None
        if not self.trust.well or (kept is None and claim is None):
            return
        if len(self._tasks) >= CROWD:
            self.counts["unwritten"] += 1
            return
        self._start(self._finish(self._name(call), kept, claim))

    # -- for operators

    def state(self) -> dict[str, Any]:
        """Its condition, for people and scripts."""
        told = {"well": self.trust.well, "why": self.trust.why, "claims": len(self._claims), **self.counts}
        if self.talks:
            told["words"] = {word.subject: {"says": word.says, "reason": word.reason} for word in self.post.hearsay}
        return told

    async def purge(self, upstream: str | None) -> bool:
        """Drop what *upstream* answered, or everything, for all proxies; whether that was done."""
        field = upstream or _ALL
        try:
            async with asyncio.timeout(LATE):
                self._purges[field] = await self._store.count(self._table, field)
                await self._tell(_PURGE + field.encode())
        except (Unreachable, TimeoutError) as error:
            self._failed(error)
            return False
        return True

    def say(self, word: Word, new: bool) -> None:
        """Have *word* written, and tell the others where it is *new*."""
        self.post.send(word, self._tell if new else None)

    # -- its life

    def start(self) -> None:
        """Begin to listen, and to prove that it is there."""
        self._start(self._keep())
        self._start(self._listen())
        if self.talks:
            self._start(self.post.run())

    async def close(self) -> None:
        """Stop."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.post.close()
        with contextlib.suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(LATE):
                await self._store.close()

    # -- within

    def _name(self, call: Call) -> str:
        upstream = call.targets[0].upstream
        purges = f"{self._purges.get(_ALL, 0)} {self._purges.get(upstream, 0)}".encode()
        return f"{self._prefix}:a:{self._seal.name(call.key, purges)}"

    async def _get(self, call: Call) -> bytes | None:
        upstream, name = call.targets[0].upstream, self._name(call)
        got = await self._timed(self._store.get(name, self._table, (_ALL, upstream)))
        if got is None:
            return None
        sealed, counted = got
        for field, count in zip((_ALL, upstream), counted, strict=True):
            if count != self._purges.get(field, 0):
                self._dropped(field, count)
                sealed = None
        found = None if sealed is None else self._seal.open(name, sealed)
        self.counts["misses" if found is None else "hits"] += 1
        return found

    async def _timed(self, asked: Awaitable[T]) -> T | None:
        """The answer, if it comes while a caller can wait for it; else nobody waits again until it is proven."""
        try:
            async with asyncio.timeout(self._patience):
                return await asked
        except Exception as error:  # noqa: BLE001 -- whatever a library raises, the call that waits goes on without it
            self._failed(error)
            return None

    async def _finish(self, name: str, kept: tuple[Any, float, float] | None, claim: tuple[str, bytes] | None) -> None:
        try:
            async with asyncio.timeout(LATE):
                if kept is not None:
                    value, stored, expires = kept
                    sealed = self._seal.close(name, pack(value, stored + self._epoch, expires + self._epoch))
                    await self._store.put(name, sealed, expires - self._loop.time())
                    self.counts["writes"] += 1
        except (Unreachable, TimeoutError):
            self.counts["unwritten"] += 1  # it may be full, and still be read
        if claim is not None:
            with contextlib.suppress(Unreachable, TimeoutError):
                async with asyncio.timeout(LATE):
                    await self._store.free(*claim)

    async def _keep(self) -> None:
        """Renew claims; prove the store while it is not trusted."""
        while True:
            now = self._loop.time()
            if not self.trust.well and now >= self.trust.until:
                await self._prove()
            elif self._claims and self.trust.well:
                for claim in list(self._claims.values()):
                    with contextlib.suppress(Exception):  # the claim ends by itself
                        async with asyncio.timeout(LATE):
                            await self._store.renew(*claim, LEASE)
            await asyncio.sleep(BEAT)

    async def _prove(self) -> None:
        """It is there, and it answers in time: a connection may be new, an answer over it may not be late."""
        try:
            async with asyncio.timeout(LATE):
                await self._store.ping()
            async with asyncio.timeout(self._patience):
                await self._store.ping()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is tried again
            self._failed(error)
            return
        if self.trust.proven():
            self.post.soon()
            self.changed(True, "")

    async def _listen(self) -> None:
        """Hear what other proxies say, for ever; what is missed meanwhile is found by the counts of purges."""
        while True:
            with contextlib.suppress(Exception):  # whatever it is, it is tried again
                await self._store.listen(self._channel, self.post.soon, self._heard)
            await asyncio.sleep(BEAT)

    def _heard(self, message: bytes) -> None:
        opened = self._seal.open(self._channel, message)
        if opened is None or opened[:8] == self._own:
            return
        said = opened[8:]
        if said.startswith(_PURGE):
            field = said.removeprefix(_PURGE).decode("utf-8", "replace")
            self._dropped(field, self._purges.get(field, 0) + 1)
        elif said.startswith(SAYS) and self.talks:
            self.post.take(said.removeprefix(SAYS))

    def _dropped(self, field: str, count: int) -> None:
        """Another proxy has had something dropped."""
        self._purges[field] = count
        self.purged(None if field == _ALL else field)

    async def _tell(self, message: bytes) -> None:
        await self._store.publish(self._channel, self._seal.close(self._channel, self._own + message))

    def _failed(self, error: BaseException) -> None:
        self.counts["failures"] += 1
        why = str(error) or f"no answer within {self._patience:g} s"
        if self.trust.failed(why, self._loop.time()):
            self.changed(False, why)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
