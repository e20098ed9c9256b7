"""What the front leans on in aiohttp and in the loop; read these first when a new version breaks something."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpRequestParser
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from guardproxy.net.seam import LEANS_ON
from tests.net.callers import GET, serving


def test_the_private_names_are_still_there():
    """`seam.py` is the one place that uses them."""
    known = {*RequestHandler.__slots__, *BaseProtocol.__slots__, *dir(RequestHandler)}
    gone = [name for name in LEANS_ON if name not in known]
    assert not gone, f"aiohttp {aiohttp.__version__} has no {gone} any more: see guardproxy/net/seam.py"
    assert hasattr(HttpRequestParser, "message_consumed")
    assert hasattr(StreamReader, "total_bytes")
    assert inspect.iscoroutinefunction(RequestHandler.start)
    assert "self.start()" in inspect.getsource(RequestHandler.connection_made)


def test_the_private_names_are_used_in_one_place():
    """A reliance outside of the seam would not be found when aiohttp changes."""
    net = Path(inspect.getfile(aiohttp)).parent  # only to be sure that it is not this one
    here = Path("guardproxy/net")
    assert net != here
    ours = ("caller", "intake", "patience", "server", "front")
    for name in ours:
        text = (Path(__file__).parents[2] / here / f"{name}.py").read_text()
        used = [private for private in LEANS_ON if f"self.{private}" in text and private != "_loop"]
        assert not used, f"{name}.py uses {used}"


async def test_every_setting_is_known_to_aiohttp(caplog: pytest.LogCaptureFixture):
    """aiohttp's own factory drops *all* settings with a warning where one is unknown; ours would raise."""
    async with serving(line_bytes=1234, fields=77, body_buffer=4321) as house:
        manager = house.server._manager
        assert manager is not None
        protocol = manager()
        assert (protocol.max_line_size, protocol.max_field_size, protocol.max_headers) == (1234, 1234, 77)
        assert protocol._read_bufsize == 4321
        assert protocol.access_logger is None
        with pytest.raises(TypeError):
            type(protocol)(manager, house.server._front, asyncio.get_running_loop(), no_such_setting=1)
        assert (await house.ask(GET)).status == 200
    assert not caplog.records


def test_the_connection_tells_its_condition():
    """A phase and what is being answered: for whoever looks at a dump."""

    async def run() -> None:
        async with serving() as house:
            assert house.server._manager is not None
            assert repr(house.server._manager()) == "<Caller fresh>"

    asyncio.run(run())


CHILD = """
    import asyncio, resource, sys, time
    import uvloop
    from guardproxy.net.server import Server

    async def hello(request, outlet):
        outlet.reply(200, [], b"")

    async def main():
        server = Server(hello, error=lambda status, code, message: ([], b""))
        await server.start("127.0.0.1:0")
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        print(server.addresses[0], flush=True)
        spent = time.process_time()
        await asyncio.to_thread(sys.stdin.read)
        print(time.process_time() - spent < 0.5, server.connections)
        await server.close(0)

    uvloop.run(main())
"""


def _served(callers: list[socket.socket]) -> int:
    """How many of *callers*, all of them connected, are answered; they hang up together."""
    served = 0
    for caller in callers:
        caller.settimeout(2)
        with contextlib.suppress(OSError):
            caller.sendall(GET)
            served += caller.recv(100).startswith(b"HTTP/1.1 200")
    for caller in callers:
        caller.close()
    return served


def test_running_out_of_files_is_survived():
    """Under uvloop those beyond are closed at once, the loop does not spin, and later callers are served."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as child:
        assert child.stdout is not None
        host, _, port = child.stdout.readline().strip().rpartition(":")
        callers = [socket.create_connection((host, int(port)), 2) for _ in range(60)]
        assert 0 < _served(callers) < 40
        deadline = time.monotonic() + 2
        while not _served([socket.create_connection((host, int(port)), 2)]):
            assert time.monotonic() < deadline
        out, _ = child.communicate("", timeout=5)
    assert out.split()[0] == "True"


def test_the_parser_is_the_compiled_one():
    """aiohttp's parser in Python is the laxer of the two, and slower; it is used where the other was not built."""
    assert HttpRequestParser.__module__ == "aiohttp._http_parser"
