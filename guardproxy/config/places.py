"""Where things are on the network, as settings write it: an address to listen on, a URL to call.

Here belong their spelling and what is refused in them.  Not here: opening either (`net`).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self, final
from urllib.parse import urlsplit

_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]*)):([0-9]{1,5})")
_ALL: Final = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:.]+")


@final
class Address(NamedTuple):
    """An address to listen on, written ``127.0.0.1:8000``, ``[::1]:8000`` or ``:8000`` (all interfaces)."""

    host: str
    """An IP address or a name; empty: all interfaces."""
    port: int
    """Port 0: any that is free."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; raises `ValueError` saying what one looks like."""
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise ValueError(f"expected an address such as 127.0.0.1:8000, got {text!r}")
        if int(match[3]) > 65535:
            raise ValueError(f"expected a port of at most 65535, got {match[3]}")
        return cls(match[1] or match[2], int(match[3]))

    def clashes(self, other: Address) -> bool:
        """Whether both cannot be listened on at once."""
        hosts = (self.host, other.host)
        same = self.host == other.host or any(host in _ALL for host in hosts)
        return same and self.port == other.port != 0


def upstream_url(text: str) -> None:
    """Check the URL of a model server; raises `ValueError`, which never repeats what may hold a password.

    ``http://HOST[:PORT][/BASE][/v1]``, the same with https, or ``unix:/path/of/socket[:/BASE]``.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//").partition(":")[0]
        if not path.startswith("/") or path.endswith("/") or not text.isprintable() or " " in text:
            raise ValueError("expected unix:/path/of/socket, with an absolute path")
        return
    web_url(text)
    if "?" in text:
        raise ValueError("the URL of a model server has no query; send what is fixed in `headers`")


def web_url(text: str) -> None:
    """Check an http or https URL; raises `ValueError` where it is none, or holds a password or a fragment."""
    shape = "expected a URL such as http://127.0.0.1:8001"
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"{shape}, without blanks or characters that need escaping")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{shape}: its host or port is none") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"{shape}, https:// or unix:/path/of/socket: it has to say which")
    if "@" in parts.netloc:
        raise ValueError("a URL holds no user or password here: they would end up in logs; use `api_key` or `headers`")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError(f"{shape}: the host is missing, or no host name")
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"{shape}: the port is missing after the colon, or 0")
    if "#" in text:
        raise ValueError("a URL has no fragment (#…) here")
