"""A bounded store of weighed, ageing entries: the least recently used leave first.

Here belongs the memory of the cache: bounds, order, expiry.  What is kept, and under which key, is the
cache guard's business.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Generic, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")

SLOTS = 120
"""Parts of an entry's life: it is swept at most one of them late."""


@final
@dataclass(slots=True)
class Entry(Generic[V]):
    """What is kept under a key."""

    value: V
    weight: int
    stored: float
    expires: float
    """Until when it is fresh."""
    due: int
    """In which slot of the wheel it is."""
    counted: bool = False
    """Whether its expiry has been counted already."""


@final
class Lru(Generic[V]):
    """At most *max_size* entries and *max_bytes* of weight, each fresh for *ttl* seconds.

    With *jitter*, a part from 0 to 1, an entry's time is shorter by up to that part of *ttl*, evenly over all keys.
    For *linger* seconds after its expiry an entry is no longer found by `get`, but still by `stale`.
    An entry heavier than the whole store is not taken and evicts nobody.

    Entries lie in a wheel of slots by the time at which something happens to them, each in one slot only, so that a
    sweep touches what has expired and nothing else, however much there is.
    """

    __slots__ = (
        "_entries", "_grain", "_jitter", "_linger", "_wheel",
        "bytes", "evictions", "expirations", "max_bytes", "max_size", "ttl",
    )  # fmt: skip

    def __init__(self, max_size: int, max_bytes: int, ttl: float, linger: float = 0.0, jitter: float = 0.0) -> None:
        self.max_size = max_size
        self.max_bytes = max_bytes
        self.ttl = ttl
        self._linger = linger
        self._jitter = jitter
        self._grain = (ttl + linger) / SLOTS
        self._entries: OrderedDict[bytes, Entry[V]] = OrderedDict()
        self._wheel: dict[int, dict[bytes, None]] = {}
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
            self._gone(key, old)
            if now >= old.expires:
                self._count(old)
        while self._entries and (len(self._entries) >= self.max_size or self.bytes + weight > self.max_bytes):
            least, oldest = self._entries.popitem(last=False)
            self._gone(least, oldest)
            if now >= oldest.expires:  # its time was over: that is no eviction
                self._count(oldest)
            else:
                self.evictions += 1
        lasts = now + self._lasts(key)
        until = lasts if expires is None or lasts < expires else expires
        due = ceil(until / self._grain)
        self._entries[key] = Entry(value, weight, now, until, due)
        self._wheel.setdefault(due, {})[key] = None
        self.bytes += weight
        return True

    def adopt(self, old: Lru[V]) -> None:
        """Take over the entries of *old*, the least recently used first; each keeps the time it has left."""
        for key, entry in old._entries.items():
            self.put(key, entry.value, entry.weight, entry.stored, entry.expires)
        self.evictions, self.expirations = old.evictions, old.expirations

    def keys(self) -> list[bytes]:
        """The keys of all of them, the least recently used first."""
        return list(self._entries)

    def purge(self, doomed: Callable[[V], bool] | None = None) -> int:
        """Drop every entry, or those that *doomed* picks; tell how many."""
        if doomed is None:
            many = len(self._entries)
            self._entries, self._wheel, self.bytes = OrderedDict(), {}, 0
            return many
        keys = [key for key, entry in self._entries.items() if doomed(entry.value)]
        for key in keys:
            self._gone(key, self._entries.pop(key))
        return len(keys)

    def shrink(self, most: int) -> int:
        """Drop the least recently used entries until no more than *most* bytes are left; tell how many."""
        before = len(self._entries)
        while self._entries and self.bytes > most:
            key, oldest = self._entries.popitem(last=False)
            self._gone(key, oldest)
            self.evictions += 1
        return before - len(self._entries)

    def sweep(self, now: float, most: int = 200) -> bool:
        """Drop expired entries, looking at *most* of them at a time; True once all have been looked at."""
        last = int(now / self._grain)
        while self._wheel:
            slot = min(self._wheel)
            if slot > last:
                return True
            keys = self._wheel[slot]
            while keys:
                if not most:
                    return False
                most -= 1
                key, _ = keys.popitem()
                self._expire(key, self._entries[key], now)
            self._wheel.pop(slot, None)
        return True

    def _lasts(self, key: bytes) -> float:
        """Seconds that an entry is fresh: keys are digests, and so as good as dice."""
        return self.ttl * (1.0 - self._jitter * int.from_bytes(key[:4], "big") / 2**32) if self._jitter else self.ttl

    def _expire(self, key: bytes, entry: Entry[V], now: float) -> None:
        """Its time is over: from now on it lingers, or it leaves."""
        self._count(entry)
        if now >= entry.expires + self._linger:
            del self._entries[key]
            self._gone(key, entry)
        elif (due := ceil((entry.expires + self._linger) / self._grain)) != entry.due:
            self._unslot(key, entry)
            entry.due = due
            self._wheel.setdefault(due, {})[key] = None

    def _gone(self, key: bytes, entry: Entry[V]) -> None:
        """It has left."""
        self.bytes -= entry.weight
        self._unslot(key, entry)

    def _unslot(self, key: bytes, entry: Entry[V]) -> None:
        if (keys := self._wheel.get(entry.due)) is not None:
            keys.pop(key, None)
            if not keys:
                del self._wheel[entry.due]

    def _count(self, entry: Entry[V]) -> None:
        if not entry.counted:
            entry.counted = True
            self.expirations += 1
