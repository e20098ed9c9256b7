"""`guardproxy simulate` as a process: what a terminal, a parent and a signal see."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import aiohttp
import pytest

from guardproxy.simulator import Simulator
from guardproxy.simulator.main import add_arguments, main
from tests.simulator.conftest import Client

PROGRAM = (
    "import argparse, sys; from guardproxy.simulator.main import add_arguments, main; "
    "parser = argparse.ArgumentParser(); add_arguments(parser); sys.exit(main(parser.parse_args()))"
)


@pytest.fixture
async def simulate():
    """Start the program with these arguments; it is killed after the test if it still runs."""
    started = []

    async def simulate(*arguments, lines=1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        assert process.stdout is not None
        return process, [(await process.stdout.readline()).decode().split() for _ in range(lines)]

    yield simulate
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser, parser.parse_args(arguments)


async def test_three_servers_say_where_they_are_and_end_with_a_signal(simulate):
    """One line each with name, URL, model and pid; SIGTERM is an orderly end, also with requests hanging."""
    process, lines = await simulate("--port-base", "0", "--fault", "hang,times=1", lines=3)
    assert [line[0] for line in lines] == ["qwen", "mistral", "llama"]
    assert lines[1][2:] == ["mistralai/Mistral-7B-Instruct-v0.3", f"pid={process.pid}"]
    async with Client() as client:
        for line in lines:
            assert (await client.get(f"{line[1]}/health")).status == 200
        hanging = asyncio.create_task(client.post(f"{lines[0][1]}/v1/embeddings", json={"input": "x"}))
        await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        with pytest.raises(aiohttp.ClientError):
            await hanging


async def test_sigint_is_an_orderly_end_too(simulate):
    """Ctrl-C in a terminal shows no traceback."""
    process, _ = await simulate("--port-base", "0", lines=3)
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    assert await process.stderr.read() == b""


async def test_a_reset_is_one_under_the_programs_own_event_loop(simulate):
    """The tests run on asyncio's loop, the program on uvloop, whose sockets are others: RST all the same, not FIN."""
    _, [line] = await simulate("--name", "qwen", "--port", "0", "--fault", "reset-before")
    port = int(line[1].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.transport.abort()


async def test_with_a_parent_pipe_it_dies_with_its_parent(simulate):
    """The end of stdin is the end."""
    process, [line] = await simulate("--name", "llama", "--port", "0", "--parent-pipe")
    assert line[2] == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert process.returncode is None
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_a_taken_port_is_exit_code_1(sim, capsys):
    """With the reason in one line."""
    _, args = parse("--name", "x", "--port", str(sim.port))
    assert await asyncio.to_thread(_in_thread, args) == 1
    assert "cannot listen" in capsys.readouterr().err


def _in_thread(args):
    # Signals can be watched from the main thread only; that is not what this is about.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uvloop.Loop.add_signal_handler", lambda *_: None, raising=False)
        return main(args)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--fault", "explode"], "there are latency, slow-first-token"),
        (["--fault", "statsu=500"], "did you mean status?"),
        (["--port-base", "70000"], "70000"),
    ],
)
def test_arguments_nobody_can_follow_are_exit_code_2(capsys, arguments, says):
    """And the message lists the right ones."""
    with pytest.raises(SystemExit) as stopped:
        parse(*arguments)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_model_without_a_name_is_exit_code_2(capsys):
    """--model and --port describe one server."""
    _, args = parse("--model", "x")
    assert main(args) == 2
    assert "--name" in capsys.readouterr().err


def test_help_lists_every_manner():
    """What can be ordered is found where one looks first."""
    text = parse()[0].format_help()
    for word in ("slow-first-token=S", "error-200[=CODE]", "X-Simulate", "/simulate"):
        assert word in text


async def test_serve_stops_the_started_where_one_cannot_start(sim):
    """A half-started trio would keep ports."""
    from guardproxy.simulator import serve  # noqa: PLC0415

    first = Simulator()
    with pytest.raises(OSError, match="in use"):
        await serve([first, Simulator(port=sim.port)], asyncio.Event())
    assert "stopped" in repr(first)
