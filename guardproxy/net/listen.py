"""Where the front listens.

Here belongs the way from an address as people write it to bound sockets, and back.  Not here: what is said on
the connections that they accept (caller).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

UNIX = "unix:"
_SOFT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)
"""A family this machine does without; the wildcard and names go on with the others."""


def split(address: str) -> tuple[str, int]:
    """Take ``HOST:PORT``, ``[IPv6]:PORT`` or ``:PORT`` apart; raises `ValueError` where it is none of them."""
    host, colon, digits = address.rpartition(":")
    if not colon or not (digits.isascii() and digits.isdigit()) or int(digits) > 65535:
        raise ValueError(f"{address!r} is no address: expected HOST:PORT, [IPv6]:PORT, :PORT or unix:/path")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{address!r} is no address: an IPv6 host stands in brackets")
    return host, int(digits)


def abroad(peer: object) -> str:
    """The address of *peer*; nothing where it is on this machine: loopback, or a unix socket, which has no name."""
    if not isinstance(peer, tuple):
        return ""
    host = str(peer[0]).removeprefix("::ffff:")
    return "" if host == "::1" or host.startswith("127.") else host


async def open_sockets(address: str) -> list[socket.socket]:
    """Bind to *address*: every family of a name, and all interfaces where there is no host.

    Port 0 is one free port, the same in every family.  Raises `OSError` that names the address.
    """
    if address.startswith(UNIX):
        return [_bind_path(address)]
    host, port = split(address)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    bound: list[socket.socket] = []
    missing: OSError | None = None
    # IPv4 first: where port 0 is asked for, its port is what the others then take.
    for family, kind, protocol, _, where in sorted(dict.fromkeys(found), key=lambda info: info[0]):
        taken = bound[0].getsockname()[1] if bound else port
        try:
            bound.append(_bind(family, kind, protocol, (where[0], taken, *where[2:])))
        except OSError as error:
            if error.errno in _SOFT:
                missing = error
                continue
            close_all(bound)
            raise _named(error, address) from None
    if missing and not bound:
        raise _named(missing, address)
    return bound


def name_of(sock: socket.socket) -> str:
    """Say where *sock* listens, in the form that `open_sockets` reads."""
    if sock.family == socket.AF_UNIX:
        return UNIX + str(sock.getsockname())
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def close_all(sockets: list[socket.socket]) -> None:
    """Give the sockets back."""
    for sock in sockets:
        sock.close()


def _bind(family: int, kind: int, protocol: int, where: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_path(address: str) -> socket.socket:
    path = address.removeprefix(UNIX)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _forget_stale(path)
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise _named(error, address) from None
    return sock


def _forget_stale(path: str) -> None:
    """Remove the socket of a server that died; one that somebody still answers on stays."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(Path(path).stat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                Path(path).unlink()
            except BlockingIOError:  # somebody is there, with his hands full
                return


def _named(error: OSError, address: str) -> OSError:
    number = error.errno or 0
    return OSError(number, f"cannot listen on {address}: {os.strerror(number).lower()}")
