"""TLS on the listening side.

Here belongs the context that callers are met with.  That for upstreams is `address`'s, and which files are meant is
for the configuration to say.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, final

from guardproxy.net.address import explain

if TYPE_CHECKING:
    from collections.abc import Callable


@final
class Identity:
    """What callers are shown, and whom it is shown to; raises `ValueError` where a file cannot be used.

    *key* is the certificate's own file where none is given.  With *client_ca* only callers are met who have a
    certificate of it.
    """

    __slots__ = ("_certificate", "_client_ca", "_key", "context")

    def __init__(self, certificate: str, key: str | None, client_ca: str | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self.context = context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self.renew()
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED

    def renew(self) -> None:
        """Read the files anew: whoever comes from now on is shown what is in them now.

        Callers with a certificate of a CA that is new in `client_ca` are met, too; one that is no longer in it is
        trusted until the process ends, since a context forgets nothing.
        """
        # An encrypted key is refused: asking for its password on the terminal would hang the start.
        load = self.context.load_cert_chain
        _using(self._certificate, lambda: load(self._certificate, self._key, password=lambda: ""))
        if (ca := self._client_ca) is not None:
            _using(ca, lambda: self.context.load_verify_locations(ca))


def identity(certificate: str | None, key: str | None, client_ca: str | None) -> Identity | None:
    """What callers of a port are shown; None where it speaks no TLS."""
    return None if certificate is None else Identity(certificate, key, client_ca)


def _using(file: str, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:
        raise ValueError(f"tls: {file!r} cannot be used: {explain(error)}") from error
    except ValueError as error:
        raise ValueError(f"tls: {file!r} cannot be used: its key is encrypted") from error
