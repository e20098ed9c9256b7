"""Anthropic's messages: ``POST /v1/messages``, as vLLM, SGLang and llama.cpp serve it too.

Its streams have event lines and end with ``message_stop``, its errors are its own.  A message is one choice: its text
blocks are one text.  Where no schema is asked for in ``output_config`` (or ``output_format``), a route or
``X-Guardproxy-Schema`` can ask.

Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.asked import Wanted
from guardproxy.openai import begin, enforce, message
from guardproxy.openai.corrected import in_messages
from guardproxy.openai.events import Reader, typed_event, whole_events
from guardproxy.openai.fields import EVENTS, JSON, retyped
from guardproxy.openai.follow import CONTENT, Follow, Told, kind_of
from guardproxy.openai.language import SAID, Language
from guardproxy.openai.repair import from_reasoning
from guardproxy.openai.request import changed, other_dice
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Schema, Wrong
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call

_TELLING = re.compile(rb'"type"\s*:\s*"(?:error|ping|message_(?:start|delta|stop))"|"error"\s*:\s*[{"]')
_BEGUN = Told(content=False)


@final
class Anthropic(Language):
    """The language of messages."""

    name = "anthropic"
    paths = ("/v1/messages",)
    judged = True
    aside = frozenset(("stream",))
    own_key = b"x-api-key"
    bounds = ("max_tokens",)
    spelled = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}  # noqa: RUF012 -- read only

    def flaw(self, doc: Any) -> str | None:
        """It is an object with content."""
        if not isinstance(doc, dict):
            return "answered JSON that is no object"
        return None if isinstance(doc.get("content"), list) else "answered without content"

    def finished(self, doc: Any) -> bool:
        """It stopped of itself."""
        return message.ended(doc.get("stop_reason"))

    def scan(self, call: Call, watch: Watcher | None = None) -> Follow:
        """Read along until the message stops."""
        del call
        return Follow(Reader(), _TELLING, _Ends().told, begin.typed, watch)

    def wanted(self, doc: dict[str, Any]) -> Wanted | None:
        """The schema in ``output_config.format``, or where it was before: in ``output_format``."""
        config = doc.get("output_config")
        nested = config.get("format") if isinstance(config, dict) else None
        for place, given in (("output_config.format", nested), ("output_format", doc.get("output_format"))):
            if isinstance(given, dict) and given.get("type") == "json_schema" and "schema" in given:
                return Wanted(f"{place}.schema", "", given["schema"])
        return None

    def parameters(self, doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
        """The ``input_schema`` of each tool."""
        tools = doc.get("tools")
        return [
            (tool["name"], f"tools[{number}].input_schema", tool["input_schema"])
            for number, tool in enumerate(tools if isinstance(tools, list) else ())
            if isinstance(tool, dict)
            and isinstance(tool.get("name"), str)
            and isinstance(tool.get("input_schema"), dict)
        ]

    def enforced(self, doc: dict[str, Any], schema: Schema, how: str) -> dict[str, Any]:
        """In ``output_config``, in vLLM's own fields, or behind the system prompt."""
        if how == "prompt":
            given, words = doc.get("system"), enforce.words(schema)
            if isinstance(given, list):
                return {"system": [*given, {"type": "text", "text": words}]}
            return {"system": f"{given}\n\n{words}" if isinstance(given, str) and given else words}
        if how != "response_format":
            return enforce.field(doc, schema, how)
        if self.wanted(doc) is not None or schema.source is None:  # it has no way to ask for any object
            return {}
        config = doc.get("output_config")
        asked = {"type": "json_schema", "schema": schema.source}
        return {"output_config": {**(config if isinstance(config, dict) else {}), "format": asked}}

    def assemble(self, body: bytes) -> Any:
        """The message that the events tell."""
        return message.assemble(body)

    def so_far(self, body: bytes) -> Any:
        """The blocks as far as they had come."""
        try:
            return message.assemble(whole_events(body)) or {"content": []}
        except ValueError:
            return {"content": []}

    def texts(self, doc: Any) -> list[str | None]:
        """All text blocks as one text; None where tools are used instead."""
        blocks = message.blocks_of(doc)
        said = [text for one in blocks if one.get("type") == "text" and isinstance(text := one.get("text"), str)]
        if not any(said) and (any(one.get("type") == "tool_use" for one in blocks) or _refused(doc)):
            return [None]
        return ["".join(said)]

    def asides(self, doc: Any) -> list[str | None]:
        """What some engines put into the thinking that was meant to be said."""
        thoughts = [str(one.get("thinking") or "") for one in message.blocks_of(doc) if one.get("type") == "thinking"]
        return [from_reasoning({"content": self.texts(doc)[0] or "", "reasoning": "".join(thoughts)})]

    def deltas(self, chunk: Any) -> list[tuple[int, str]]:
        """What an event adds to the text."""
        delta = chunk["delta"] if kind_of(chunk) == "content_block_delta" and "delta" in chunk else {}
        text = delta.get("text") if isinstance(delta, dict) and kind_of(delta) == "text_delta" else None
        return [(0, text)] if isinstance(text, str) and text else []

    def given(self, chunk: Any) -> list[tuple[Any, str, str]]:
        """By the index of the block."""
        kind = kind_of(chunk)
        if kind == "content_block_start" and isinstance(block := chunk.get("content_block"), dict):
            name = block.get("name") if block.get("type") == "tool_use" else None
            return [(str(chunk.get("index")), name, "")] if isinstance(name, str) else []
        delta = chunk.get("delta") if kind == "content_block_delta" else None
        text = delta.get("partial_json") if isinstance(delta, dict) else None
        return [(str(chunk.get("index")), "", text)] if isinstance(text, str) else []

    def tools(self, doc: Any) -> list[tuple[str, str]]:
        """The tools that are used, and what they are given."""
        return [
            (str(one.get("name")), given if isinstance(given := one.get("input"), str) else dumps(given).decode())
            for one in message.blocks_of(doc)
            if one.get("type") == "tool_use"
        ]

    def cut(self, doc: Any) -> bool:
        """Whether it ended at its length."""
        return bool(doc.get("stop_reason") == "max_tokens")

    def stopped(self, doc: Any) -> list[Any]:
        """The stop reason."""
        return [doc.get("stop_reason")]

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """Two more turns: what the model said, and what is wrong with it; with other dice."""
        given = call.doc.get("messages")
        turns = list(given) if isinstance(given, list) else []
        if (corrected := in_messages(answer.doc, wrong)) is not None:
            turns += corrected
            return changed(call, {"messages": turns, **other_dice(call.doc)})
        said = wrong.shown(self.texts(answer.doc), self.tools(answer.doc))
        if said.strip():  # an empty turn is refused
            turns.append({"role": "assistant", "content": said[:SAID].rstrip()})
        turns.append({"role": "user", "content": wrong.note})
        return changed(call, {"messages": turns, **other_dice(call.doc)})

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """The answer with other words in it: all in the first text block, where it has several."""
        left, given = texts[0] if texts else None, iter(tools)
        other, content = left is not None, []
        for block in message.blocks_of(answer.doc):
            kind, text = block.get("type"), None
            if kind == "text" and other:
                if left is not None:
                    content.append({**block, "text": left})
                left = None
            elif kind == "tool_use" and (text := next(given, None)) is not None:
                content.append({**block, "input": loads(text.encode())})
            else:
                content.append(block)
        if left is not None:
            content.append({"type": "text", "text": left})
        doc = {**answer.doc, "content": content}
        body = message.encode(doc, stream=call.stream)
        headers = retyped(answer.headers, EVENTS if call.stream else JSON)
        return dataclasses.replace(answer, headers=headers, doc=doc, body=body)

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """A message of our own."""
        del created
        return message.encode(message.message(text, id=call.id, model=call.model), stream=call.stream)

    def error(self, status: int, code: str, message_: str, param: str | None = None) -> bytes:
        """An error in Anthropic's shape."""
        return message.refusal(status, code, message_, param)

    def readable(self, doc: Any) -> bool:
        """Its errors say that they are one."""
        return super().readable(doc) and doc.get("type") == "error"

    def told(self, error: bytes) -> bytes:
        """An ``error`` event."""
        return typed_event("error", loads(error))


@final
class _Ends:
    """Remembers how one message ended: its last event does not say it again."""

    __slots__ = ("_finished", "_usage")

    def __init__(self) -> None:
        self._finished = False
        self._usage: dict[str, Any] = {}

    def told(self, event: dict[str, Any]) -> Told:
        """What *event* tells."""
        kind, error = kind_of(event), event.get("error")
        if kind == "error" or error:
            return Told(error=error if isinstance(error, dict) else {"message": str(error or "an error")})
        if kind == "message_start":
            self._count(event.get("message"))
            return _BEGUN
        if kind == "message_delta":
            self._count(event)
            delta = event.get("delta")
            self._finished = isinstance(delta, dict) and message.ended(delta.get("stop_reason"))
            return Told(usage=self._usage)
        if kind == "message_stop":
            return Told(done=True, finished=self._finished, usage=self._usage)
        return _BEGUN if kind == "ping" else CONTENT

    def _count(self, holder: Any) -> None:
        usage = holder.get("usage") if isinstance(holder, dict) else None
        if isinstance(usage, dict):
            self._usage = {**self._usage, **{name: value for name, value in usage.items() if value is not None}}


def _refused(doc: Any) -> bool:
    return bool(doc.get("stop_reason") == "refusal")


SPEC = Anthropic()
"""What the registry loads."""
