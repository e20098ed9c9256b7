"""`guardproxy simulate`: argv, signals, exit codes.

Here belongs what a terminal sees. Here does not belong what the servers do (`server`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final, TextIO

import uvloop

from guardproxy.simulator.engines import ENGINES
from guardproxy.simulator.manners import MannerError, Manners, table
from guardproxy.simulator.server import Simulator
from guardproxy.simulator.serving import MODELS, PORT_BASE, REMEMBER, serve, three

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST: Final = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `guardproxy simulate` to its parser, and the table of manners to its help."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _epilog()
    parser.add_argument("--name", help="start one server of this name instead of qwen, mistral and llama")
    parser.add_argument("--model", help="with --name: the model id it serves (default: the known one of that name)")
    parser.add_argument("--port", type=_port, help="with --name: its port; 0 takes a free one (default: the port base)")
    parser.add_argument(
        "--port-base", type=_port, default=PORT_BASE, metavar="N",
        help="the first of three consecutive ports; 0 takes free ones (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--host", default=_HOST, help="the address to listen on (default: %(default)s)")
    parser.add_argument(
        "--fault", type=_fault, action="append", default=[], metavar="SPEC",
        help="misbehave: NAME[=VALUE][,NAME=VALUE...]; may be repeated, all hold at once; the names are below",
    )  # fmt: skip
    parser.add_argument(
        "--engine", choices=ENGINES, default="openai", help="have the manners of this engine (default: %(default)s)"
    )
    parser.add_argument("--parent-pipe", action="store_true", help="exit when stdin ends, that is with its writer")


def main(args: argparse.Namespace) -> int:
    """Run the servers until SIGINT or SIGTERM, or the end of stdin with --parent-pipe: exit code 0.

    1 where a port is taken, 2 where the arguments contradict each other; stderr says what.
    """
    if args.name is None and (args.model is not None or args.port is not None):
        _say("guardproxy simulate: --model and --port describe one server: say --name, too", sys.stderr)
        return 2
    simulators = _simulators(args)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(simulators, parent_pipe=args.parent_pipe))
    except OSError as problem:
        _say(f"guardproxy simulate: cannot listen: {problem}", sys.stderr)
        return 1
    return 0


def _simulators(args: argparse.Namespace) -> list[Simulator]:
    if args.name is None:
        return three(args.port_base, host=args.host, faults=args.fault, engine=args.engine)
    port = args.port_base if args.port is None else args.port
    model = args.model or MODELS.get(args.name, args.name)
    return [Simulator(args.name, model, args.host, port, faults=args.fault, remember=REMEMBER, engine=args.engine)]


async def _run(simulators: Sequence[Simulator], *, parent_pipe: bool) -> None:
    loop = asyncio.get_running_loop()
    until = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, until.set)
    if parent_pipe:
        # A thread and not the loop, which cannot watch every kind of file that stdin may be.
        threading.Thread(target=_watch_stdin, args=(loop, until), daemon=True).start()
    await serve(simulators, until, announce=_say)


def _watch_stdin(loop: asyncio.AbstractEventLoop, until: asyncio.Event) -> None:
    # Closed from the start is an end, too; and the loop may have ended first.
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(until.set)


def _say(line: str, stream: TextIO | None = None) -> None:
    # Flushed line by line: who started this waits for the line that says where it is.
    (stream or sys.stdout).write(line + "\n")
    (stream or sys.stdout).flush()


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return port


def _fault(text: str) -> str:
    try:
        return str(Manners.parse(text))
    except MannerError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _epilog() -> str:
    rows = [f"  {written:<18} {says}" for written, says in table()]
    return "\n".join(
        (
            'manners, for --fault SPEC, a request\'s header `X-Simulate: SPEC`, and POST /simulate {"fault": SPEC}:',
            "",
            *rows,
        )
    )
