"""Changing and ending the proxy while an app calls it: not one call may fail for it."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from tests.app.stand import CHAT, Stand, asking, merged

DRAINS = 20
UPSTREAMS = 50


class App:
    """An app that calls without a pause, on kept connections; half of its calls are streamed."""

    def __init__(self, url: str, callers: int = 6) -> None:
        self._url = url + CHAT
        self._callers = callers
        self._on = True
        self.calls = 0
        self.wrong: list[object] = []

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        self._tasks = [asyncio.create_task(self._call(who)) for who in range(self._callers)]
        return self

    async def __aexit__(self, *_):
        self._on = False
        await asyncio.gather(*self._tasks)
        await self._session.close()

    async def until(self, calls: int) -> None:
        """Wait for so many calls."""
        async with asyncio.timeout(30):
            while self.calls < calls:  # noqa: ASYNC110 -- a count, not an event
                await asyncio.sleep(0.005)

    async def _call(self, who: int) -> None:
        number = 0
        while self._on:
            number += 1
            stream = (who + number) % 2 == 0
            body = asking(
                f"caller {who} number {number}", model=("qwen", "mistral", "llama")[number % 3], stream=stream
            )
            try:
                async with self._session.post(self._url, json=body) as response:
                    text = await response.text()
                    well = text.endswith("data: [DONE]\n\n") if stream else "choices" in json.loads(text)
                    if response.status != 200 or not well:
                        self.wrong.append((response.status, text[-200:]))
            except aiohttp.ClientError as error:
                self.wrong.append(repr(error))
            self.calls += 1


async def test_fifty_upstreams_are_reloaded(make):
    """Upstreams come, go and change while calls are under way; those that stay are not disturbed."""
    stand = await make({"cache": {"enabled": False}})
    urls = [sim.url for sim in stand.sims.values()]
    async with App(stand.app) as app:
        for turn in range(8):
            more = {
                f"up{n}": {"url": urls[(n + turn) % 3], "model": f"m{turn}-{n}"} for n in range(UPSTREAMS - 3 - turn)
            }
            stand.changes = merged({"cache": {"enabled": False}}, {"upstreams": more, "retry": {"attempts": turn % 3}})
            assert (await stand.ask("POST", "/guard/reload", admin=True)).status == 200
            await app.until(app.calls + 20)
    assert app.wrong == []
    assert len(stand.proxy.house.upstreams) == UPSTREAMS - 7
    assert await stand.metric('guardproxy_config_reloads_total{result="ok"}') == 8


async def test_twenty_drains():
    """An app that is told to stop at the same time ends its calls: it is served until it is quiet."""
    calls = 0
    for _ in range(DRAINS):
        async with Stand({"drain": {"seconds": 20, "idle_seconds": 0.05}}) as stand:
            async with App(stand.app, callers=4) as app:
                await app.until(8)
                ending = asyncio.create_task(stand.proxy.drain())
                await app.until(app.calls + 8)
                assert not ending.done()
            await asyncio.wait_for(ending, 20)
        assert app.wrong == []
        calls += app.calls
    assert calls >= DRAINS * 16
