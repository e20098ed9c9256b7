"""Ollama's own paths, told by the same model.

Here belongs the translation of a request into OpenAI's words and of what is said into lines.
Source: https://docs.ollama.com/api
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guardproxy.simulator.composing import Said
    from guardproxy.simulator.shapes import Frame

CHAT: Final = "/api/chat"
GENERATE: Final = "/api/generate"
PATHS: Final = frozenset({CHAT, GENERATE})


def translated(body: dict[str, Any]) -> dict[str, Any]:
    """The request in OpenAI's words."""
    given = body.get("options")
    options: dict[str, Any] = given if isinstance(given, dict) else {}
    asked = {"model": body.get("model"), "temperature": options.get("temperature"), "seed": options.get("seed")}
    asked["max_tokens"] = options.get("num_predict") if (options.get("num_predict") or 0) > 0 else None
    asked["messages"] = body.get("messages") or [{"role": "user", "content": body.get("prompt") or ""}]
    wanted = body.get("format")
    if wanted == "json":
        asked["response_format"] = {"type": "json_object"}
    elif isinstance(wanted, dict):
        asked["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}}
    return {name: value for name, value in asked.items() if value is not None}


def lines(path: str, frame: Frame, said: Said) -> Iterator[bytes]:
    """The lines of a stream."""
    for token in said.tokens:
        yield _line(path, frame, token, {"done": False})
    yield _line(path, frame, "", _end(frame, said))


def whole(path: str, frame: Frame, said: Said) -> bytes:
    """An answer that is not streamed."""
    return _line(path, frame, said.text, _end(frame, said)).rstrip()


def _end(frame: Frame, said: Said) -> dict[str, Any]:
    counts = {"prompt_eval_count": frame.usage["prompt_tokens"], "eval_count": frame.usage["completion_tokens"]}
    return {"done": True, "done_reason": said.finish, "total_duration": 1_000_000, **counts}


def _line(path: str, frame: Frame, text: str, more: dict[str, Any]) -> bytes:
    at = datetime.fromtimestamp(frame.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    says = {"response": text} if path == GENERATE else {"message": {"role": "assistant", "content": text}}
    return orjson.dumps({"model": frame.model, "created_at": at, **says, **more}) + b"\n"
