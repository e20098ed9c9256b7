"""The manners of engines: what each of them does differently when nothing is wrong.

Here belongs the table of profiles and the rewriting of a well-formed answer into what an engine would have sent. Here
do not belong faults on order (`manners`) nor sockets (`wire`).

Sources: the servers' own code and documentation (vLLM 0.12, SGLang 0.5, TGI 3.3, Ollama 0.13, llama.cpp b6700,
transformers 5, mlx-lm 0.29).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import orjson

from guardproxy.simulator.shapes import Event, error, event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One profile; the default is what OpenAI's own API does."""

    name: str = "openai"
    finish: str = "chunk"
    """Where the finish reason of a stream stands: in a `chunk` of its own, with the last `content`, or `never`."""
    usage: str = "chunk"
    """Where usage stands: in a `chunk` of its own where it is asked for, or, asked or not, with the last `content`."""
    done: bool = True
    """Whether a stream ends with `[DONE]`."""
    nulls: tuple[str, ...] = ()
    """Fields of every choice that are always there, and null."""
    errors: str = "openai"
    """The shape of errors: `openai`, `detail`, `plain`, `text` or `typed`."""
    enforces: bool = True
    """Whether a schema is heeded; else the model writes what it likes."""
    old: bool = False
    """Whether it speaks HTTP/1.0 and ends its answers by hanging up."""
    keepalive: bool = False
    """Whether comments precede the first event."""
    knows_ollama: bool = False
    """Whether it has Ollama's own paths too."""


ENGINES: Final = {
    engine.name: engine
    for engine in (
        Engine(),
        Engine(name="vllm", finish="content", nulls=("stop_reason", "token_ids")),
        Engine(name="sglang", nulls=("matched_stop",)),
        Engine(name="tgi", finish="content", errors="typed"),
        Engine(name="ollama", errors="text", knows_ollama=True),
        Engine(name="llama.cpp"),
        Engine(name="transformers", finish="never", usage="content", done=False, errors="detail", enforces=False),
        Engine(name="mlx", errors="text", enforces=False, old=True, keepalive=True),
    )
}
OPENAI: Final = ENGINES["openai"]


def told(engine: Engine, events: Iterable[Event], usage: dict[str, int]) -> Iterator[Event]:
    """A stream as *engine* tells it; *usage* is what the answer took."""
    if engine.keepalive:
        yield Event(b": keepalive 1/2\n\n: keepalive 2/2\n\n", "role")
    docs = [(orjson.loads(one.data.removeprefix(b"data: ")), one.kind) for one in events]
    last = {doc["choices"][0]["index"]: number for number, (doc, kind) in enumerate(docs) if kind == "content"}
    finish = {doc["choices"][0]["index"]: doc["choices"][0]["finish_reason"] for doc, kind in docs if _ends(doc, kind)}
    final = max(last.values(), default=-1)
    for number, (doc, kind) in enumerate(docs):
        if (_ends(doc, kind) and engine.finish != "chunk") or (not doc["choices"] and engine.usage != "chunk"):
            continue
        for choice in doc["choices"]:
            choice.update(dict.fromkeys(engine.nulls))
            if engine.finish == "content" and last.get(choice["index"]) == number:
                choice["finish_reason"] = finish.get(choice["index"])
            elif engine.finish == "never":
                del choice["finish_reason"]
        if engine.usage == "content" and number == final:
            doc["usage"] = usage
        yield Event(event(doc), kind)


def refusal(engine: Engine, body: dict[str, Any], status: int) -> tuple[bytes, str]:
    """An error as *engine* puts it, and its media type."""
    message = str(body["error"]["message"])
    shapes: dict[str, Any] = {
        "openai": body,
        "detail": {"detail": message},
        "text": {"error": message},
        "typed": {"error": message, "error_type": "overloaded" if status == 429 else "validation"},
    }
    if engine.errors == "plain":
        return message.encode(), "text/plain"
    return orjson.dumps(shapes[engine.errors]), "application/json"


def broken(engine: Engine) -> bytes:
    """The event by which a stream of *engine* says that it broke."""
    body = error("The engine died while it answered", "InternalServerError", 500)
    return event(body) if engine.errors == "openai" else event({"error": body["error"]["message"]})


def _ends(doc: dict[str, Any], kind: str) -> bool:
    return kind == "end" and bool(doc["choices"])
