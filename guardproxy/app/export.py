"""What is kept, as a file: for a warm start elsewhere.

Here belongs the form of the file, and the taking out and putting in.  Who may do that is `own`'s and `orders`'.

    "GPCACHE1" and then, for every entry, the least recently used first: 4 bytes of length, a sealed value (`core.seal`)
    that holds the key (32 bytes) and the entry as it is written down for other processes (`openai.keeping`).

Entries keep the times at which they end, and are found only by a proxy that would ask the same upstream for the same
model.  Without a secret (``shared.secret``, else ``admin_token``) the seal is no more than a checksum.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guardproxy.core.seal import Seal
from guardproxy.openai.keeping import OVERHEAD, pack, unpack

if TYPE_CHECKING:
    from guardproxy.config.settings import Config
    from guardproxy.guards.cache import Cache

MAGIC = b"GPCACHE1"
SLICE = 100
"""Entries that are written or read before others have their turn."""
_NAME = "export"
_KEY = 32


def seal_of(config: Config) -> Seal:
    """The seal that is on the file."""
    secret = config.shared.secret or config.admin_token or ""
    return Seal(secret, most=config.limits.response_bytes + OVERHEAD)


async def dump(cache: Cache, seal: Seal, epoch: float, now: float) -> bytes:
    """Everything that is fresh."""
    out = bytearray(MAGIC)
    for number, (key, entry) in enumerate(cache.entries.items()):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        if now < entry.expires:
            value = seal.close(_NAME, key + pack(entry.value, entry.stored + epoch, entry.expires + epoch))
            out += len(value).to_bytes(4, "big") + value
    return bytes(out)


async def load(cache: Cache, seal: Seal, file: bytes, epoch: float, now: float) -> tuple[int, int] | None:
    """Keep what is in *file*: how many entries, and how many were of no use; None where it is no such file."""
    if not file.startswith(MAGIC):
        return None
    kept = useless = 0
    at = len(MAGIC)
    while at < len(file):
        if (kept + useless) % SLICE == 0:
            await asyncio.sleep(0)
        size = int.from_bytes(file[at : at + 4], "big")
        value = seal.open(_NAME, file[at + 4 : at + 4 + size])
        at += 4 + size
        read = None if value is None else unpack(value[_KEY:])
        if value is None or read is None or (expires := read[2] - epoch) <= now:
            useless += 1
            continue
        key, stored = value[:_KEY], min(read[1] - epoch, now)
        fits = cache.entries.put(key, read[0], len(key) + read[0].weight, stored, expires)
        kept, useless = kept + fits, useless + (not fits)
    return kept, useless
