"""The program's front door: which command, and its ``--help``.

Here belongs the list of commands.  What a command does, and the modules that it needs, are in its own file and are
imported only when it is called: a proxy must start fast.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "run": ("guardproxy.cli.run", "serve"),
    "simulate": ("guardproxy.simulator.main", "start simulated model servers, with faults on order"),
    "check": ("guardproxy.cli.check", "check a configuration and print every problem in it"),
    "explain": ("guardproxy.cli.explain", "print what a configuration amounts to"),
    "report": ("guardproxy.cli.report", "tell what the guards of a running proxy have done, or in shadow would have"),
    "cache": ("guardproxy.cli.cache", "take out what a running proxy keeps, or put it in"),
    "verify": ("guardproxy.cli.verify", "ask a running proxy whether it is safe to promote"),
}


class _Version(argparse.Action):
    """Prints the version once it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Look it up."""
        sys.stdout.write(importlib.import_module("guardproxy.cli.version").version() + "\n")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (2: bad arguments or a bad configuration)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="guardproxy", description="A sidecar reverse proxy that guards calls to model servers."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version, and the commit if known")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:
            importlib.import_module(module).add_arguments(command)
    args = parser.parse_args(arguments)
    try:
        status = importlib.import_module(COMMANDS[args.command][0]).main(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever was reading has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return int(status)
