"""``guardproxy cache dump FILE`` and ``load FILE``: what a running proxy keeps, taken out and put in again.

Here belong the two requests and the file, neither of which is ever whole in memory.  What is in it is `app.export`'s.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SECONDS = 120.0
"""Seconds without a sign of the proxy."""
PIECE = 256 << 10
"""Bytes that are read and written at a time."""
EVERY = 1.0
"""Seconds between two words about how far it is."""
TOKEN = "GUARDPROXY_ADMIN_TOKEN"  # noqa: S105 -- the name of a variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", choices=["dump", "load"], help="take out what is fresh, or put it in")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:9090", help="the admin port (default: %(default)s)")
    parser.epilog = f"cache.export must be true; from elsewhere than loopback ${TOKEN} is the admin_token."


def main(args: argparse.Namespace) -> int:
    """Ask, and write or tell; 1 where that did not work."""
    connection = _connected(args.url)
    try:
        return (_dump if args.what == "dump" else _load)(connection, args.url, args.file)
    except OSError as problem:
        print(f"✗ {problem}", file=sys.stderr)
    except (http.client.HTTPException, ValueError) as problem:
        print(f"✗ no whole answer from {args.url}: {problem!r}", file=sys.stderr)
    finally:
        connection.close()
    return 1


def _dump(connection: http.client.HTTPConnection, url: str, file: Path) -> int:
    """Take out; the file is there once it is whole, readable by its owner alone: these are everybody's answers."""
    connection.request("POST", "/guard/cache/dump", headers=_headers())
    response = connection.getresponse()
    if response.status != 200:
        return _refused(url, response)
    part = file.with_name(f"{file.name}.part")
    part.touch(mode=0o600)
    part.chmod(0o600)
    try:
        with part.open("wb") as out:
            progress = _Progress("taken out")
            while piece := response.read(PIECE):
                out.write(piece)
                progress.more(len(piece))
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    print(f"✓ {progress.bytes} bytes written to {file}")
    return 0


def _load(connection: http.client.HTTPConnection, url: str, file: Path) -> int:
    with file.open("rb") as given:
        size = os.fstat(given.fileno()).st_size
        headers = {**_headers(), "Content-Length": str(size)}
        try:
            connection.request("PUT", "/guard/cache/load", _pieces(given, size), headers)
        except (BrokenPipeError, ConnectionResetError):
            if connection.sock is None:
                raise
            # it would not hear the rest: it may have said why
    response = connection.getresponse()
    if response.status != 200:
        return _refused(url, response)
    told = json.loads(response.read())
    print(f"✓ {told['kept']} entries put in, {told['of_no_use']} of no use")
    return 0


def _connected(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return make(parts.hostname or "", parts.port, timeout=SECONDS)


def _headers() -> dict[str, str]:
    token = os.environ.get(TOKEN)
    return {"Content-Type": "application/octet-stream", **({"Authorization": f"Bearer {token}"} if token else {})}


def _pieces(file: BinaryIO, size: int) -> Iterator[bytes]:
    progress = _Progress("put in", size)
    while piece := file.read(PIECE):
        progress.more(len(piece))
        yield piece


def _refused(url: str, response: http.client.HTTPResponse) -> int:
    print(f"✗ {url} answered {response.status}: {_words(response.read())}", file=sys.stderr)
    return 1


def _words(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode("utf-8", "replace")


class _Progress:
    """Says how far it is, once in a while, where that takes time."""

    def __init__(self, what: str, size: int = 0) -> None:
        self.bytes = 0
        self._what = what
        self._of = f" of {size / 1e6:,.0f}" if size else ""
        self._next = time.monotonic() + EVERY

    def more(self, size: int) -> None:
        """So many bytes more."""
        self.bytes += size
        if time.monotonic() >= self._next:
            self._next += EVERY
            print(f"  {self.bytes / 1e6:,.0f}{self._of} MB {self._what}", file=sys.stderr)
