"""``guardproxy run``: serve."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from guardproxy.config.load import Loaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "config", nargs="?", help="the configuration (default: $GUARDPROXY_CONFIG, then config/guardproxy.yaml)"
    )
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="start simulated model servers in place of those whose URL the environment does not name",
    )
    parser.add_argument(
        "-o",
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="override a setting; may be given several times",
    )


@contextmanager
def _without_certificates() -> Iterator[None]:
    """Import aiohttp without having it read the system's certificates twice: 0.1 s, and 2 MB, for nobody's use.

    The contexts that it makes meanwhile trust nobody, so that whoever took one by mistake would not get through;
    those who speak TLS here, the way to upstreams and the webhook, make contexts of their own.
    """
    import ssl

    whole = ssl.create_default_context
    ssl.create_default_context = lambda *_, **__: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        yield
    finally:
        ssl.create_default_context = whole


def main(args: argparse.Namespace) -> int:
    """Serve until a signal comes; 0 after a clean drain, 2 for a bad configuration, 1 otherwise."""
    import uvloop

    with _without_certificates():
        from guardproxy.app.serve import Proxy
    from guardproxy.app.stand_ins import StandIns
    from guardproxy.config.load import Invalid, load

    def read() -> Loaded:
        return load(args.config, args.overrides)

    try:
        loaded = read()
    except Invalid as invalid:
        for problem in invalid.problems:
            print(problem, file=sys.stderr)
        return 2

    async def serve(stand_ins: StandIns | None) -> None:
        import asyncio

        def again() -> Loaded:
            return stand_ins.instead(read()) if stand_ins else read()

        first = stand_ins.instead(loaded) if stand_ins else loaded
        proxy = Proxy(first, asyncio.get_running_loop(), load=again)
        await proxy.start()
        if stand_ins is not None:
            print(stand_ins.greeting(proxy.app.addresses[0], proxy.admin.addresses[0]), flush=True)
        await proxy.run()

    try:
        if not args.simulate:
            uvloop.run(serve(None))
            return 0
        with StandIns(loaded.config, os.environ) as stand_ins:
            uvloop.run(serve(stand_ins))
    except (OSError, ValueError) as error:
        print(f"guardproxy: {error}", file=sys.stderr)
        return 1
    return 0
