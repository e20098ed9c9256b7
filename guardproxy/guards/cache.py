"""Answer again what was answered before.

Here belongs which answers are kept, who is shown them, and when an old one is better than none or than waiting.  What
makes two calls the same is `openai.identity`'s, how an answer is made over for another kind of caller is
`openai.keeping`'s, how memory is bounded `core.lru`'s.

Kept is an answer only if it is whole, successful and accepted by every guard; it is shown only to a caller whose
call has the same key: the same path, query, body, schema, tenant, upstream, model and mode.

    found     the caller takes it   stale_while_revalidate   what happens
    fresh     yes                   –                        a hit
    fresh     no: max-age, …        –                        a miss; what comes takes its place
    expired   yes: max-stale        –                        a hit, as old as it is
    expired   no                    still                    a hit, and one call in the background takes its place
    expired   no                    not, or no longer        a miss; shown only if nobody can answer (stale_if_error)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core import directives
from guardproxy.core.guard import NOBODY, Guard, Parts, Spec
from guardproxy.core.lru import Lru
from guardproxy.core.units import Bytes, Seconds
from guardproxy.core.values import Reply
from guardproxy.openai.fields import is_encoded
from guardproxy.openai.identity import Identity
from guardproxy.openai.keeping import Kept, cut_by, keep, show, unpack
from guardproxy.openai.repeatable import STATEFUL, is_deterministic, is_stateful
from guardproxy.openai.strict import dumps

_NEVER = float("-inf")
__all__ = ["SPEC", "STATEFUL", "Cache", "Settings"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.directives import Asks
    from guardproxy.core.lru import Entry
    from guardproxy.core.values import Call, News, Record


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """What is kept, how much of it and how long (``cache``)."""

    enabled: bool | Literal["shadow"] = True
    """``true``, ``false``, or ``shadow``: looked up and counted, but every call still goes upstream."""
    type: Literal["lru_ttl"] = "lru_ttl"
    """The kind of cache; least recently used entries leave first, and all of them after `ttl_seconds`."""
    max_size: int = 1000
    """Entries at the most."""
    max_bytes: Bytes = Bytes(256 << 20)
    """Memory at the most, keys and headers counted too."""
    ttl_seconds: Seconds = Seconds(600)
    """Seconds that an entry is fresh."""
    ttl_jitter: float = 0.0
    """The part of `ttl_seconds`, from 0 to 1, by which an entry's time may be shorter, so that not all end at once."""
    cleanup_interval: Seconds = Seconds(60)
    """Seconds between two sweeps of expired entries."""
    eviction_policy: Literal["lru"] = "lru"
    """Who leaves when it is full."""
    when: Literal["always", "deterministic"] = "always"
    """``deterministic``: only calls with temperature 0 or a seed are kept."""
    vary: tuple[str, ...] = ("authorization", "x-api-key", "api-key", "openai-organization", "openai-project", "cookie")
    """Request header fields that tell tenants apart: a difference in any of them is another entry."""
    single_flight: bool = True
    """Whether the same call, made again while it is on its way, waits for the one answer instead of asking too."""
    keep_length: bool = False
    """Whether answers are kept, too, that ended at their length (``length``) instead of by themselves."""
    keep_content_filter: bool = False
    """Whether answers are kept, too, that a filter ended (``content_filter``)."""
    export: bool = False
    """Whether operators may take out what is kept, all tenants' answers, and put it in again (``guardproxy cache``)."""
    stale_while_revalidate_seconds: Seconds = Seconds(0)
    """Seconds after its expiry during which an entry is served at once while it is fetched anew."""
    stale_if_error_seconds: Seconds = Seconds(0)
    """Seconds after its expiry during which an entry is served where no upstream could answer."""


@final
class Cache(Guard):
    """Keeps whole, successful, accepted answers, and shows them to the same caller who asks the same again."""

    name = "cache"

    def __init__(self, settings: Settings, places: Mapping[str, str] | None = None, epoch: float = 0.0) -> None:
        self.settings = settings
        self._epoch = epoch
        self._shadow = settings.enabled == "shadow"
        self._revalidate = settings.stale_while_revalidate_seconds
        linger = max(settings.stale_if_error_seconds, self._revalidate)
        size, weight = settings.max_size, settings.max_bytes
        self.entries: Lru[Kept] = Lru(size, weight, settings.ttl_seconds, linger, settings.ttl_jitter)
        self.key = Identity(settings.vary, places)
        self._cut = frozenset(how for how in ("length", "content_filter") if getattr(settings, f"keep_{how}"))
        """By what an answer that is kept may have been ended."""
        self._swept = float("-inf")
        self._purged: dict[str, float] = {}
        """When each upstream's answers were last dropped, and everybody's (empty)."""
        self.sweeping = False

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply:
        """Answer from what is kept; mark what is to be kept."""
        dialect = call.dialect
        if dialect is None:
            return call
        asks = directives.read(call.cache_control) if call.cache_control else directives.NOTHING
        fickle = self.settings.when == "deterministic" and not is_deterministic(call, dialect)
        if asks.no_store or fickle or is_stateful(call.doc, dialect):
            return self._passed(call, record, "fwd=bypass", asks)
        target = call.targets[0]
        call.key = key = self.key(call, target)
        call.keep = True
        if asks.no_cache:
            return self._passed(call, record, "fwd=request", asks)
        entry = self.entries.get(key, now)
        if target.moved_from:
            entry = self._wanted(call, now) or entry
        if entry is None or asks is not directives.NOTHING:
            entry = self._old_enough(key, entry, asks, now)
        if entry is not None and (reply := self._shown(entry, call, record, now)) is not None:
            self.key.remember(key)
            return call if self._shadow else reply
        record.cache_event = "miss"
        return self._passed(call, record, "fwd=miss", asks)

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """An answer that has expired, where that is better than none."""
        most = self.settings.stale_if_error_seconds
        if not call.key or not most or self._shadow:
            return None
        asks = directives.read(call.cache_control) if call.cache_control else directives.NOTHING
        for target in sorted(
            call.targets, key=lambda place: bool(place.moved_from)
        ):  # what was asked for, if there is any of it
            entry = self.entries.stale(self.key(call, target), now)
            if entry is None or now - entry.expires >= most or not asks.bears(now - entry.stored):
                continue
            if (reply := show(entry.value, call, "stale")) is not None:
                record.cache = f"hit; ttl={-ceil(now - entry.expires)}; detail=stale-if-error"
                return _told(reply, entry, record, now)
        return None

    def recall(self, call: Call, found: bytes, record: Record, now: float) -> Reply | None:
        """What another proxy has kept: it is kept here too for the rest of its time, and shown if it will do."""
        if (read := unpack(found)) is None or self._shadow:
            return None
        value, stored, expires = read[0], min(read[1] - self._epoch, now), read[2] - self._epoch
        if stored <= self._dropped(value.target.upstream) or expires <= now:
            return None
        self.entries.put(call.key, value, len(call.key) + value.weight, stored, expires)
        entry = self.entries.get(call.key, now)
        asks = directives.read(call.cache_control) if call.cache_control else directives.NOTHING
        if entry is None or not asks.takes(now - stored, entry.expires - now):
            return None
        if (reply := self._shown(entry, call, record, now)) is not None:
            record.cache += "; detail=shared"
        return reply

    def settle(self, call: Call, reply: Reply, record: Record, now: float) -> None:
        """Keep the answer, under the mode in which it was given."""
        target = record.target
        whole = reply.keepable or (reply.cut and bool(self._cut) and cut_by(call, reply) <= self._cut)
        if not call.key or not whole or reply.status != 200 or target is None or is_encoded(reply.headers):
            return
        if record.started <= self._dropped(target.upstream):  # it may be what was to be forgotten
            return
        key = call.key if target is call.targets[0] else self.key(call, target)
        value = keep(call, reply, target, record)
        if self.entries.put(key, value, len(key) + value.weight, now) and not self._shadow:
            record.cache += "; stored"
        if key is call.key:
            record.kept = (value, now, now + self.settings.ttl_seconds)

    def tick(self, now: float) -> Iterable[News]:
        """Sweep what has expired, a slice at a time, every `cleanup_interval` seconds."""
        if self.sweeping or now - self._swept >= self.settings.cleanup_interval:
            self._swept = now
            self.sweeping = not self.entries.sweep(now)
        return ()

    def inherit(self, old: Guard, _moved: frozenset[str] = NOBODY) -> None:
        """What is kept, as far as it has room here; what moved upstreams said is purged by whoever builds."""
        if isinstance(old, Cache):
            self.entries.adopt(old.entries)

    def shrink(self, share: float) -> int:
        """Keep only this *share* of the bytes, memory being short; tell how many entries were dropped."""
        return self.entries.shrink(int(self.entries.bytes * share))

    def purge(self, upstream: str | None = None, now: float = float("-inf")) -> int:
        """Drop everything, or what *upstream* answered; tell how many. Calls begun before *now* are kept no more."""
        name = upstream or ""
        self._purged[name] = max(self._purged.get(name, now), now)
        return self.entries.purge(None if upstream is None else lambda value: value.target.upstream == upstream)

    def _dropped(self, upstream: str) -> float:
        return max(self._purged.get("", _NEVER), self._purged.get(upstream, _NEVER)) if self._purged else _NEVER

    def state(self, now: float) -> dict[str, Any]:
        """How full it is."""
        del now
        entries = self.entries
        return {
            "size": len(entries),
            "max_size": entries.max_size,
            "utilization": round(len(entries) / entries.max_size, 4),
            "ttl_seconds": entries.ttl,
            "bytes": entries.bytes,
            "max_bytes": entries.max_bytes,
            "evictions": entries.evictions,
            "expirations": entries.expirations,
        }

    def _wanted(self, call: Call, now: float) -> Entry[Kept] | None:
        """What the mode that was asked for answered before: better than what the one in its place has to say."""
        asked = next((target for target in call.targets if not target.moved_from), None)
        return None if asked is None else self.entries.get(self.key(call, asked), now)

    def _old_enough(self, key: bytes, fresh: Entry[Kept] | None, asks: Asks, now: float) -> Entry[Kept] | None:
        """What the caller takes of it where it is not simply fresh: by his wish, or while it is fetched anew."""
        entry = fresh or self.entries.stale(key, now)
        if entry is None:
            return None
        age, left = now - entry.stored, entry.expires - now
        if asks.takes(age, left) or (left <= 0 and -left < self._revalidate and asks.bears(age) and not asks.min_fresh):
            return entry
        return None

    def _shown(self, entry: Entry[Kept], call: Call, record: Record, now: float) -> Reply | None:
        """A hit, unless it cannot be had in the kind that the caller wants."""
        reply = show(entry.value, call, "cache")
        if reply is None:
            return None
        record.cache_event = "hit"
        if self._shadow:
            return reply
        left = entry.expires - now
        if left > 0:
            record.cache = f"hit; ttl={int(left)}"
        elif -left < self._revalidate:
            record.cache = f"hit; ttl={-ceil(-left)}; detail=stale-while-revalidate"
            if "only-if-cached" not in call.cache_control:  # that is: ask nobody, not later either
                call.flight = self._flight(call)
                record.refresh = call
        else:
            record.cache = f"hit; ttl={-ceil(-left)}; detail=max-stale"
        return _told(reply, entry, record, now)

    def _passed(self, call: Call, record: Record, how: str, asks: Asks) -> Call | Reply:
        """The call goes on; *how* says why."""
        if self._shadow:
            return call
        record.cache = how
        if asks.only_if_cached and call.dialect is not None:
            return _not_cached(call.dialect, record)
        if how == "fwd=miss" and self.settings.single_flight and asks.max_age:
            call.flight = self._flight(call)
        record.wanted = how == "fwd=miss"
        return call

    def _flight(self, call: Call) -> bytes:
        """What a call must share with another to share its answer while that is on its way; empty: nothing will do."""
        if call.skip:
            return b""
        key = call.key
        if call.fixed or call.terms.batch:  # whom nobody may move, and who can wait, share with their like
            key += b"!" * call.fixed + b"." * call.terms.batch
        if call.stream:
            options = call.doc.get("stream_options")
            key += b"s" if options is None else b"s" + dumps(options)
        return key


def _told(reply: Reply, entry: Entry[Kept], record: Record, now: float) -> Reply:
    """Note in the book whose answer it is, and how old."""
    value, record.age = entry.value, int(now - entry.stored)
    record.target, record.json, record.saved = value.target, value.json, value.tokens
    return reply


def _not_cached(dialect: Dialect, record: Record) -> Reply:
    record.cache_event = ""
    body = dialect.error(504, "not_cached", "the answer is not in the cache, and the call says only-if-cached")
    return Reply(504, body, [(b"Content-Type", b"application/json")], source="fault", code="not_cached")


def _build(settings: Settings, parts: Parts) -> Cache:
    return Cache(settings, {name: upstream.url for name, upstream in parts.config.upstreams.items()}, parts.epoch)


SPEC = Spec("cache", "cache", 30, _build)
"""What the registry loads."""
