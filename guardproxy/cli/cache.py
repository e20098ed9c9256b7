"""``guardproxy cache dump FILE`` and ``load FILE``: what a running proxy keeps, taken out and put in again.

Here belong the two requests and the file.  What is in it is `app.export`'s.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import argparse

SECONDS = 120.0
TOKEN = "GUARDPROXY_ADMIN_TOKEN"  # noqa: S105 -- the name of a variable
_WAYS = {"dump": ("POST", "/guard/cache/dump"), "load": ("PUT", "/guard/cache/load")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", choices=list(_WAYS), help="take out what is fresh, or put it in")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:9090", help="the admin port (default: %(default)s)")
    parser.epilog = f"cache.export must be true; from elsewhere than loopback ${TOKEN} is the admin_token."


def main(args: argparse.Namespace) -> int:
    """Ask, and write or tell; 1 where that did not work."""
    try:
        body = args.file.read_bytes() if args.what == "load" else b""
        status, answer = _ask(args.url, *_WAYS[args.what], body)
        if status != 200:
            print(f"✗ {args.url} answered {status}: {_words(answer)}", file=sys.stderr)
            return 1
        if args.what == "load":
            told = json.loads(answer)
            print(f"✓ {told['kept']} entries put in, {told['of_no_use']} of no use")
        else:
            _write(args.file, answer)
            print(f"✓ {len(answer)} bytes written to {args.file}")
    except OSError as problem:
        print(f"✗ {problem}", file=sys.stderr)
        return 1
    except (http.client.HTTPException, ValueError) as problem:
        print(f"✗ no answer from {args.url}: {problem}", file=sys.stderr)
        return 1
    return 0


def _ask(url: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = make(parts.hostname or "", parts.port, timeout=SECONDS)
    headers = {"Content-Type": "application/octet-stream"}
    if token := os.environ.get(TOKEN):
        headers["Authorization"] = f"Bearer {token}"
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _write(file: Path, content: bytes) -> None:
    """Readable by its owner alone: these are everybody's answers."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_bytes(content)


def _words(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer[:200].decode("utf-8", "replace")
