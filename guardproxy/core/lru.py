"""A bounded store of weighed, ageing entries: the least recently used leave first.

Here belongs the memory of the cache: bounds, order, expiry.  What is kept, and under which key, is the
cache guard's business.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")


@final
@dataclass(slots=True)
class Entry(Generic[V]):
    """What is kept under a key."""

    value: V
    weight: int
    stored: float
    expires: float
    """Until when it is fresh."""
    counted: bool = False
    """Whether its expiry has been counted already."""


@final
class Lru(Generic[V]):
    """At most *max_size* entries and *max_bytes* of weight, each fresh for *ttl* seconds.

    With *jitter*, a part from 0 to 1, an entry's time is shorter by up to that part of *ttl*, evenly over all keys.
    For *linger* seconds after its expiry an entry is no longer found by `get`, but still by `stale`.
    An entry heavier than the whole store is not taken and evicts nobody.
    """

    __slots__ = (
        "_entries",
        "_jitter",
        "_linger",
        "_sweeping",
        "bytes",
        "evictions",
        "expirations",
        "max_bytes",
        "max_size",
        "ttl",
    )

    def __init__(self, max_size: int, max_bytes: int, ttl: float, linger: float = 0.0, jitter: float = 0.0) -> None:
        self.max_size = max_size
        self.max_bytes = max_bytes
        self.ttl = ttl
        self._linger = linger
        self._jitter = jitter
        self._entries: OrderedDict[bytes, Entry[V]] = OrderedDict()
        self._sweeping: list[bytes] = []
        self.bytes = 0
        self.evictions = 0
        self.expirations = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Lru {len(self._entries)}/{self.max_size} entries, {self.bytes}/{self.max_bytes} bytes>"

    def get(self, key: bytes, now: float) -> Entry[V] | None:
        """Find a fresh entry and make it the most recently used one."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.expires:
            self._expire(key, entry, now)
            return None
        self._entries.move_to_end(key)
        return entry

    def stale(self, key: bytes, now: float) -> Entry[V] | None:
        """Find an entry, be it fresh or expired for less than the time it may linger."""
        entry = self._entries.get(key)
        if entry is None or now >= entry.expires + self._linger:
            return None
        return entry

    def put(self, key: bytes, value: V, weight: int, now: float, expires: float | None = None) -> bool:
        """Keep *value*, until *expires* where that is sooner than *ttl*; False where it is too heavy to be kept."""
        if weight > self.max_bytes:
            return False
        if (old := self._entries.pop(key, None)) is not None:
            self.bytes -= old.weight
            if now >= old.expires:
                self._count(old)
        while self._entries and (len(self._entries) >= self.max_size or self.bytes + weight > self.max_bytes):
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.weight
            if now >= oldest.expires:  # its time was over: that is no eviction
                self._count(oldest)
            else:
                self.evictions += 1
        lasts = now + self._lasts(key)
        self._entries[key] = Entry(value, weight, now, lasts if expires is None or lasts < expires else expires)
        self.bytes += weight
        return True

    def adopt(self, old: Lru[V]) -> None:
        """Take over the entries of *old*, the least recently used first; each keeps the time it has left."""
        for key, entry in old._entries.items():
            if self.put(key, entry.value, entry.weight, entry.stored):
                self._entries[key].expires = min(entry.expires, entry.stored + self.ttl)
        self.evictions, self.expirations = old.evictions, old.expirations

    def purge(self, doomed: Callable[[V], bool] | None = None) -> int:
        """Drop every entry, or those that *doomed* picks; tell how many."""
        keys = list(self._entries) if doomed is None else [k for k, e in self._entries.items() if doomed(e.value)]
        for key in keys:
            self.bytes -= self._entries.pop(key).weight
        return len(keys)

    def shrink(self, most: int) -> int:
        """Drop the least recently used entries until no more than *most* bytes are left; tell how many."""
        before = len(self._entries)
        while self._entries and self.bytes > most:
            _, oldest = self._entries.popitem(last=False)
            self.bytes -= oldest.weight
            self.evictions += 1
        return before - len(self._entries)

    def sweep(self, now: float, most: int = 2000) -> bool:
        """Drop expired entries, looking at *most* of them at a time; True once all have been looked at.

        The slices keep a sweep of a million entries from holding up the calls in between.
        """
        if not self._sweeping:
            self._sweeping = list(self._entries)
            self._sweeping.reverse()
        for _ in range(min(most, len(self._sweeping))):
            key = self._sweeping.pop()
            entry = self._entries.get(key)
            if entry is not None and now >= entry.expires:
                self._expire(key, entry, now)
        return not self._sweeping

    def _lasts(self, key: bytes) -> float:
        """Seconds that an entry is fresh: keys are digests, and so as good as dice."""
        return self.ttl * (1.0 - self._jitter * int.from_bytes(key[:4], "big") / 2**32) if self._jitter else self.ttl

    def _expire(self, key: bytes, entry: Entry[V], now: float) -> None:
        self._count(entry)
        if now >= entry.expires + self._linger:
            del self._entries[key]
            self.bytes -= entry.weight

    def _count(self, entry: Entry[V]) -> None:
        if not entry.counted:
            entry.counted = True
            self.expirations += 1
