"""A process that may write nowhere, or only where there is no room: real mounts, seen by it alone.

Here belong the ways to such a namespace: as root, or as a user who may make one of his own; what the proxy does in it
is the tests'.
"""

from __future__ import annotations

import subprocess
from functools import cache

READ_ONLY = """
for place in $(cut -d' ' -f5 /proc/self/mountinfo | sort -u); do
    mount -o remount,ro,bind "$place" 2>/dev/null
done
for place in / "$PWD" "${TMPDIR:-/tmp}" /var/tmp; do
    if touch "$place/.can-write" 2>/dev/null; then echo "$place can be written to" >&2; exit 77; fi
done
exec "$@"
"""
FULL = """
mount -t tmpfs -o size=16k none "$PWD/disk" || exit 77
exec "$@" >> "$PWD/disk/log"
"""
SHORT = """
ulimit -f 32
exec "$@" >> "$PWD/disk/log"
"""
"""The same bound without a mount: no file may have more than 16 KiB (EFBIG instead of ENOSPC)."""
WAYS = (
    ("unshare", "--mount", "--propagation", "private"),
    ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private"),
)


@cache
def way() -> tuple[str, ...]:
    """The first way that this machine allows; nothing where it allows none, as in a container without privileges."""
    for one in WAYS:
        tried = (*one, "sh", "-c", "mount -t tmpfs none /mnt")
        if subprocess.run(tried, capture_output=True, check=False).returncode == 0:
            return one
    return ()


def inside(script: str) -> tuple[str, ...]:
    """What to put before a command, so that it is run at the end of *script*."""
    return (*way(), "sh", "-c", script, "sh")
