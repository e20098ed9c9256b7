"""A limit finds itself where nothing is streamed: an engine that queues above what it bears, end to end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.app.stand import NEVER

CALLERS = 12


class Engine:
    """Answers in one piece, *bears* calls at once, and lets all others wait, as vLLM does; it tells nothing of it."""

    def __init__(self, bears: int) -> None:
        self.room = asyncio.Semaphore(bears)
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.method != "POST":
            return web.Response(status=404)
        await request.read()
        async with self.room:
            await asyncio.sleep(0.15)
        choice = {"index": 0, "message": {"role": "assistant", "content": "a rose"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}
        return web.json_response({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage})


@asynccontextmanager
async def serving(bears: int):
    engine = Engine(bears)
    runner = web.ServerRunner(web.Server(engine.answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield engine
    finally:
        await runner.cleanup()


async def test_a_queue_of_whole_answers_is_noticed(make):
    """Of twelve callers an engine bears two: the limit falls towards that, and rises again once it bears all."""
    async with serving(2) as engine:
        config: dict[str, Any] = {
            "load": {"enabled": True, "floor": 2, "initial": CALLERS, "ceiling": CALLERS, "queue_seconds": 60},
            "upstreams": {"llama": {"url": engine.url}},
            "health": {"interval": 3600},
            "timeouts": {"total": 60},
            "cache": {"enabled": False},
        }
        stand = await make(config)
        on = True

        async def call(who: int) -> None:
            number = 0
            while on:
                number += 1
                answer = await stand.chat(f"{who} {number}", headers=NEVER)
                assert answer.status == 200, answer.text

        async def limit() -> float:
            return float((await stand.state())["guards"]["load"]["llama"]["limit"])

        async def at_most(most: float) -> bool:
            return await limit() <= most

        async def at_least(least: float) -> bool:
            return await limit() >= least

        calls = [asyncio.ensure_future(call(who)) for who in range(CALLERS)]
        await stand.until_that(lambda: at_most(8), 40)
        for _ in range(CALLERS):
            engine.room.release()
        await stand.until_that(lambda: at_least(10), 40)
        on = False
        await asyncio.gather(*calls)
