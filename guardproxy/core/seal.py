"""Sealing what is given to a store, so that nobody else can have written it.

Here belongs the form in which values lie in a shared store or an exported file: a version, a mark of authenticity over
name and value (HMAC-SHA-256, RFC 2104), the value, compressed (zstd, RFC 8878) above a size.  Whoever can write to the
store but does not know the secret can neither forge an answer nor give one to another question; what he wrote is not
there.  He can still read: keep secrets out of prompts, or the store to yourself.

    "GP" | version | flags | mac, 32 bytes | value
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final, final

try:
    import zstandard as _zstd
except ImportError:  # the extra `shared` brings it; without it nothing is compressed, and nothing compressed is read
    _press: Any = None
else:
    _press = _zstd

MAGIC: Final = b"GP\x01"
"""The last byte is the version: another one is not read."""
PLAIN: Final = b"\0"
PRESSED: Final = b"\1"
LEVEL: Final = 3
_MAC: Final = 32
_HEAD: Final = len(MAGIC) + 1


@final
class Seal:
    """Seals and opens values with one *secret*; those above *above* bytes are compressed, to *most* at the most."""

    __slots__ = ("_above", "_key", "_most", "_names")

    def __init__(self, secret: str, above: int = 1024, most: int = 64 << 20) -> None:
        self._key = hashlib.sha256(b"guardproxy value\0" + secret.encode()).digest()
        self._names = hashlib.sha256(b"guardproxy name\0" + secret.encode()).digest()
        self._above = above
        self._most = most

    def __repr__(self) -> str:
        return f"<Seal above {self._above} bytes>"

    def name(self, *parts: bytes) -> str:
        """A name that tells nobody of what it is made."""
        text = b"".join(b"%d:%b" % (len(part), part) for part in parts)
        return hmac.digest(self._names, text, "sha256").hex()

    def close(self, name: str, value: bytes) -> bytes:
        """Seal *value*, to be opened under this *name* alone."""
        flags = PLAIN
        if _press is not None and len(value) > self._above:
            pressed: bytes = _press.ZstdCompressor(level=LEVEL).compress(value)
            if len(pressed) < len(value):
                flags, value = PRESSED, pressed
        return MAGIC + flags + self._mac(name, flags, value) + value

    def open(self, name: str, sealed: bytes) -> bytes | None:
        """The value; None where it is not ours, not of this name, or not of this version."""
        if not sealed.startswith(MAGIC) or len(sealed) < _HEAD + _MAC:
            return None
        flags, value = sealed[_HEAD - 1 : _HEAD], sealed[_HEAD + _MAC :]
        if not hmac.compare_digest(self._mac(name, flags, value), sealed[_HEAD : _HEAD + _MAC]):
            return None
        return value if flags == PLAIN else self._unpressed(value)

    def _unpressed(self, value: bytes) -> bytes | None:
        if _press is None:
            return None
        try:
            size: int = _press.frame_content_size(value)
            if not 0 <= size <= self._most:
                return None
            plain: bytes = _press.ZstdDecompressor().decompress(value)
        except _press.ZstdError:
            return None
        return plain

    def _mac(self, name: str, flags: bytes, value: bytes) -> bytes:
        return hmac.digest(self._key, b"%b%b%b\0%b" % (MAGIC, flags, name.encode(), value), "sha256")
