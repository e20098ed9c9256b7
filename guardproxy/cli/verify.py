"""``guardproxy verify``: the pre-promotion checklist of a running proxy."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardproxy.checklist.ask import Unanswered, fetch, render
from guardproxy.checklist.junit import junit

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000", help="the proxy (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--junit", metavar="FILE", type=Path, help="also write it as JUnit XML")


def main(args: argparse.Namespace) -> int:
    """Ask, print, and return 0 where it is safe to promote, else 1."""
    begun, error = time.monotonic(), ""
    result: dict[str, Any] = {"safe": False, "checks": []}
    try:
        result = fetch(args.url)
    except Unanswered as reason:
        error = str(reason)
    if args.junit is not None:
        try:
            args.junit.write_text(junit(result, args.url, time.monotonic() - begun, error), encoding="utf-8")
        except OSError as problem:
            print(f"✗ {args.junit}: {problem.strerror}", file=sys.stderr)
            return 1
    if args.json:
        told = result | {"error": error} if error else result
        print(json.dumps(told, ensure_ascii=False, indent=2))
    elif error:
        print(f"✗ {error}\n✗ DO NOT PROMOTE", file=sys.stderr)
    else:
        print(render(result))
    return 0 if result["safe"] else 1
