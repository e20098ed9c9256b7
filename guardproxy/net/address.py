"""Where an upstream is, and how one gets there.

Here belong the reading of an upstream's url, the looking up of its name (kept for a while, renewed behind
the back of requests, the last good answer used where the name server fails), the race between the addresses
of a name (RFC 8305) and the TLS context.  Not here: how many connections there are (upstream) or what is
said on them (connection).

What fails while dialling raises; `explain` says it in words.  Only a bad configuration raises
`ValueError`, when an upstream is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, final
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohappyeyeballs import AddrInfoType

    P = TypeVar("P", bound=asyncio.BaseProtocol)

HEAD_START = 0.25
"""Seconds one address of a name has before the next one is tried beside it (RFC 8305 § 8)."""
GOODBYE = 1.0
"""Seconds the other side has to answer our TLS close_notify."""
_PORTS = {"http": 80, "https": 443}


@final
@dataclass(slots=True, frozen=True)
class Address:
    """An upstream's url, taken apart."""

    host: str
    """A name in ASCII or an address without brackets; empty where *path* is a unix socket."""
    port: int
    tls: bool
    path: str
    """The unix socket, or empty."""
    authority: bytes
    """What the Host field says."""
    base: str
    """The path before ``/v1``, without a slash at its end."""


def parse(url: str) -> Address:
    """Take an url apart: ``http://``, ``https://`` or ``unix:/path[:/base]``, with or without ``/v1``.

    Raises `ValueError` that says what is wrong, without repeating what may be a secret.
    """
    if any(char <= " " or char == "\x7f" for char in url):
        raise ValueError("the url holds white space or a control character")
    if url.startswith("unix:"):
        path, _, base = url.removeprefix("unix:").removeprefix("//").partition(":")
        if not path.startswith("/"):
            raise ValueError("a unix url needs an absolute path, e.g. unix:/run/model.sock")
        return Address("", 0, False, path, b"localhost", _base(base))
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError(f"the url must begin with http://, https:// or unix:, not {parts.scheme or 'nothing'!r}")
    if "@" in parts.netloc:
        raise ValueError("the url must not hold a user or password; use api_key")
    if parts.query or parts.fragment:
        raise ValueError("the url must not hold a query or a fragment")
    host = parts.hostname or ""
    try:
        host = host.encode("idna").decode("ascii")
    except UnicodeError:
        host = ""  # a label too long, or empty
    if not host:
        raise ValueError("the url has no host, or one that is no host name")
    usual = _PORTS[parts.scheme]
    port = usual if parts.port is None else parts.port  # raises ValueError beyond 65535
    if not port:
        raise ValueError("the url has port 0")
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port == usual else f"{shown}:{port}"
    return Address(host, port, parts.scheme == "https", "", authority.encode("ascii"), _base(parts.path))


def _base(path: str) -> str:
    if not path.isascii():
        raise ValueError("the path of the url must be percent-encoded")
    path = path.rstrip("/")
    return path.removesuffix("/v1").rstrip("/")


def tls_context(ca_file: str | None, client_cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """A context that verifies the chain and the name; *client_cert* is a PEM file, or a certificate and its key.

    Raises `ValueError` where a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ValueError(f"ca_file {ca_file!r} cannot be used: {explain(error)}") from error
    context.set_alpn_protocols(["http/1.1"])
    if client_cert is not None:
        certificate, key = (client_cert, None) if isinstance(client_cert, str) else client_cert
        try:
            # An encrypted key is refused: asking for its password on the terminal would hang the start.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (OSError, ValueError) as error:
            reason = explain(error) if isinstance(error, OSError) else "its key is encrypted"
            raise ValueError(f"client_cert {certificate!r} cannot be used: {reason}") from error
    return context


def fingerprint(*files: str | None) -> bytes:
    """What is in *files* now: another one where any of them has been renewed."""
    digest = sha256()
    for file in files:
        with contextlib.suppress(OSError):  # said where it is used
            read = Path(file).read_bytes() if file else b""
            digest.update(b"%d:%b" % (len(read), read))
    return digest.digest()


def explain(error: Exception) -> str:
    """What went wrong while dialling, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate does not verify ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or "handshake failed"
        return f"TLS: {reason.lower().replace('_', ' ')}"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be looked up ({(error.strerror or 'unknown').lower()})"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


@final
class Dialer:
    """Opens connections to one address; looks its name up at most once per *ttl* seconds, one look-up at a time."""

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None,
        ttl: float,
        clock: Callable[[], float],
        moved: Callable[[frozenset[str]], None],
    ) -> None:
        """*moved* is told the addresses of the name whenever they have changed."""
        self.address = address
        self.expires = float("-inf")
        """When the name should be looked up again."""
        self._tls = tls
        self._ttl = ttl
        self._clock = clock
        self._moved = moved
        self._known: list[AddrInfoType] = []
        self._lookup: asyncio.Task[Exception | None] | None = None
        with contextlib.suppress(ValueError):  # not a number but a name
            number = ipaddress.ip_address(address.host)
            family, rest = (socket.AF_INET6, (0, 0)) if number.version == 6 else (socket.AF_INET, ())
            target = (address.host, address.port, *rest)
            self._known = [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", target)]
        if address.path or self._known:
            self.expires = float("inf")

    async def dial(self, make: Callable[[], P], reached: Callable[[], None] = lambda: None) -> P:
        """Connect, with TLS where the url says so, of which *reached* is told when somebody is there to speak it with.

        Raises `OSError`, or whatever the loop and ssl do.
        """
        loop = asyncio.get_running_loop()
        if self.address.path:
            return (await loop.create_unix_connection(make, self.address.path))[1]
        sock = await self._race()
        try:
            if self._tls is None:
                return (await loop.create_connection(make, sock=sock))[1]
            reached()
            name = self.address.host.rstrip(".")  # the root's dot is for name servers, no certificate has it
            secured = loop.create_connection(
                make, sock=sock, ssl=self._tls, server_hostname=name, ssl_shutdown_timeout=GOODBYE
            )
            return (await secured)[1]
        except BaseException:
            sock.close()  # where the loop had not taken it over yet, nobody else will
            raise

    async def _race(self) -> socket.socket:
        """Connect to the first address that answers; old knowledge that fails is renewed once."""
        known, renewed = self._known, False
        if not known or self._clock() >= self.expires:
            error = await self._renew()
            known, renewed = self._known, True
            if not known:
                raise error or socket.gaierror(socket.EAI_NONAME, "no address")
        try:
            return await start_connection(known, happy_eyeballs_delay=HEAD_START)
        except (OSError, RuntimeError):
            if renewed or self.expires == float("inf"):
                raise
            await self._renew()
            if {info[4] for info in self._known} == {info[4] for info in known}:
                raise
            return await start_connection(self._known, happy_eyeballs_delay=HEAD_START)

    def renew_soon(self) -> None:
        """Look the name up again without anybody waiting for it."""
        self._looking()

    async def _renew(self) -> Exception | None:
        return await asyncio.shield(self._looking())  # a caller who gives up does not end it for the others

    def _looking(self) -> asyncio.Task[Exception | None]:
        if self._lookup is None:
            self._lookup = asyncio.get_running_loop().create_task(self._look_up())
        return self._lookup

    async def _look_up(self) -> Exception | None:
        error: Exception | None = None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                self.address.host, self.address.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
            before = frozenset(str(info[4][0]) for info in self._known)
            self._known = list(found)
            after = frozenset(str(info[4][0]) for info in found)
            if before != after:
                self._moved(after)
        except asyncio.CancelledError:  # by `close`: those who wait have not been cancelled themselves
            error = OSError(errno.ECANCELED, "closed")
        except UnicodeError:  # a label that no name server would take
            error = socket.gaierror(socket.EAI_NONAME, "not a host name")
        except Exception as failed:  # noqa: BLE001 - whatever it was, the last good addresses stay
            error = failed
        finally:
            self._lookup = None
        self.expires = self._clock() + self._ttl
        return error

    def close(self) -> None:
        """End a look-up under way."""
        if self._lookup is not None:
            self._lookup.cancel()
