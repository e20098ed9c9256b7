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
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from guardproxy.guards.cache import Cache

HIGH: Final = 0.85
FULL: Final = 0.95
_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")
"""Which groups this process is in, one a line: ``0::/path`` (version 2), ``4:memory:/path`` (version 1)."""
_NO_GRANT: Final = 1 << 50
"""Version 1 says a number beyond any machine where there is no limit."""


def granted(groups: Path = _GROUPS, own: Path = _OWN) -> int | None:
    """Bytes that this process may take, the least that any of its control groups grants; None where none limits it.

    A container sees its own group at the root, a service of systemd (``MemoryMax``) is somewhere below.
    """
    found = []
    for folder, name, path in _places(groups, own):
        for place in (path, *path.parents):
            try:
                text = (folder / str(place).lstrip("/") / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if text.isdigit() and int(text) < _NO_GRANT:
                found.append(int(text))
    return min(found, default=None)


def _places(groups: Path, own: Path) -> Iterator[tuple[Path, str, PurePosixPath]]:
    """Where both versions keep what is granted: a folder, the name of the file, and the path of our group."""
    try:
        lines = own.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        lines = []
    paths = {kinds: path for _, kinds, path in (line.split(":", 2) for line in lines if line.count(":") >= 2)}
    yield groups, "memory.max", PurePosixPath(paths.get("", "/"))
    yield groups / "memory", "memory.limit_in_bytes", PurePosixPath(paths.get("memory", "/"))


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
