"""Living within the memory that the container grants.

Here belongs how much there is, how much is taken, and what is given up as it runs short: kept answers first, new
calls last.  To be killed for memory loses every call under way; a miss loses nothing.

    taken / granted        looked at once a second
    below HIGH             calls are taken
    HIGH and above         the cache gives up half of its bytes
    FULL and above         and new calls are refused (503 `overloaded`) until it is below HIGH again
"""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.guards.cache import Cache

HIGH: Final = 0.85
FULL: Final = 0.95
_GRANTS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Where a container reads what it is granted: control groups, version 2 and 1."""
_NO_GRANT: Final = 1 << 50
"""Version 1 says a number beyond any machine where there is no limit."""


def granted() -> int | None:
    """Bytes that the container may take; None where nobody limits it."""
    for path in _GRANTS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_GRANT:
            return int(text)
    return None


def taken() -> int:
    """Bytes of memory that this process takes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return 0


@final
class Memory:
    """How much of the grant is left; *read* tells what is taken."""

    def __init__(self, limit: int | None, read: Callable[[], int] = taken) -> None:
        self.limit = limit
        """Bytes granted, or None: nothing is watched."""
        self.full = False
        """Whether new calls are refused."""
        self._read = read

    def __repr__(self) -> str:
        return f"<Memory {self._read()}/{self.limit} bytes{' full' * self.full}>"

    def look(self, cache: Cache | None) -> str:
        """Look, and give up what must be; what was done about it, in a few words, where anything was."""
        limit = self.limit
        if limit is None:
            return ""
        share = self._read() / limit
        if share < HIGH:
            was, self.full = self.full, False
            return "new calls are taken again" if was else ""
        dropped = 0 if cache is None else cache.shrink(0.5)
        if dropped:
            _trim()
            share = self._read() / limit
        was, self.full = self.full, share >= FULL or (self.full and share >= HIGH)
        refusing = "new calls are refused" if self.full and not was else ""
        return "; ".join(filter(None, (f"{dropped} kept answers were dropped" if dropped else "", refusing)))


def _trim() -> None:
    """Give freed memory back to the system, where its library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
