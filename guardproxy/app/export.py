"""What is kept, as a file: for a warm start elsewhere.

Here belongs the form of the file, written and read piece by piece, so that neither needs the memory for all of it.  Who
may do that is `own`'s, how it travels `carriage`'s.

    "GPCACHE" | version, 1 character | records | an empty record
    record      4 bytes of length | a sealed value (`core.seal`)
    the first   says which keys are in it (`openai.identity.VERSION`)
    others      the key (32 bytes) and the entry as it is written down for other processes (`openai.keeping`), the least
                recently used first

Entries keep the times at which they end, and are found only by a proxy that would ask the same upstream for the same
model.  Without a secret (``shared.secret``, else ``admin_token``) the seal is no more than a checksum.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from guardproxy.core.seal import Seal
from guardproxy.openai.identity import VERSION
from guardproxy.openai.keeping import OVERHEAD, pack, unpack

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from guardproxy.config.settings import Config
    from guardproxy.guards.cache import Cache

MAGIC, FORM = b"GPCACHE", b"2"
SLICE = 100
"""Entries that are written or read before others have their turn."""
PIECE = 256 << 10
"""Bytes that are given out at a time, near enough."""
_HEAD, _NAME = "export head", "export"
_KEY = 32
_LENGTH = 4
_END = bytes(_LENGTH)


class Unfit(Exception):  # noqa: N818 -- what is wrong with a file
    """A file that cannot be put in, and why, in words for whoever wants to."""


@final
@dataclass(slots=True)
class Loaded:
    """What came of a file."""

    kept: int = 0
    of_no_use: int = 0
    """Expired, damaged, or too large to be kept."""


def seal_of(config: Config) -> Seal:
    """The seal that is on the file."""
    secret = config.shared.secret or config.admin_token or ""
    return Seal(secret, most=config.limits.response_bytes + OVERHEAD)


async def dump(cache: Cache, seal: Seal, epoch: float, now: float) -> AsyncIterator[bytes]:
    """Everything that is fresh, piece by piece; what comes or goes meanwhile may be in it or not."""
    out = bytearray(MAGIC + FORM + _record(seal.close(_HEAD, VERSION)))
    for number, key in enumerate(cache.entries.keys()):
        if number % SLICE == 0:
            await asyncio.sleep(0)
        entry = cache.entries.stale(key, now)
        if entry is None or now >= entry.expires:
            continue
        out += _record(seal.close(_NAME, key + pack(entry.value, entry.stored + epoch, entry.expires + epoch)))
        if len(out) >= PIECE:
            yield bytes(out)
            out.clear()
    yield bytes(out + _END)


async def load(cache: Cache, seal: Seal, file: AsyncIterable[bytes], most: int, epoch: float, now: float) -> Loaded:
    """Keep what is in *file*, of which no record is longer than *most* bytes; raises `Unfit`."""
    loaded, head = Loaded(), False
    async for record in _records(file, most):
        if not head:
            _see(seal.open(_HEAD, record))
            head = True
            continue
        if (loaded.kept + loaded.of_no_use) % SLICE == 0:
            await asyncio.sleep(0)
        value = seal.open(_NAME, record)
        read = None if value is None else unpack(value[_KEY:])
        if value is None or read is None or (expires := read[2] - epoch) <= now:
            loaded.of_no_use += 1
            continue
        key, stored = value[:_KEY], min(read[1] - epoch, now)
        fits = cache.entries.put(key, read[0], len(key) + read[0].weight, stored, expires)
        loaded.kept, loaded.of_no_use = loaded.kept + fits, loaded.of_no_use + (not fits)
    return loaded


def _record(value: bytes) -> bytes:
    return len(value).to_bytes(_LENGTH, "big") + value


def _see(head: bytes | None) -> None:
    """Whether the seal is ours, and the keys are those that calls have here."""
    if head is None:
        message = "it is sealed with another secret (shared.secret, else admin_token), or its beginning is damaged"
        raise Unfit(message)
    if head != VERSION:
        message = (
            f"its keys are those of another version of guardproxy ({head[:20]!r}, not {VERSION!r}): of no use here"
        )
        raise Unfit(message)


async def _records(file: AsyncIterable[bytes], most: int) -> AsyncIterator[bytes]:
    """The records, of which there is never more in memory than one, and what has come with its end."""
    held, begun, ended = bytearray(), False, False
    async for piece in file:
        held += piece
        if not begun:
            if len(held) < len(MAGIC) + 1:
                continue
            _look(held)
            del held[: len(MAGIC) + 1]
            begun = True
        at = 0
        while not ended and len(held) - at >= _LENGTH:
            size = int.from_bytes(held[at : at + _LENGTH], "big")
            if size > most:
                raise Unfit(f"a record of {size} bytes is longer than anything that is kept: the file is damaged")
            if len(held) - at - _LENGTH < size:
                break
            ended = not size
            if size:
                yield bytes(held[at + _LENGTH : at + _LENGTH + size])
            at += _LENGTH + size
        del held[:at]
    if not begun:
        _look(held)
    if not ended:
        raise Unfit("its end is missing: it was cut off; what came before has been put in")
    if held:
        raise Unfit("something follows its end; what came before has been put in")


def _look(held: bytearray) -> None:
    if not held.startswith(MAGIC):
        raise Unfit("this is no file that guardproxy cache dump has written")
    if (form := bytes(held[len(MAGIC) : len(MAGIC) + 1])) != FORM:
        raise Unfit(f"it has form {form.decode('latin-1')!r}, and this version reads form {FORM.decode()!r}")
