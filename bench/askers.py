"""Those who ask for valid answers, each in its own way.

Here belong the proxy in any setting and an app that asks again at the end; the client library instructor is in
`by_instructor`.  What they are asked and how they are compared is `valid`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import aiohttp
import yaml

from bench.process import free_port
from bench.workload import SCHEMA
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.jsonschema import why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RETRIES: Final = 5
"""Further tries after a wrong answer, for all alike."""
_ACCORDS = {"type": "array", "items": {"type": "string"}, "maxItems": 6}
SHAPE: Final[dict[str, Any]] = {
    **SCHEMA,
    "properties": {**SCHEMA["properties"], "accords": _ACCORDS},
    "required": [*SCHEMA["required"], "accords"],
}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "brief", "schema": SHAPE}}
_VALID = compile_schema(SHAPE)

Ask: TypeAlias = Callable[[int], Awaitable[bool]]
"""Asks one question; whether what came of it in the end was valid."""
Asker: TypeAlias = AbstractAsyncContextManager[Ask]


def _body(question: int) -> dict[str, Any]:
    text = f"A brief for a summer perfume, as JSON. This is question {question}."
    return {"model": "m", "messages": [{"role": "user", "content": text}], "response_format": _FORMAT}


def problem(text: str) -> str:
    """What is wrong with an answer; empty: nothing."""
    try:
        return "; ".join(why(_VALID, json.loads(text)))
    except ValueError as error:
        return f"it is not valid JSON ({error})"


@contextlib.asynccontextmanager
async def through_proxy(model: str, **guard: Any) -> AsyncIterator[Ask]:
    """The app asks once; the proxy sees to it."""
    port, admin = free_port(), free_port()
    config = {
        "listen": f"127.0.0.1:{port}",
        "admin": f"127.0.0.1:{admin}",
        "upstreams": {"m": {"url": model, "model": "m"}},
        "modes": {},
        "json_guard": {"backoff_base": 0, "jitter": 0, "max_retries": RETRIES, **guard},
        "cache": {"enabled": False},
        "log": {"level": "error"},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(config, file)
        file.flush()
        command = [sys.executable, "-m", "guardproxy", "run", file.name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220 -- before anything is timed
            try:
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                    await _up(session, f"http://127.0.0.1:{port}/readyz")

                    async def ask(question: int) -> bool:
                        url = f"http://127.0.0.1:{port}/v1/chat/completions"
                        async with session.post(url, json=_body(question)) as response:
                            doc = await response.json()
                            return response.status == 200 and not problem(doc["choices"][0]["message"]["content"])

                    yield ask
            finally:
                process.terminate()


@contextlib.asynccontextmanager
async def at_the_end(model: str) -> AsyncIterator[Ask]:
    """The app waits for the whole answer, judges it and asks again with what is wrong."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(question: int) -> bool:
            body = _body(question)
            for _ in range(1 + RETRIES):
                async with session.post(f"{model}/v1/chat/completions", json=body) as response:
                    said = (await response.json())["choices"][0]["message"]["content"]
                if not (note := problem(said)):
                    return True
                body["messages"] += [{"role": "assistant", "content": said}, {"role": "user", "content": note}]
            return False

        yield ask


async def _up(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(aiohttp.ClientError):
            async with session.get(url) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"{url} did not come up")
