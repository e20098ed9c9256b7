"""The Responses API: ``POST /v1/responses``; typed events, of which the last one holds the whole answer, no ``[DONE]``.

Each ``message`` among the output items is a choice of its own: apps parse each of them.

Source: https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, final

from guardproxy.openai import begin, enforce, response, wanted
from guardproxy.openai.corrected import in_responses
from guardproxy.openai.events import Reader, typed_event, whole_events
from guardproxy.openai.fields import EVENTS, JSON, retyped
from guardproxy.openai.follow import CONTENT, Follow, Told, kind_of
from guardproxy.openai.language import SAID, Language
from guardproxy.openai.repair import from_reasoning
from guardproxy.openai.request import changed, other_dice
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Schema, Wanted, Wrong
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call

_TELLING = re.compile(
    rb'"type"\s*:\s*"(?:error|response\.(?:created|queued|in_progress|completed|incomplete|failed))"'
    rb'|"error"\s*:\s*[{"]'
)
_BEGUN = Told(content=False)


@final
class Responses(Language):
    """The language of responses."""

    name = "responses"
    paths = ("/v1/responses",)
    judged = True
    remembers = True
    aside = frozenset(("stream", "stream_options"))
    bounds = ("max_output_tokens",)
    spelled = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}  # noqa: RUF012 -- read only

    def flaw(self, doc: Any) -> str | None:
        """It is an object with output, or one that is still being made in the background."""
        if not isinstance(doc, dict):
            return "answered JSON that is no object"
        if isinstance(doc.get("output"), list) or doc.get("status") in ("queued", "in_progress"):
            return None
        return "answered without output"

    def finished(self, doc: Any) -> bool:
        """It is complete."""
        return bool(doc.get("status") == "completed")

    def trouble(self, doc: Any) -> dict[str, Any] | None:
        """Its error, also where it only says that it failed."""
        if isinstance(doc, dict) and doc.get("status") == "failed" and not doc.get("error"):
            return {"message": "the response failed"}
        return super().trouble(doc)

    def scan(self, call: Call, watch: Watcher | None = None) -> Follow:
        """Read along until the event that ends the response."""
        del call
        return Follow(Reader(), _TELLING, _told, begin.typed, watch)

    def wanted(self, doc: dict[str, Any]) -> Wanted | None:
        """What ``text.format`` says."""
        return wanted.in_text(doc)

    def parameters(self, doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
        """What the functions among the tools take."""
        return wanted.flat_tools(doc)

    def streamed(self, doc: dict[str, Any]) -> dict[str, Any] | None:
        """Not where it is made in the background."""
        return None if doc.get("background") else super().streamed(doc)

    def enforced(self, doc: dict[str, Any], schema: Schema, how: str) -> dict[str, Any]:
        """In ``text.format``, in vLLM's own fields, or in the instructions."""
        if how == "prompt":
            given = doc.get("instructions")
            words = enforce.words(schema)
            return {"instructions": f"{given}\n\n{words}" if isinstance(given, str) and given else words}
        if how != "response_format":
            return enforce.field(doc, schema, how)
        text = doc.get("text")
        text = text if isinstance(text, dict) else {}
        if text.get("format") is not None:
            return {}
        inner = enforce.field({}, schema, how)[how]
        return {"text": {**text, "format": {"type": inner["type"], **inner.get("json_schema", {})}}}

    def assemble(self, body: bytes) -> Any:
        """The response in the last event, or what the others tell of it."""
        return response.assemble(body)

    def so_far(self, body: bytes) -> Any:
        """The output as far as it had come."""
        try:
            return response.assemble(whole_events(body)) or {"output": []}
        except ValueError:
            return {"output": []}

    def texts(self, doc: Any) -> list[str | None]:
        """What each message says; None for one that refuses, or where functions are called instead."""
        said = [_said(item) for item in response.items_of(doc) if item.get("type") == "message"]
        return said or [None if self.tools(doc) else ""]

    def asides(self, doc: Any) -> list[str | None]:
        """What some engines put into the reasoning that was meant to be said."""
        texts = self.texts(doc)
        thoughts = [
            str(part.get("text") or "")
            for item in response.items_of(doc)
            if item.get("type") == "reasoning"
            for part in response.parts_of(item)
        ]
        meant = from_reasoning({"content": "".join(text or "" for text in texts), "reasoning": "".join(thoughts)})
        return [meant, *[None] * (len(texts) - 1)]

    def deltas(self, chunk: Any) -> list[tuple[int, str]]:
        """What an event adds to the text of a message."""
        if kind_of(chunk) != "response.output_text.delta":
            return []
        index, delta = chunk.get("output_index", 0), chunk.get("delta")
        return [(index, delta)] if isinstance(index, int) and isinstance(delta, str) and delta else []

    def given(self, chunk: Any) -> list[tuple[Any, str, str]]:
        """By the item's id."""
        kind = kind_of(chunk)
        if kind == "response.output_item.added" and isinstance(item := chunk.get("item"), dict):
            name = item.get("name") if item.get("type") == "function_call" else None
            return [(str(item.get("id")), name, "")] if isinstance(name, str) else []
        if kind != "response.function_call_arguments.delta":
            return []
        delta = chunk.get("delta")
        return [(str(chunk.get("item_id")), "", delta)] if isinstance(delta, str) else []

    def tools(self, doc: Any) -> list[tuple[str, str]]:
        """The functions that the model calls."""
        return [
            (str(item.get("name")), given if isinstance(given := item.get("arguments"), str) else "")
            for item in response.items_of(doc)
            if item.get("type") == "function_call"
        ]

    def cut(self, doc: Any) -> bool:
        """Whether it ended at its length."""
        details = doc.get("incomplete_details")
        return doc.get("status") == "incomplete" and (
            not isinstance(details, dict) or details.get("reason") in (None, "max_output_tokens")
        )

    def stopped(self, doc: Any) -> list[Any]:
        """Why it is not complete."""
        details = doc.get("incomplete_details")
        return [details.get("reason") if isinstance(details, dict) else doc.get("status")]

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """Two more turns: what the model said, and what is wrong with it; with other dice."""
        given = call.doc.get("input")
        turns: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else list(given or ())
        if (corrected := in_responses(answer.doc, wrong)) is not None:
            turns += corrected
            return changed(call, {"input": turns, **other_dice(call.doc)})
        if said := wrong.shown(self.texts(answer.doc), self.tools(answer.doc)):
            # typed: llama.cpp refuses an assistant's turn that does not say what it is
            turns.append({"type": "message", "role": "assistant", "content": said[:SAID]})
        turns.append({"role": "user", "content": wrong.note})
        return changed(call, {"input": turns, **other_dice(call.doc)})

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """The answer with other words in it."""
        said, given = iter(texts), iter(tools)
        output: list[Any] = []
        for item in response.items_of(answer.doc):
            kind, text = item.get("type"), None
            if kind == "message" and (text := next(said, None)) is not None:
                output.append({**item, "content": _other(item, text)})
            elif kind == "function_call" and (text := next(given, None)) is not None:
                output.append({**item, "arguments": text})
            else:
                output.append(item)
        output += [response.message(text, f"msg_{call.id}") for text in said if text is not None]
        doc = {**answer.doc, "output": output}
        body = response.encode(doc, stream=call.stream)
        headers = retyped(answer.headers, EVENTS if call.stream else JSON)
        return dataclasses.replace(answer, headers=headers, doc=doc, body=body)

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """A ``response`` of our own."""
        doc = response.response(text, id=call.id, model=call.model, created=created)
        return response.encode(doc, stream=call.stream)

    def told(self, error: bytes) -> bytes:
        """An ``error`` event; the envelope stands in it too, which is where the SDKs look."""
        found = loads(error)["error"]
        more = {name: found.get(name) for name in ("code", "message", "param")}
        return typed_event("error", {"type": "error", "sequence_number": 0, **more, "error": found})


def _told(event: dict[str, Any]) -> Told:
    kind = kind_of(event)
    if (error := response.error_of(event)) is not None:
        return Told(error=error, done=kind in response.LAST)
    if kind in response.FIRST:
        return _BEGUN
    if kind not in response.LAST:
        return CONTENT
    doc = event.get("response")
    usage = doc.get("usage") if isinstance(doc, dict) else None
    finished = kind == "response.completed"
    return Told(done=True, finished=finished, usage=usage if isinstance(usage, dict) else None)


def _said(item: dict[str, Any]) -> str | None:
    parts = response.parts_of(item)
    texts = [text for part in parts if isinstance(text := part.get("text"), str)]
    return None if not texts and any(part.get("type") == "refusal" for part in parts) else "".join(texts)


def _other(item: dict[str, Any], text: str) -> list[dict[str, Any]]:
    """The content of *item*, saying *text* in its first part instead of all that it said."""
    parts = [part for part in response.parts_of(item) if part.get("type") == "output_text"]
    first = parts[0] if parts else {"type": "output_text", "annotations": []}
    return [{**first, "text": text}]


SPEC = Responses()
"""What the registry loads."""
