"""A model server that answers from ready bytes: `python -m bench.upstream PORT`.

Here belongs what load is measured against: fast enough not to be what is measured, and as little HTTP as its callers
need (requests have a Content-Length).  It decides nothing but by the request itself:

| request | answer |
|---|---|
| ``POST …/completions`` | a completion of 640 bytes or so, whose content is JSON |
| the same with ``"stream":true`` | events: ``"max_tokens"`` of them, ``"seed"`` milliseconds apart |
| … and no ``"max_tokens"`` | the completion's own text, as events |
| ``GET …/bytes/N`` | N bytes |
| anything else | ``{}`` and more, enough for the probes of routers |

How a model server misbehaves is the simulator's, which is too slow for this.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from typing import cast, final

import uvloop

MODEL = "Qwen/Qwen2.5-7B-Instruct"
CONTENT = json.dumps(
    {
        "description": "Bright citrus over a warm cedar base, airy at first and quiet in the end.",
        "notes": ["bergamot", "neroli", "cedar"],
        "families": ["citrus", "woody"],
        "intensity": 40,
        "longevity": "medium",
    },
    separators=(",", ":"),
)
"""What the model says: 0.2 kB of JSON that satisfies `schema`'s in `workload`."""
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_EVENTS = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
_PACE = re.compile(rb'"seed": *(\d+)')
_BYTES = re.compile(rb"GET \S*/bytes/(\d+)")


def whole(body: bytes, kind: bytes = b"application/json") -> bytes:
    """A complete answer."""
    return b"HTTP/1.1 200 OK\r\nServer: fake\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        kind,
        len(body),
        body,
    )


def completion() -> bytes:
    """The body of a chat completion as vLLM writes it."""
    message: dict[str, object] = {
        "role": "assistant",
        "content": CONTENT,
        "refusal": None,
        "tool_calls": [],
        "reasoning_content": None,
    }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    usage = {"prompt_tokens": 31, "total_tokens": 93, "completion_tokens": 62, "prompt_tokens_details": None}
    doc = {"id": "chatcmpl-5d1e1c0f7f3a4d0c", "object": "chat.completion", "created": 1760000000, "model": MODEL}
    return json.dumps({**doc, "choices": [choice], "usage": usage}, separators=(",", ":")).encode()


def event(delta: dict[str, str], reason: str | None = None) -> bytes:
    """One chunk of a streamed completion, as one HTTP chunk."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    doc = {"id": "chatcmpl-5d1e1c0f7f3a4d0c", "object": "chat.completion.chunk", "created": 1760000000, "model": MODEL}
    return chunk(b"data: %b\n\n" % json.dumps({**doc, "choices": [choice]}, separators=(",", ":")).encode())


def chunk(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


COMPLETION = whole(completion())
PROBED = whole(
    json.dumps({"status": "ok", "model_path": MODEL, "served_model_name": MODEL, "data": [{"id": MODEL}]}).encode()
)
EVENTS_HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: fake\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FIRST = event({"role": "assistant", "content": ""})
TOKEN = event({"content": " bergamot"})
LAST = event({}, "stop") + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_CUTS = [len(CONTENT) * number // 62 for number in range(63)]
_SAID = (event({"content": CONTENT[start:end]}) for start, end in itertools.pairwise(_CUTS))
SAID = b"".join((EVENTS_HEAD, FIRST, *_SAID, LAST))
"""The text of `COMPLETION` as a stream, in one piece of bytes."""


@final
class Model(asyncio.Protocol):
    """One connection to the model server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self._skip = 0
        self._answer = b""
        self._left = 0
        self._pace = 0.0
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Come in."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop what streams."""
        del exc
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Read heads, pass over bodies, answer."""
        if self._skip:
            self._skip -= len(data)
            if self._skip <= 0:
                self._skip = 0
                self._send(self._answer)
            return
        if self._held:
            data, self._held = self._held + data, b""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._held = data
            return
        declared = _LENGTH.search(data, 0, end)
        missing = (int(declared[1]) if declared else 0) + end + 4 - len(data)
        if b'"stream":true' in data or b'"stream": true' in data:
            self._stream(data)
            return
        if data.startswith(b"POST") and b"completions " in data[:200]:
            answer = COMPLETION
        elif (asked := _BYTES.match(data)) is not None:
            answer = sized(int(asked[1]))
        else:
            answer = PROBED
        if missing > 0:
            self._skip, self._answer = missing, answer
        else:
            self._send(answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)

    def _stream(self, data: bytes) -> None:
        events, pace = _EVENTS.search(data), _PACE.search(data)
        if events is None:  # the guard asks for a stream, to read along; it wants the answer itself
            self._send(SAID)
            return
        self._left = int(events[1])
        self._pace = int(pace[1]) / 1000 if pace else 0.0
        self._send(EVENTS_HEAD + FIRST)
        if self._pace:
            self._due = self._loop.time() + self._pace
            self._loop.call_at(self._due, self._tick)
        else:
            self._send(TOKEN * self._left + LAST)

    def _tick(self) -> None:
        if self._transport is None:
            return
        if self._left <= 0:
            self._send(LAST)
            return
        self._left -= 1
        self._send(TOKEN)
        self._due += self._pace
        self._loop.call_at(self._due, self._tick)


_SIZED: dict[int, bytes] = {}


def sized(size: int) -> bytes:
    """An answer of *size* bytes that means nothing."""
    if size not in _SIZED:
        _SIZED[size] = whole(b"x" * size, b"application/octet-stream")
    return _SIZED[size]


async def serve(port: int) -> None:
    """Answer until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Model(loop), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
