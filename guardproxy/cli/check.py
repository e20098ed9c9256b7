"""``guardproxy check``: whether a configuration can be used.

Here belongs what is printed about it: every problem as ``file:line: path: problem`` on stderr, or a short
summary; with ``--probe`` also what each upstream does with a schema.  Not here: finding problems (`config`), asking
(`app.probe`).
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from guardproxy.config.load import Loaded


def add_arguments(parser: ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("config", nargs="?", metavar="CONFIG", help="the file; else $GUARDPROXY_CONFIG")
    parser.add_argument(
        "-o", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="override a setting"
    )
    parser.add_argument(
        "--probe", action="store_true", help="ask each upstream whether it enforces a schema, with the evidence"
    )


def main(args: Namespace) -> int:
    """Check, and say so; 0 where it can be used, 2 where it cannot; 1 where a probe shows that it does not hold."""
    loaded = read(args)
    if loaded is None:
        return 2
    for warning in loaded.warnings:
        print(f"{loaded.path or 'default'}: warning: {warning}", file=sys.stderr)
    config = loaded.config
    print(f"{loaded.path or 'no file, all is default'}: good, digest {loaded.digest}")
    print(f"  upstreams  {', '.join(config.upstreams)}")
    print(f"  modes      {' > '.join(config.modes) or 'none'}")
    print(f"  schemas    {', '.join(config.json_guard.schemas) or 'none'}")
    return _probe(loaded) if args.probe else 0


def _probe(loaded: Loaded) -> int:
    """Ask the upstreams, and print what they do with a schema; 1 where one does not do what is configured."""
    from guardproxy.app.probe import probe
    from guardproxy.checklist.enforcing import advice

    status = 0
    for name, findings in asyncio.run(probe(loaded)).items():
        configured = loaded.config.upstreams[name].structured_output
        print(f"{name}")
        for way, found in findings.items():
            print(f"  {way:<18}  {found.state:<8}  {found.evidence}")
        print(f"  -> {advice(configured, findings)}")
        if configured in findings and findings[configured].state != "enforced":
            status = 1
    return status


def read(args: Namespace) -> Loaded | None:
    """The configuration that *args* ask for; None where it has problems, which are on stderr then."""
    from guardproxy.config.load import Invalid, load

    try:
        return load(args.config, args.overrides)
    except Invalid as invalid:
        for problem in invalid.problems:
            print(problem, file=sys.stderr)
        count = len(invalid.problems)
        print(f"{count} problem{'s' if count > 1 else ''}", file=sys.stderr)
        return None
