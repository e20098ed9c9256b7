"""A simulated server, a client of it that knows HTTP, and one that sees how the connection itself ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from guardproxy.simulator import Simulator

CHAT = "/v1/chat/completions"


@pytest.fixture
async def sim():
    async with Simulator() as simulator:
        yield simulator


@dataclass
class Answer:
    """An answer that has been read to its end."""

    status: int
    headers: Any
    text: str

    def json(self):
        return json.loads(self.text)


class Client:
    """An HTTP client with its answers read: `await client.post("/path", json={…})`."""

    def __init__(self, url=""):
        self.url = url

    async def __aenter__(self):
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5))
        return self

    async def __aexit__(self, *_):
        await self.session.close()

    async def ask(self, method, path, **more):
        async with self.session.request(method, self.url + path, **more) as response:
            return Answer(response.status, response.headers, await response.text())

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, **more):
        return self.ask("POST", path, **more)


@pytest.fixture
async def client(sim):
    async with Client(sim.url) as client:
        yield client


@pytest.fixture
def ask(client):
    """Ask for a chat completion; keywords go into the body, `manners` into the X-Simulate header."""

    def ask(text="a rose", *, manners="", path=CHAT, headers=None, **body):
        asked = {"model": "qwen", "messages": [{"role": "user", "content": text}], **body}
        return client.post(path, json=asked, headers={"X-Simulate": manners, **(headers or {})})

    return ask


@pytest.fixture
def raw(sim):
    """Ask over a bare socket; answers the bytes that came and how it ended: fin, rst, or open after `patience` s."""

    async def raw(*, manners="", patience=2.0, path=CHAT, **body):
        content = json.dumps({"messages": [{"role": "user", "content": "a rose"}], **body}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Simulate: {manners}\r\nContent-Length: {len(content)}\r\n\r\n"
        reader, writer = await asyncio.open_connection(sim.host, sim.port)
        writer.write(head.encode() + content)
        received = b""
        try:
            async with asyncio.timeout(patience):
                while chunk := await reader.read(65536):
                    received += chunk
            end = "fin"
        except ConnectionResetError:
            end = "rst"
        except TimeoutError:
            end = "open"
        writer.transport.abort()
        return received, end

    return raw


def content_of(response):
    """The text of the first choice of an answer that is not streamed."""
    return response.json()["choices"][0]["message"]["content"]


def events_of(text):
    """The data of the events of a stream, decoded where they are JSON."""
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
