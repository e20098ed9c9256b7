"""``guardproxy verify``: the pre-promotion checklist of a running proxy."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from guardproxy.checklist.ask import Unanswered, fetch, render

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8000", help="the proxy (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def main(args: argparse.Namespace) -> int:
    """Ask, print, and return 0 where it is safe to promote, else 1."""
    try:
        result = fetch(args.url)
    except Unanswered as reason:
        if args.json:
            print(json.dumps({"safe": False, "error": str(reason), "checks": []}))
        else:
            print(f"✗ {reason}\n✗ DO NOT PROMOTE", file=sys.stderr)
        return 1
    print(json.dumps(result, ensure_ascii=False, indent=2) if args.json else render(result))
    return 0 if result["safe"] else 1
