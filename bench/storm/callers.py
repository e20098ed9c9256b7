"""Two hundred callers with the manners of an SDK.

Here belongs the asking: one call after another, tried again as openai-python does (twice, after 0.5 and 1 s less up to
a quarter, or as long as Retry-After says; ``x-should-retry`` obeyed), a thought between two calls.
Source: openai/_base_client.py, version 3.54.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_RETRIES = 2
FIRST_WAIT, LONGEST_WAIT, LONGEST_ASKED = 0.5, 8.0, 120.0
STRICT = 10
"""Of so many callers one accepts no other model (``X-Guardproxy-Downshift: never``): he sees the model itself."""


@final
@dataclass(frozen=True, slots=True)
class Told:
    """What one call came to for its caller."""

    at: float
    """When it was over, from the start of the storm."""
    seconds: float
    ok: bool
    tries: int
    """How often the caller asked: 1 and his retries."""
    status: int
    """Of the last answer; 0 where there was none."""
    strict: bool
    """Whether he accepts no other model."""
    own: bool
    """Whether it was answered by the model that he asked for."""


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked, and how patiently."""

    url: str
    model: str
    timeout: float
    """Seconds of the SDK's read timeout."""
    thought: float
    """Seconds between two calls, on average."""
    headers: Mapping[str, str]


async def crowd(number: int, asked: Asked, begun: float, over: float, told: list[Told]) -> None:
    """*number* callers who go on until *over* seconds after *begun*."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=asked.timeout)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        tasks = [asyncio.create_task(_caller(session, asked, who, begun, begun + over, told)) for who in range(number)]
        await asyncio.sleep(max(0.0, begun + over - asyncio.get_running_loop().time()))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _caller(
    session: aiohttp.ClientSession, asked: Asked, who: int, begun: float, until: float, told: list[Told]
) -> None:
    loop, dice = asyncio.get_running_loop(), random.Random(who)
    strict = who % STRICT == 0
    await asyncio.sleep(dice.random() * asked.thought)
    number = 0
    while loop.time() < until:
        number += 1
        started = loop.time()
        ok, status, own, tries = await _call(session, asked, f"caller {who}, question {number}", strict, dice)
        told.append(Told(loop.time() - begun, loop.time() - started, ok, tries, status, strict, own))
        await asyncio.sleep(dice.uniform(0.5, 1.5) * asked.thought)


async def _call(
    session: aiohttp.ClientSession, asked: Asked, text: str, strict: bool, dice: random.Random
) -> tuple[bool, int, bool, int]:
    """One call, tried again as an SDK does: whether it was answered, how, by whom, and after how many tries."""
    tried, status = 0, 0
    while True:
        wait: float | None = None
        again = True
        try:
            headers = {
                **asked.headers,
                "x-stainless-retry-count": str(tried),
                "x-stainless-read-timeout": f"{asked.timeout:g}",
            }
            if strict:
                headers["X-Guardproxy-Downshift"] = "never"
            body = {"model": asked.model, "stream": True, "messages": [{"role": "user", "content": text}]}
            async with session.post(asked.url, json=body, headers=headers) as answer:
                status = answer.status
                if status == 200:
                    whole = await answer.read()
                    own = answer.headers.get("X-Guardproxy-Upstream", "llama") == "llama"
                    return b"data: [DONE]" in whole and b'"error"' not in whole, status, own, tried + 1
                again = _again(answer)
                with contextlib.suppress(ValueError):
                    wait = float(answer.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError):
            status = 0
        if tried >= MAX_RETRIES or not again:
            return False, status, False, tried + 1
        if wait is None or not 0 < wait <= LONGEST_ASKED:
            wait = min(FIRST_WAIT * 2.0**tried, LONGEST_WAIT) * (1 - 0.25 * dice.random())
        await asyncio.sleep(wait)
        tried += 1


def _again(answer: aiohttp.ClientResponse) -> bool:
    """Whether the SDK would try again after *answer*."""
    said = answer.headers.get("x-should-retry", "")
    if said in ("true", "false"):
        return said == "true"
    return answer.status in (408, 409, 429) or answer.status >= 500
