"""How words travel between the proxies that share a store (``shared.state``).

Here belongs the carrying: a word is written under its subject's name, unless a later one lies there, and told at once
to those who listen; every `BEAT` seconds all subjects are read, for what was not heard.  The time that is in a word is
the store's (``TIME``), so that it does not matter what time the proxies think it is.  What a word means is
`app.neighbours`', which of two counts `core.hearsay`'s.

    name of a word      HMAC(key, subject)
    what lies there     its time, 17 characters, and who said it: what the store compares | the sealed word
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, final

from guardproxy.core.hearsay import Word
from guardproxy.core.store import Unreachable
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable

    from guardproxy.core.hearsay import Hearsay
    from guardproxy.core.seal import Seal
    from guardproxy.core.store import Store
    from guardproxy.core.trust import Trust

BEAT = 10.0
"""Seconds between two looks at what others say, and at what this proxy stands by."""
LATE = 1.0
"""Seconds for what nobody waits for."""
CROWD = 64
"""Words on their way at the most: where there are more the store is too slow, and the next beat tells what counts."""
SAYS = b"says "
"""How the message begins that carries a word."""


@final
class Post:
    """Carries words from and to *hearsay*; *trust* says whether the store is there."""

    def __init__(
        self,
        store: Store,
        seal: Seal,
        trust: Trust,
        hearsay: Hearsay,
        loop: asyncio.AbstractEventLoop,
        epoch: float,
        prefix: str,
    ) -> None:
        self.hearsay = hearsay
        self.heard: Callable[[Word], object] = lambda _word: None
        """Called with every word that is news."""
        self.beat: Callable[[Collection[str] | None], object] = lambda _lacks: None
        """Called every `BEAT` seconds with the subjects on which the store knows less than we; None: it is away."""
        self.failed: Callable[[BaseException], object] = lambda _error: None
        """Called when the store could not be read."""
        self.subjects: Callable[[], Iterable[str]] = list[str]
        """What there are words on."""
        self._store = store
        self._seal = seal
        self._trust = trust
        self._loop = loop
        self._shift = epoch
        """What to add to the loop's clock to get the store's; until it was asked, the time of day."""
        self._prefix = prefix
        self._soon = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Post of {self.hearsay!r}>"

    def now(self) -> float:
        """The store's time."""
        return self._loop.time() + self._shift

    def send(self, word: Word, tell: Callable[[bytes], Awaitable[None]] | None = None) -> None:
        """Write *word* in the background, and *tell* those who listen."""
        if self._trust.well and len(self._tasks) < CROWD:
            task = self._loop.create_task(self._send(word, tell))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def take(self, message: bytes) -> None:
        """Hear a word that another has told."""
        word = self._opened("", message)
        if word is not None and self.hearsay.hear(word, self.now()):
            self.heard(word)

    async def run(self) -> None:
        """Beat, for ever."""
        while True:
            self._soon.clear()
            self.beat(await self.read())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._soon.wait()

    def soon(self) -> None:
        """Something may have been missed: look now."""
        self._soon.set()

    async def read(self) -> Collection[str] | None:
        """Ask the time, and what others have said; on what the store knows less than we, or None where it is away."""
        if not self._trust.well:
            return None
        try:
            async with asyncio.timeout(LATE):
                asked = self._loop.time()
                at = await self._store.clock(f"{self._prefix}:clock")
                self._shift = at - (asked + self._loop.time()) / 2
                subjects = list(self.subjects())
                found = await self._store.read([self._name(subject) for subject in subjects])
        except (Unreachable, TimeoutError) as error:
            self.failed(error)
            return None
        return [subject for subject, value in zip(subjects, found, strict=True) if self._hear(subject, value)]

    async def close(self) -> None:
        """Stop."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, word: Word, tell: Callable[[bytes], Awaitable[None]] | None) -> None:
        name, stamp = self._name(word.subject), _stamp(word)
        sealed = self._seal.close(name, _packed(word))
        with contextlib.suppress(Unreachable, TimeoutError):  # the next beat tells it again, if it still counts
            async with asyncio.timeout(LATE):
                there = await self._store.outdo(name, stamp, stamp + sealed, max(word.ends - self.now(), 0.001))
                if there is None and tell is not None:
                    await tell(SAYS + _packed(word))
                self._hear(word.subject, there)

    def _hear(self, subject: str, value: bytes | None) -> bool:
        """Hear what the store knows; whether that is less than we know."""
        value = value or b""
        sealed = self._seal.open(self._name(subject), value[_STAMP:])
        word = None if sealed is None else self._opened(subject, sealed)
        if word is not None and _stamp(word) == value[:_STAMP] and self.hearsay.hear(word, self.now()):
            self.heard(word)
        known = self.hearsay.on(subject)
        return known is not None and (word is None or known.later(word))

    def _opened(self, subject: str, text: bytes) -> Word | None:
        try:
            on, says, reason, at, by, seen = loads(text)
            word = Word(str(on), str(says), str(reason), float(at), str(by), float(seen))
        except (ValueError, TypeError):
            return None
        known = {subject} if subject else set(self.subjects())
        return word if word.subject in known else None

    def _name(self, subject: str) -> str:
        return f"{self._prefix}:w:{self._seal.name(b'word', subject.encode())}"


_STAMP = 17 + 16
"""Characters of a word's time and of the name of who said it."""


def _stamp(word: Word) -> bytes:
    """What the store compares: the time, and who said it."""
    return f"{word.at:017.6f}{word.by[:16]:16}".encode()


def _packed(word: Word) -> bytes:
    return dumps([word.subject, word.says, word.reason, word.at, word.by, word.seen])
