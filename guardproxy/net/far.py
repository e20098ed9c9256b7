"""The store that several proxies share, as this proxy uses it: it may help, and is never needed.

Here belongs what is asked of the store, when, and how long anybody waits for it: an answer is looked for by whoever
is about to ask a model, and given to the store in the background; one proxy asks for all (`net.claims`); a purge
leaves a mark in the store, so that it holds even for proxies that missed the message (`core.epochs`).  The store itself
is in `guardproxy.stores`, how long it is waited for `net.wait`'s, whether it may be at all `core.trust`'s, how values
are sealed `core.seal`'s.

    name of a value     HMAC(key, marks of everything and of its upstream): after a purge it is another name
    claim               name + ":c"
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Any, TypeVar, final

from guardproxy.core.epochs import ALL
from guardproxy.core.hearsay import Hearsay
from guardproxy.core.store import Unreachable
from guardproxy.core.trust import Trust
from guardproxy.net.claims import Claims
from guardproxy.net.marks import Marks
from guardproxy.net.post import SAYS, Post
from guardproxy.net.wait import Wait
from guardproxy.openai.keeping import pack

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from guardproxy.core.hearsay import Word
    from guardproxy.core.record import Record
    from guardproxy.core.seal import Seal
    from guardproxy.core.store import Store
    from guardproxy.core.values import Call
    from guardproxy.net.claims import Claim

LATE = 1.0
"""Seconds for what nobody waits for: writing, freeing, proving that it is there."""
BEAT = 0.5
"""Seconds between two looks at what there is to do."""
GREET = 20.0
"""Seconds between two signs of life over connections that nothing else may go over: else they are closed on the way."""
SURE = 1.0
"""Seconds for which a store may be late that is well when it is asked in the background whether it is."""
CROWD = 256
"""Values on their way to the store; where there are more it is too slow, and they are not written."""
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
        streams: float = 30.0,
    ) -> None:
        self.trust = Trust()
        self.counts = dict.fromkeys(("hits", "misses", "failures", "writes", "unwritten"), 0)
        self.changed: Callable[[bool, str], object] = lambda _well, _why: None
        """Called when the store has gone or come back."""
        self._store = store
        self._seal = seal
        self._loop = loop
        self._epoch = epoch
        self._patience = patience
        self._prefix = prefix
        self._channel = f"{prefix}:news"
        self.marks = Marks(store, f"{prefix}:purges", self._quietly, self._start)
        self._own = secrets.token_bytes(8)
        self._claims = Claims(store, loop, self._own, streams)
        self.post = Post(store, seal, self.trust, Hearsay(self._own.hex()), loop, epoch, prefix)
        """What the proxies say to each other, where they do."""
        self.post.failed = self._failed
        self.talks = False
        self._doubt = asyncio.Event()
        self._late: float | None = None
        """Since when it has answered nobody in time."""
        self._greeted = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Far {self.trust!r} claims={len(self._claims)} {self.counts}>"

    # -- for calls

    async def fetch(self, call: Call) -> bytes | None:
        """What another proxy has kept for *call*; waits where another is asking.

        None: ask yourself.  Then `finish` must follow.
        """
        if not self.trust.well:
            return None
        found = await self._get(call)
        if found is not None or not call.flight or not self.trust.well:
            return found
        return await self._claims.turn(call, self._name(call), lambda: self._get(call), self._timed)

    def finish(self, call: Call, record: Record) -> None:
        """The call is over: give the store what was kept of it, and let the next one ask."""
        kept, record.kept = record.kept, None
        claim = self._claims.take(call.flight)
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
        """Drop what *upstream* answered, or everything, for all proxies; whether they have been told by now."""
        field = upstream or ALL
        mark = self.marks.epochs.purge(field, self._loop.time() + self._epoch)
        try:
            async with asyncio.timeout(LATE):
                await self._store.mark(self.marks.table, field, mark)
                await self._tell(_PURGE + mark + b" " + field.encode())
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
        return f"{self._prefix}:a:{self._seal.name(call.key, self.marks.epochs.name(call.targets[0].upstream))}"

    async def _get(self, call: Call) -> bytes | None:
        fields, name = (ALL, call.targets[0].upstream), self._name(call)
        got = await self._timed(self._store.get(name, self.marks.table, fields))
        if got is None:
            return None
        sealed, marks = got
        self.marks.see(fields, marks)
        found = None if sealed is None or name != self._name(call) else self._seal.open(name, sealed)
        self.counts["misses" if found is None else "hits"] += 1
        return found

    async def _quietly(self, asked: Awaitable[object]) -> bool:
        """Whether that was done; nobody waits for it."""
        with contextlib.suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(LATE):
                await asked
                return True
        return False

    async def _timed(self, asked: Awaitable[T]) -> T | None:
        """The answer, if it comes while a caller can wait for it; else it is proven at once whether it is there."""
        try:
            async with Wait(self._loop, self._patience):
                answer = await asked
            self._late = None
            return answer
        except TimeoutError as error:
            self._late = self._late or self._loop.time()
            if self._loop.time() - self._late > SURE:
                self._failed(error)
            else:
                self.counts["failures"] += 1
                self._doubt.set()
            return None
        except Exception as error:  # noqa: BLE001 -- whatever a library raises, the call that waits goes on without it
            self._failed(error)
            return None

    async def _finish(self, name: str, kept: tuple[Any, float, float] | None, claim: Claim | None) -> None:
        if kept is not None:
            value, stored, expires = kept
            sealed = self._seal.close(name, pack(value, stored + self._epoch, expires + self._epoch))
            written = await self._quietly(self._store.put(name, sealed, expires - self._loop.time()))
            self.counts["writes" if written else "unwritten"] += 1  # it may be full, and still be read
        if claim is not None:
            await self._quietly(self._store.free(*claim))

    async def _keep(self) -> None:
        """Renew claims; prove the store while it is not trusted."""
        while True:
            now, doubted = self._loop.time(), self._doubt.is_set()
            self._doubt.clear()
            if self.trust.well and doubted:
                await self._prove()
            elif not self.trust.well and now >= self.trust.until:
                await self._prove(LATE)
            elif self._claims and self.trust.well:
                await self._claims.renew(self._quietly)
            if self.trust.well and now - self._greeted >= GREET:
                self._greeted = now
                await self._quietly(self._store.greet())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._doubt.wait()

    async def _prove(self, seconds: float = 0.0) -> None:
        """It is there, and it answers in time: connections may take *seconds*, an answer over them may not be late."""
        try:
            if seconds:
                async with asyncio.timeout(seconds):
                    await self._store.greet()
                    await self.marks.learn()
            async with Wait(self._loop, self._patience):
                await self._store.ping()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is tried again
            self._failed(error)
            return
        if self.trust.proven():
            self.post.soon()
            self.changed(True, "")

    async def _listen(self) -> None:
        """Hear what other proxies say, for ever; what is missed is found by the marks, and at the next beat."""
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
            mark, _, field = said.removeprefix(_PURGE).partition(b" ")
            self.marks.see((field.decode("utf-8", "replace"),), (mark,))
        elif said.startswith(SAYS) and self.talks:
            self.post.take(said.removeprefix(SAYS))

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
