"""The JSON of the OpenAI API as model servers send it: completions, chunks, embeddings, models, errors.

Here belong field names and their order. Here does not belong what a model says (`composing`).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guardproxy.simulator.composing import Said

DONE = b"data: [DONE]\n\n"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all chunks of one answer share: `chat` or not, its id, creation time (unix seconds), model id and usage."""

    chat: bool
    id: str
    created: int
    model: str
    usage: dict[str, int]

    def around(self, choices: list[dict[str, Any]], *, chunk: bool) -> dict[str, Any]:
        """The object around these choices, without usage."""
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices}


@final
@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream as it goes over the wire; `kind` is role, content or end."""

    data: bytes
    kind: str


def usage(prompt: int, said: list[Said]) -> dict[str, int]:
    """The usage object of these choices."""
    completion = sum(len(choice.tokens) for choice in said)
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def completion(frame: Frame, said: list[Said]) -> dict[str, Any]:
    """An answer that is not streamed."""
    choices = []
    for index, choice in enumerate(said):
        made: dict[str, Any] = {"index": index}
        made |= {"message": _message(choice, frame, index)} if frame.chat else {"text": choice.text}
        choices.append({**made, "logprobs": None, "finish_reason": choice.finish})
    return {**frame.around(choices, chunk=False), "usage": frame.usage}


def _message(choice: Said, frame: Frame, index: int) -> dict[str, Any]:
    if choice.tool is None:
        return {"role": "assistant", "content": choice.text}
    function = {"name": choice.tool, "arguments": choice.text}
    calls = [{"id": _call_id(frame, index), "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _call_id(frame: Frame, index: int) -> str:
    return f"call_{frame.id.partition('-')[2]}_{index}"


def events(frame: Frame, said: list[Said], *, with_usage: bool) -> Iterator[Event]:
    """The events of a stream up to and without `[DONE]`: roles, content of all choices in turn, ends, usage."""

    def chunk(index: int, kind: str, part: dict[str, Any], finish: str | None = None) -> Event:
        choice = {"index": index, **part, "logprobs": None, "finish_reason": finish}
        body = frame.around([choice], chunk=True)
        # Servers that were asked for usage say null in every chunk but the last.
        return Event(event({**body, "usage": None} if with_usage else body), kind)

    if frame.chat:
        for index, choice in enumerate(said):
            yield chunk(index, "role", {"delta": _first_delta(choice, frame, index)})
    for row in zip_longest(*(choice.tokens for choice in said)):
        for index, token in enumerate(row):
            if token is not None:
                yield chunk(index, "content", _part(said[index], frame, token))
    for index, choice in enumerate(said):
        yield chunk(index, "end", {"delta": {}} if frame.chat else {"text": ""}, choice.finish)
    if with_usage:
        yield Event(event({**frame.around([], chunk=True), "usage": frame.usage}), "end")


def _first_delta(choice: Said, frame: Frame, index: int) -> dict[str, Any]:
    if choice.tool is None:
        return {"role": "assistant", "content": ""}
    function = {"name": choice.tool, "arguments": ""}
    call = {"index": 0, "id": _call_id(frame, index), "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _part(choice: Said, frame: Frame, token: str) -> dict[str, Any]:
    if not frame.chat:
        return {"text": token}
    if choice.tool is None:
        return {"delta": {"content": token}}
    return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": token}}]}}


def event(body: dict[str, Any]) -> bytes:
    """A server-sent event with this JSON."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


def error(message: str, kind: str, code: int | str | None, param: str | None = None) -> dict[str, Any]:
    """The envelope of an error as vLLM sends it."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def loading() -> dict[str, Any]:
    """What llama.cpp answers, with status 503, until its model is in memory."""
    return {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}


def models(model: str, created: int) -> dict[str, Any]:
    """The list of the one model a server has."""
    return {"object": "list", "data": [{"id": model, "object": "model", "created": created, "owned_by": "simulator"}]}


def embeddings(texts: list[Any], model: str, prompt: int, dimensions: int, *, as_base64: bool) -> dict[str, Any]:
    """Unit vectors that depend on the text alone, as lists of floats or as little-endian 32-bit floats in base64."""
    data = []
    for index, text in enumerate(texts):
        packed = _vector(text, dimensions)
        vector: Any = base64.b64encode(packed).decode() if as_base64 else list(struct.unpack(f"<{dimensions}f", packed))
        data.append({"object": "embedding", "index": index, "embedding": vector})
    counts = {"prompt_tokens": prompt, "total_tokens": prompt}
    return {"object": "list", "data": data, "model": model, "usage": counts}


def _vector(text: Any, dimensions: int) -> bytes:
    raw = hashlib.shake_128(orjson.dumps(text)).digest(2 * dimensions)
    numbers = [number / 32768 - 1 + 1 / 65536 for number in struct.unpack(f"<{dimensions}H", raw)]
    norm = sum(number * number for number in numbers) ** 0.5
    return struct.pack(f"<{dimensions}f", *(number / norm for number in numbers))
