"""A whole proxy in front of three simulated model servers, and a caller who looks at everything.

    async with Stand({"cache": {"enabled": False}}) as stand:
        answer = await stand.chat("a rose", model="qwen")
        assert answer.status == 200
        assert stand.asked("qwen") == 1

Nothing of the proxy is replaced: it listens on free ports and is spoken to over sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from guardproxy.app.serve import Proxy
from guardproxy.config.load import loads
from guardproxy.simulator import MODELS, Simulator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from guardproxy.config.load import Loaded

CHAT = "/v1/chat/completions"
SOON = 5.0
"""Seconds after which a test that waits has failed."""
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "intensity": {"type": "integer", "minimum": 0, "maximum": 100}},
    "required": ["name", "intensity"],
    "additionalProperties": False,
}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "scent", "strict": True, "schema": SCHEMA}}
FALLBACK = {"name": "quiet", "intensity": 1}
BRIEF = {"schema": SCHEMA, "fallback": FALLBACK}
NEVER = {"X-Guardproxy-Downshift": "never"}
_SHORT = {
    "json_guard": {"backoff_base": 0.01, "jitter": 0.01},
    "health": {"interval": 300, "timeout": 1},
    "timeouts": {"connect": 1, "first_token": 0.5, "stall": 0.4, "total": 1},
    "downshift": {"recovery_seconds": 0.1, "dwell_seconds": 0},
    "drain": {"seconds": 2, "idle_seconds": 0.2},
}


@dataclass
class Answer:
    """An answer, read to its end, however it ended."""

    status: int
    headers: Any
    body: bytes
    cut: bool = False
    """Whether it ended without what ends a body."""

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error in it, which must be an envelope."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"]
        return dict(error)

    @property
    def code(self) -> str:
        return str(self.error["code"])

    @property
    def content(self) -> str:
        """What the first choice says."""
        return str(self.json()["choices"][0]["message"]["content"])

    @property
    def events(self) -> list[Any]:
        """What the events of a stream hold, decoded where it is JSON."""
        datas = [block.removeprefix("data: ") for block in self.text.split("\n\n") if block.startswith("data: ")]
        return [data if data == "[DONE]" else json.loads(data) for data in datas]

    @property
    def said(self) -> str:
        """What the first choice of a stream says."""
        chunks = [event for event in self.events if isinstance(event, dict)]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ()) if choice["index"] == 0]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, sections merged; where they collide *other* wins."""
    both = dict(one)
    for key, value in other.items():
        old = both.get(key)
        both[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


@dataclass
class Stand:
    """The proxy, its model servers and its log; *changes* are laid over a configuration with short times."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    bare: bool = False
    """Whether the health checks made at start are neither awaited nor forgotten."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """How model servers misbehave from the beginning."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.sims = {
                name: await stack.enter_async_context(Simulator(name, model, faults=self.faults.get(name)))
                for name, model in MODELS.items()
            }
            upstreams = {
                name: {"url": sim.url, "model": sim.model, "aliases": ["qwen2.5"] if name == "qwen" else []}
                for name, sim in self.sims.items()
            }
            base = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "upstreams": upstreams}
            self._log = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- the stack closes it
            self._written = merged(base, _SHORT)
            loop = asyncio.get_running_loop()
            self.proxy = Proxy(self._load(), loop, load=self._load, fd=self._log.fileno(), human=False)
            await self.proxy.start()
            stack.push_async_callback(self.proxy.close)
            self.app = f"http://{self.proxy.app.addresses[0]}"
            self.admin = f"http://{self.proxy.admin.addresses[0]}"
            timeout = aiohttp.ClientTimeout(total=SOON)
            jar = aiohttp.DummyCookieJar()
            self.session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, cookie_jar=jar))
            if not self.bare:
                await self.until(lambda: all(pulse.last for pulse in self.proxy.house.health.pulses.values()))
                for sim in self.sims.values():
                    await sim.idle()
                    sim.memory.forget()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _load(self) -> Loaded:
        return loads(json.dumps(merged(self._written, self.changes)))

    # -- asking

    async def ask(self, method: str, path: str, *, admin: bool = False, **more: Any) -> Answer:
        """Ask the app's port, or the operators'; the answer is read as far as it comes."""
        url = (self.admin if admin else self.app) + path
        more.setdefault("allow_redirects", False)
        async with self.session.request(method, url, **more) as response:
            body, cut = bytearray(), False
            try:
                async for part in response.content.iter_any():
                    body += part
            except aiohttp.ClientPayloadError:
                cut = True
            return Answer(response.status, response.headers, bytes(body), cut)

    async def get(self, path: str, **more: Any) -> Answer:
        return await self.ask("GET", path, **more)

    async def chat(
        self, text: str = "a rose", *, path: str = CHAT, headers: Mapping[str, str] | None = None, **body: Any
    ) -> Answer:
        """Ask for a chat completion of llama, unless *body* says otherwise."""
        asked = {"model": "llama", "messages": [{"role": "user", "content": text}], **body}
        return await self.ask("POST", path, json=asked, headers=headers)

    async def put(self, path: str, doc: Any, **more: Any) -> Answer:
        """Give an operator's order."""
        return await self.ask("PUT", path, admin=True, json=doc, **more)

    # -- looking

    def asked(self, name: str, path: str | None = CHAT) -> int:
        """How many calls a model server has seen."""
        calls = self.sims[name].memory.calls
        return calls[path] if path is not None else sum(calls.values())

    def seen(self, name: str) -> Any:
        """The body of the last call that a model server has seen."""
        return self.sims[name].memory.requests[-1].body

    async def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics` by its name and labels, as they are written there."""
        lines = [line for line in (await self.get("/metrics")).text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    async def metric(self, name: str) -> float:
        return (await self.metrics())[name]

    async def circuit(self, name: str) -> str:
        return str((await self.state())["breakers"][name]["state"])

    async def state(self) -> dict[str, Any]:
        return dict((await self.get("/guard/state")).json())

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log so far."""
        self.proxy.sinks.fold()
        self.proxy.log.close()
        size = os.fstat(self._log.fileno()).st_size
        return [json.loads(line) for line in os.pread(self._log.fileno(), size, 0).splitlines()]

    async def until(self, true: Callable[[], object], seconds: float = SOON) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, "it did not become true in time"
            await asyncio.sleep(0.01)

    async def until_that(self, true: Callable[[], Awaitable[object]], seconds: float = SOON) -> None:
        """Wait for something to become true that has to be asked for."""
        deadline = time.monotonic() + seconds
        while not await true():
            assert time.monotonic() < deadline, "it did not become true in time"
            await asyncio.sleep(0.02)

    def at_rest(self) -> bool:
        """Whether everything that was lent has been given back: calls, connections, probes."""
        house = self.proxy.house
        breaker = house.breaker
        return (
            self.proxy.desk.in_flight == 0
            and all(up.open == up.idle and not up.waiting for up in house.upstreams.values())
            and (breaker is None or not any(circuit._probes for circuit in breaker.circuits.values()))
        )

    async def raw(self, *parts: bytes, admin: bool = False, patience: float = 2.0) -> tuple[bytes, str]:
        """Send bytes; answers what came and how it ended: fin, rst, or open after *patience* seconds."""
        host, _, port = (self.admin if admin else self.app).removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"".join(parts))
        received, end = b"", "fin"
        try:
            async with asyncio.timeout(patience):
                while chunk := await reader.read(65536):
                    received += chunk
        except ConnectionResetError:
            end = "rst"
        except TimeoutError:
            end = "open"
        writer.transport.abort()
        return received, end


def elsewhere() -> str | None:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def request(body: Any = None, *fields: str, method: str = "POST", path: str = CHAT) -> bytes:
    """The bytes of a request whose connection ends with its answer."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: app.test", "Connection: close", *fields]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def asking(text: str = "a rose", **body: Any) -> dict[str, Any]:
    """The body of a call to llama."""
    return {"model": "llama", "messages": [{"role": "user", "content": text}], **body}


class Replay:
    """A model server that answers every request with the same bytes, cut into *pieces* of that size."""

    def __init__(self, answer: bytes, *, pieces: int = 1 << 20, pause: float = 0.0) -> None:
        self.answer, self._pieces, self._pause = answer, pieces, pause
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._greet, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head)
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            self.bodies.append(await reader.readexactly(int(length.partition(b":")[2])))
            for start in range(0, len(self.answer), self._pieces):
                if writer.is_closing():
                    break  # the proxy has heard enough
                writer.write(self.answer[start : start + self._pieces])
                await asyncio.sleep(self._pause)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def whole(body: bytes, *fields: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """The bytes of an answer of known length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body
