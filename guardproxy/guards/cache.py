"""Answer again what was answered before.

Here belongs what makes two calls the same call, which answers are kept, and what a caller may say about both.
How memory is bounded is `core.lru`'s.

Kept is an answer only if it is whole, successful and accepted by every guard; it is shown only to a caller whose
call has the same key: the same path, query, body, schema, tenant, upstream, model and mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import Guard, Spec
from guardproxy.core.lru import Lru
from guardproxy.core.units import Bytes, Seconds
from guardproxy.core.values import Reply
from guardproxy.openai.fields import kept
from guardproxy.openai.strict import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.lru import Entry
    from guardproxy.core.values import Call, News, Record, Target

OVERHEAD = 700
"""Bytes that an entry takes besides key, header fields and body (measured: objects, table slots)."""
STATEFUL = ("store", "conversation", "previous_response_id", "background")
"""Request fields that make the server remember something: such calls are never answered from memory."""
_STATEFUL = frozenset(STATEFUL)


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
    cleanup_interval: Seconds = Seconds(60)
    """Seconds between two sweeps of expired entries."""
    eviction_policy: Literal["lru"] = "lru"
    """Who leaves when it is full."""
    when: Literal["always", "deterministic"] = "always"
    """``deterministic``: only calls with temperature 0 or a seed are kept."""
    vary: tuple[str, ...] = (
        "authorization",
        "x-api-key",
        "api-key",
        "openai-organization",
        "openai-project",
        "cookie",
    )
    """Request header fields that tell tenants apart: a difference in any of them is another entry."""
    single_flight: bool = True
    """Whether the same call, made again while it is on its way, waits for the one answer instead of asking too."""
    stale_while_revalidate_seconds: Seconds = Seconds(0)
    """Seconds after its expiry during which an entry is served at once while it is fetched anew."""
    stale_if_error_seconds: Seconds = Seconds(0)
    """Seconds after its expiry during which an entry is served where no upstream could answer."""


@final
@dataclass(slots=True)
class Kept:
    """An answer as it is shown again."""

    block: bytes
    """Status line and header fields, ready to be sent but for what is of the request."""
    body: bytes
    events: bool
    target: Target
    json: str
    """What the JSON guard said of it."""


@final
class Cache(Guard):
    """Keeps whole, successful, accepted answers, and shows them to the same caller who asks the same again."""

    name = "cache"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        linger = settings.stale_if_error_seconds
        self.entries: Lru[Kept] = Lru(settings.max_size, settings.max_bytes, settings.ttl_seconds, linger)
        self._vary = frozenset(name.lower().encode() for name in settings.vary)
        self._swept = float("-inf")
        self._purged = float("-inf")
        self._sweeping = False

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply:
        """Answer from what is kept; mark what is to be kept."""
        if call.dialect is None:
            return call
        asks = directives(call.cache_control) if call.cache_control else _NOTHING
        if "no-store" in asks or not self._may_be_kept(call.doc, call.dialect.nest):
            record.cache = "fwd=bypass"
            return _not_cached(call.dialect, record) if "only-if-cached" in asks else call
        target = call.targets[0]
        call.key = self.key(call, target)
        call.keep = True
        if "no-cache" in asks:
            record.cache = "fwd=request"
            return _not_cached(call.dialect, record) if "only-if-cached" in asks else call
        entry = self._wanted(call, now) if target.moved_from else None
        if entry is None:
            entry = self.entries.get(call.key, now)
        if entry is not None and now - entry.stored <= seconds_of(asks.get("max-age"), float("inf")):
            record.cache_event = "hit"
            record.cache = f"hit; ttl={int(entry.expires - now)}"
            return _shown(entry.value, "cache", int(now - entry.stored), record)
        record.cache_event = "miss"
        record.cache = "fwd=miss"
        if "only-if-cached" in asks:
            return _not_cached(call.dialect, record)
        if self.settings.single_flight and not call.skip and asks.get("max-age") != "0":
            call.flight = call.key if not call.fixed else call.key + b"!"  # whom nobody may move is told what was not
        return call

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """An answer that has expired, where that is better than none."""
        if not call.key or not self.settings.stale_if_error_seconds:
            return None
        for target in sorted(call.targets, key=_moved):  # what was asked for, if there is any of it
            entry = self.entries.stale(self.key(call, target), now)
            if entry is not None and _may_be_stale(call.cache_control, now - entry.stored):
                break
        else:
            return None
        record.cache = f"hit; ttl={-ceil(now - entry.expires)}; detail=stale-if-error"
        return _shown(entry.value, "stale", int(now - entry.stored), record)

    def settle(self, call: Call, reply: Reply, record: Record, now: float) -> None:
        """Keep the answer, under the mode in which it was given."""
        if not call.key or not reply.keepable or reply.status != 200 or record.target is None:
            return
        if record.started <= self._purged:
            return  # it was asked before somebody wanted everything forgotten: it may be what he meant
        key = call.key if record.target is call.targets[0] else self.key(call, record.target)
        headers = kept(reply.headers)
        block = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers)
        value = Kept(block, reply.body, reply.events, record.target, record.json)
        if self.entries.put(key, value, len(key) + len(block) + len(reply.body) + OVERHEAD, now):
            record.cache += "; stored"

    def tick(self, now: float) -> Iterable[News]:
        """Sweep what has expired, a slice at a time, every `cleanup_interval` seconds."""
        if self._sweeping or now - self._swept >= self.settings.cleanup_interval:
            self._swept = now
            self._sweeping = not self.entries.sweep(now)
        return ()

    def inherit(self, old: Guard) -> None:
        """What is kept, as far as it has room here."""
        if isinstance(old, Cache):
            self.entries.adopt(old.entries)

    def purge(self, upstream: str | None = None, now: float = float("-inf")) -> int:
        """Drop everything, or what *upstream* answered; tell how many. Calls begun before *now* are kept no more."""
        self._purged = max(self._purged, now)
        return self.entries.purge(None if upstream is None else lambda value: value.target.upstream == upstream)

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

    def key(self, call: Call, target: Target) -> bytes:
        """Everything that shapes the answer, in 32 bytes: a difference in any of it is another key.

        The length of every part is written before it, so that no two lists of parts read the same.
        """
        schema = call.schema.digest if call.schema is not None else b""
        path, query = call.path.encode("utf-8", "surrogateescape"), call.query.encode("utf-8", "surrogateescape")
        meant = f"{target.upstream}\0{target.model}\0{target.mode}\0".encode()
        if call.named_mode or target.moved_from:  # then these are part of the request
            meant += dumps([target.params, target.caps])
        sizes = (len(path), len(query), len(meant), len(schema), len(call.body))
        start = b"guardproxy 2\0%d:%d:%d:%d:%d\0%b%b%b%b" % (*sizes, path, query, meant, schema)
        digest = blake2b(start, digest_size=32)
        digest.update(call.body)  # apart: it may be large, and is not copied
        vary = self._vary
        for name, value in call.headers:
            if (lower := name.lower()) in vary:
                digest.update(b"%d:%b%d:%b" % (len(lower), lower, len(value), value))
        return digest.digest()

    def _wanted(self, call: Call, now: float) -> Entry[Kept] | None:
        """What the mode that was asked for answered before: better than what the one in its place has to say."""
        asked = next((target for target in call.targets if not target.moved_from), None)
        return None if asked is None else self.entries.get(self.key(call, asked), now)

    def _may_be_kept(self, doc: dict[str, Any], nest: str) -> bool:
        if not _STATEFUL.isdisjoint(doc) and any(doc.get(name) for name in STATEFUL):
            return False
        if self.settings.when == "always":
            return True
        options = doc.get(nest) if nest else doc
        return isinstance(options, dict) and (options.get("temperature") == 0 or options.get("seed") is not None)


def directives(text: str) -> dict[str, str]:
    """Read a Cache-Control field (RFC 9111 §5.2), already in lower case; a later directive beats an earlier one."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name:
            found[name] = value.strip('"')
    return found


def seconds_of(text: str | None, default: float) -> float:
    """A number of seconds in a directive; one that cannot be read asks for the freshest (RFC 9111 §4.2.1)."""
    if text is None:
        return default
    return float(text) if text.isdecimal() else 0.0


def _may_be_stale(cache_control: str, age: float) -> bool:
    """Whether the caller takes an answer of this age where there is no other; ``no-cache`` and ``max-age`` bind."""
    asks = directives(cache_control) if cache_control else _NOTHING
    return "no-cache" not in asks and age <= seconds_of(asks.get("max-age"), float("inf"))


def _moved(target: Target) -> bool:
    return bool(target.moved_from)


_NOTHING: dict[str, str] = {}


def _shown(value: Kept, source: str, age: int, record: Record) -> Reply:
    record.age = age
    record.target = value.target
    record.json = value.json
    return Reply(200, value.body, source=source, events=value.events, block=value.block)


def _not_cached(dialect: Dialect, record: Record) -> Reply:
    record.cache_event = ""
    message = "the answer is not in the cache, and the call says only-if-cached"
    body = dialect.error(504, "not_cached", message)
    return Reply(504, body, [(b"Content-Type", b"application/json")], source="fault", code="not_cached")


SPEC = Spec("cache", "cache", 30, lambda settings, _: Cache(settings))
"""What the registry loads."""
