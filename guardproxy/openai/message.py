"""Anthropic's messages put together from events and taken apart into them, and its errors.

Here belongs the shape of a ``message``, of its blocks and of the events that tell of it: one pair of functions that
are each other's inverse as far as an app can see.
Source: https://docs.claude.com/en/api/messages, …/en/docs/build-with-claude/streaming, …/en/api/errors
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.openai.events import DONE, payloads, typed_event
from guardproxy.openai.follow import kind_of
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

_ENDED = frozenset(("end_turn", "stop_sequence", "tool_use"))
"""Stop reasons that say that the model had said what it had to say."""
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_GROWS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
"""The deltas that add to a text of their block."""


def ended(reason: Any) -> bool:
    """Whether a stop reason says that the model had said what it had to say."""
    return isinstance(reason, str) and reason in _ENDED


def assemble(body: bytes) -> dict[str, Any] | None:
    """Put the events in *body* together into the message they tell; None where they tell none."""
    whole: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, str] = {}
    for payload in payloads(body):
        if payload == DONE:
            continue
        event = loads(payload)
        kind = kind_of(event)
        if not isinstance(event, dict):
            continue
        if kind == "error" or event.get("error"):
            return event
        if kind == "message_start" and isinstance(event.get("message"), dict):
            whole = dict(event["message"])
        elif kind == "message_delta":
            _end(whole, event)
        elif kind == "message_stop":
            break
        else:
            _gather(blocks, inputs, event, kind)
    if not whole and not blocks:
        return None
    for index, text in inputs.items():
        if blocks[index].get("type") == "tool_use":
            blocks[index]["input"] = _value(text)
    whole["content"] = [blocks[index] for index in sorted(blocks)] or whole.get("content") or []
    return whole


def disassemble(doc: dict[str, Any]) -> bytes:
    """Write the message *doc* as a well-formed stream of events."""
    usage = doc.get("usage") if isinstance(doc.get("usage"), dict) else {"input_tokens": 0, "output_tokens": 0}
    begun = {**doc, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    ended = {"stop_reason": doc.get("stop_reason"), "stop_sequence": doc.get("stop_sequence")}
    parts = [typed_event("message_start", {"type": "message_start", "message": begun})]
    for index, block in enumerate(blocks_of(doc)):
        parts += [typed_event(str(event["type"]), event) for event in _tell(index, block)]
    parts += (
        typed_event("message_delta", {"type": "message_delta", "delta": ended, "usage": usage}),
        typed_event("message_stop", {"type": "message_stop"}),
    )
    return b"".join(parts)


def message(text: str, *, id: str, model: str) -> dict[str, Any]:  # noqa: A002 -- the API's own word
    """A message of our own that says *text*."""
    return {
        "id": f"msg_{id}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def encode(doc: dict[str, Any], *, stream: bool) -> bytes:
    """Write *doc* as the caller wants it: as events or as one JSON body."""
    return disassemble(doc) if stream else dumps(doc)


def refusal(status: int, code: str, text: str, param: str | None) -> bytes:
    """An error as Anthropic writes it; ``code`` and ``param`` are ours beside it."""
    kind = _ERRORS.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    return dumps({"type": "error", "error": {"type": kind, "message": text, "param": param, "code": code}})


def blocks_of(doc: Any) -> list[dict[str, Any]]:
    """The content blocks of a message."""
    content = doc.get("content") if isinstance(doc, dict) else None
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _end(whole: dict[str, Any], event: dict[str, Any]) -> None:
    """Take what a ``message_delta`` says: the stop reason, and tokens that count on from those of the start."""
    delta, usage = event.get("delta"), event.get("usage")
    if isinstance(delta, dict):
        whole.update(delta)
    if isinstance(usage, dict):
        before = whole.get("usage")
        counted = {name: value for name, value in usage.items() if value is not None}
        whole["usage"] = {**(before if isinstance(before, dict) else {}), **counted}


def _gather(blocks: dict[int, dict[str, Any]], inputs: dict[int, str], event: dict[str, Any], kind: str) -> None:
    index = event.get("index", 0)
    if not isinstance(index, int):
        return
    if kind == "content_block_start" and isinstance(event.get("content_block"), dict):
        blocks[index] = dict(event["content_block"])
    elif kind == "content_block_delta" and isinstance(delta := event.get("delta"), dict):
        what = kind_of(delta)
        if (field := _GROWS.get(what)) is not None and isinstance(delta.get(field), str):
            block = blocks.setdefault(index, {"type": what.removesuffix("_delta")})
            block[field] = str(block.get(field) or "") + delta[field]
        elif what == "input_json_delta" and isinstance(delta.get("partial_json"), str):
            blocks.setdefault(index, {"type": "tool_use"})
            inputs[index] = inputs.get(index, "") + delta["partial_json"]


def _value(text: str) -> Any:
    """What a tool is given; where that is no JSON the text itself, for whoever judges it."""
    try:
        return loads(text.encode()) if text.strip() else {}
    except (ValueError, UnicodeEncodeError):
        return text


def _tell(index: int, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of one block."""
    kind = block.get("type")
    empty, deltas = dict(block), []
    if kind == "tool_use":
        given = block.get("input")
        empty["input"] = {}
        text = given if isinstance(given, str) else dumps(given).decode()
        deltas.append({"type": "input_json_delta", "partial_json": text})
    for delta, field in _GROWS.items():
        if isinstance(block.get(field), str) and kind in ("text", "thinking"):
            empty[field] = ""
            deltas.append({"type": delta, field: block[field]})
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    for one in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": one}
    yield {"type": "content_block_stop", "index": index}
