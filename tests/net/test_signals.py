"""Reading what engines expose, over a real socket."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from guardproxy.net.signals import Signals, exposition_of

TEXT = b'vllm:num_requests_waiting{model_name="m"} 3.0\n'


@pytest.mark.parametrize(
    "url, place",
    [
        ("http://h:1", "http://h:1/metrics"),
        ("http://h:1/v1", "http://h:1/metrics"),
        ("https://h/prefix/v1/", "https://h/prefix/metrics"),
        ("unix:/run/model.sock", None),
    ],
)
def test_where_it_is(url, place):
    assert exposition_of(url) == place


async def heard(answers, many, seconds=0.01):
    """What is heard of an engine that gives *answers*, the last one for ever, until *many* have been asked for."""
    loop, told, asked = asyncio.get_running_loop(), [], []
    enough = asyncio.Event()

    async def answer(request):
        asked.append(request.path)
        status, body = answers[min(len(asked), len(answers)) - 1]
        if len(asked) >= many:
            enough.set()
        return web.Response(status=status, body=body)

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    signals = Signals({"llama": url}, seconds, lambda name, waits, _now: told.append((name, waits)), loop)
    signals.start()
    try:
        await asyncio.wait_for(enough.wait(), 20)
        await asyncio.sleep(0.05)
    finally:
        await signals.stop()
        await runner.cleanup()
    assert set(asked) == {"/metrics"}
    return told, len(asked)


async def test_it_is_asked_again_and_again():
    """Each look is told; one that fails after others is told as nobody waiting."""
    told, _ = await heard([(200, TEXT), (200, TEXT), (500, b"")], 3)
    assert told[:3] == [("llama", 3), ("llama", 3), ("llama", 0)]


@pytest.mark.parametrize("answer", [(404, b"nothing here"), (200, b"up 1\n"), (302, TEXT), (200, b"x" * (5 << 20))])
async def test_who_says_nothing_of_the_kind_is_left_alone(answer):
    """An engine without such numbers is asked once, and then rarely."""
    told, asked = await heard([answer], 1)
    assert (told, asked) == ([], 1)


async def test_nobody_to_ask():
    """Where it is off, or nobody is reached by a name, nothing is begun."""
    loop = asyncio.get_running_loop()
    for urls, seconds in (({"a": "http://127.0.0.1:1"}, 0.0), ({"a": "unix:/x"}, 1.0)):
        signals = Signals(urls, seconds, lambda *_: None, loop)
        signals.start()
        assert signals._task is None
        await signals.stop()


async def test_nobody_listens():
    """An engine that is down is no reason to stop looking."""
    loop = asyncio.get_running_loop()
    signals = Signals({"a": "http://127.0.0.1:9"}, 0.01, lambda *_: None, loop)
    signals.start()
    await asyncio.sleep(0.1)
    assert signals._task is not None
    assert not signals._task.done()
    await signals.stop()
