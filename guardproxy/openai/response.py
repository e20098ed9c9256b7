"""Responses put together from typed events and taken apart into them.

Here belongs the shape of a ``response``, of its output items and of the events that tell of it: one pair of functions
that are each other's inverse as far as an app can see.
Source: https://platform.openai.com/docs/api-reference/responses/object and …/responses-streaming
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.openai.events import DONE, payloads, typed_event
from guardproxy.openai.follow import kind_of
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST = frozenset(("response.completed", "response.incomplete", "response.failed"))
"""The events that end a response."""
FIRST = frozenset(("response.created", "response.queued", "response.in_progress"))
"""The events that say that it has begun, before the model has."""
OVER = frozenset(("completed", "incomplete", "failed", "cancelled"))
"""What the ``status`` of a response is that will not change any more."""


def assemble(body: bytes) -> dict[str, Any] | None:
    """Put the events in *body* together into the response they tell; None where they tell none."""
    whole: dict[str, Any] = {}
    items: dict[int, dict[str, Any]] = {}
    for payload in payloads(body):
        if payload == DONE:
            continue
        event = loads(payload)
        kind = kind_of(event)
        if not isinstance(event, dict):
            continue
        if (error := error_of(event)) is not None and kind not in LAST:
            return {"error": error}
        if kind in FIRST or kind in LAST:
            response = event.get("response")
            whole = dict(response) if isinstance(response, dict) else whole
            if kind in LAST:
                break
        else:
            _gather(items, event, kind)
    if not whole and not items:
        return None
    if items and not whole.get("output"):
        whole["output"] = [items[index] for index in sorted(items)]
    return whole


def error_of(event: dict[str, Any]) -> dict[str, Any] | None:
    """The error that an event tells of; None where it tells of none."""
    kind, error = kind_of(event), event.get("error")
    response = event.get("response")
    if kind == "response.failed" and isinstance(response, dict):
        error = response.get("error") or "the response failed"
    elif kind == "error" and not error:
        error = {name: event.get(name) for name in ("message", "code", "param")}
    if isinstance(error, str) and error:
        return {"message": error}
    return error if isinstance(error, dict) else None


def disassemble(doc: dict[str, Any]) -> bytes:
    """Write the response *doc* as a well-formed stream of events."""
    begun = {**doc, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    last = {"incomplete": "response.incomplete", "failed": "response.failed"}.get(
        str(doc.get("status")), "response.completed"
    )
    told: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
    ]
    for index, item in enumerate(items_of(doc)):
        told += _tell(index, item)
    told.append((last, {"response": doc}))
    return b"".join(
        typed_event(kind, {"type": kind, "sequence_number": number, **more}) for number, (kind, more) in enumerate(told)
    )


def response(text: str, *, id: str, model: str, created: int) -> dict[str, Any]:  # noqa: A002 -- the API's own word
    """A response of our own that says *text*."""
    none = {"cached_tokens": 0}
    return {
        "id": f"resp_{id}",
        "object": "response",
        "created_at": created,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [message(text, f"msg_{id}")],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": {
            "input_tokens": 0,
            "input_tokens_details": none,
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
        },
    }


def message(text: str, ident: str) -> dict[str, Any]:
    """An output item that says *text*."""
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": ident, "status": "completed", "role": "assistant", "content": [part]}


def encode(doc: dict[str, Any], *, stream: bool) -> bytes:
    """Write *doc* as the caller wants it: as events or as one JSON body."""
    return disassemble(doc) if stream else dumps(doc)


def items_of(doc: Any) -> list[dict[str, Any]]:
    """The output items of a response."""
    output = doc.get("output") if isinstance(doc, dict) else None
    return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []


def parts_of(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of what an item says."""
    content = item.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _gather(items: dict[int, dict[str, Any]], event: dict[str, Any], kind: str) -> None:
    """Add what one event tells of an item to what has come of it."""
    index = _index(items, event)
    if kind in ("response.output_item.added", "response.output_item.done"):
        if isinstance(event.get("item"), dict):
            items[index] = dict(event["item"])
        return
    delta = event.get("delta")
    if not isinstance(delta, str):
        return
    if kind == "response.function_call_arguments.delta":
        item = items.setdefault(index, {"type": "function_call", "arguments": ""})
        item["arguments"] = str(item.get("arguments") or "") + delta
    elif kind == "response.output_text.delta":
        item = items.setdefault(index, message("", ""))
        parts = item["content"] = parts_of(item) or message("", "")["content"]
        position = event.get("content_index", 0)
        part = parts[position] if isinstance(position, int) and 0 <= position < len(parts) else parts[-1]
        parts[parts.index(part)] = {**part, "text": str(part.get("text") or "") + delta}


def _index(items: dict[int, dict[str, Any]], event: dict[str, Any]) -> int:
    """Which item an event is about; llama.cpp gives no index, but the item's id."""
    index = event.get("output_index")
    if isinstance(index, int):
        return index
    item = event.get("item")
    ident = item.get("id") if isinstance(item, dict) else event.get("item_id")
    return next((at for at, known in items.items() if known.get("id") == ident), len(items))


def _tell(index: int, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of one output item."""
    ident = item.get("id", "")
    where = {"item_id": ident, "output_index": index}
    empty = {**item, "status": "in_progress"}
    if "content" in item:
        empty["content"] = []
    if "arguments" in item:
        empty["arguments"] = ""
    yield "response.output_item.added", {"output_index": index, "item": empty}
    if item.get("type") == "function_call":
        arguments = str(item.get("arguments") or "")
        yield "response.function_call_arguments.delta", {**where, "delta": arguments}
        yield "response.function_call_arguments.done", {**where, "name": item.get("name"), "arguments": arguments}
    for number, part in enumerate(parts_of(item) if item.get("type") == "message" else ()):
        which = {**where, "content_index": number}
        named, field = ("refusal", "refusal") if part.get("type") == "refusal" else ("output_text", "text")
        said = str(part.get(field) or "")
        more = {"logprobs": part.get("logprobs") or []} if named == "output_text" else {}
        yield "response.content_part.added", {**which, "part": {**part, field: ""}}
        yield f"response.{named}.delta", {**which, "delta": said, **more}
        yield f"response.{named}.done", {**which, field: said, **more}
        yield "response.content_part.done", {**which, "part": part}
    yield "response.output_item.done", {"output_index": index, "item": item}
