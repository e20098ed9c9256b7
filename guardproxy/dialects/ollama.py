"""Ollama's own API: ``POST /api/chat`` and ``POST /api/generate``; lines of JSON, which stream unless told not to.

Both say what they say in one place each, ``message.content`` and ``response``; sampling parameters stand in
``options``, a schema in ``format``, an error is ``{"error": "text"}``.

Source: https://docs.ollama.com/api
"""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, final

from guardproxy.openai import begin, enforce, wanted
from guardproxy.openai.corrected import in_ollama
from guardproxy.openai.fields import JSON, retyped
from guardproxy.openai.follow import CONTENT, Follow, Told
from guardproxy.openai.language import SAID, Language
from guardproxy.openai.lines import MEDIA, Lines, lines, readable, refusal
from guardproxy.openai.repair import from_reasoning
from guardproxy.openai.request import changed, other_dice
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Schema, Wanted, Wrong
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call

_TELLING = re.compile(rb'"done"\s*:\s*true|"error"\s*:')
_JOINED = ("content", "thinking")


@final
class Ollama(Language):
    """The language of Ollama's chat and generation."""

    name = "ollama"
    paths = ("/api/chat", "/api/generate")
    judged = True
    aside = frozenset(("stream", "keep_alive"))
    media = MEDIA
    ends = (b"\n",)
    comment = b""  # every line must be an answer
    bounds = ("num_predict",)
    nest = "options"
    spelled = {"max_tokens": "num_predict", "max_completion_tokens": "num_predict"}  # noqa: RUF012 -- read only

    def streams(self, doc: dict[str, Any]) -> bool:
        """It streams by default."""
        return doc.get("stream") is not False

    def flaw(self, doc: Any) -> str | None:
        """It is an object that says something, however little."""
        if not isinstance(doc, dict):
            return "answered JSON that is no object"
        if isinstance(doc.get("message"), dict) or isinstance(doc.get("response"), str):
            return None
        return "answered without message or response"

    def finished(self, doc: Any) -> bool:
        """It is done, and of itself; older servers do not say why."""
        return doc.get("done") is True and doc.get("done_reason", "stop") == "stop"

    def readable(self, doc: Any) -> bool:
        """An error is a text."""
        return readable(doc)

    def scan(self, call: Call, watch: Watcher | None = None) -> Follow:
        """Read along until it is done."""
        del call
        return Follow(Lines(), _TELLING, self._told, begin.line, watch)

    def wanted(self, doc: dict[str, Any]) -> Wanted | None:
        """What ``format`` says."""
        return wanted.in_format(doc)

    def enforced(self, doc: dict[str, Any], schema: Schema, how: str) -> dict[str, Any]:
        """In ``format``, or in the conversation."""
        if how != "prompt":
            return enforce.field(doc, schema, "format")
        words = enforce.words(schema)
        if isinstance(messages := doc.get("messages"), list):
            return {"messages": [{"role": "system", "content": words}, *messages]}
        prompt = doc.get("prompt")
        return {"prompt": f"{prompt}\n\n{words}\n"} if isinstance(prompt, str) else {}

    def assemble(self, body: bytes) -> Any:
        """The pieces in one answer, with what the last line says of it."""
        whole: dict[str, Any] = {}
        for line in lines(body):
            piece = loads(line)
            if not isinstance(piece, dict):
                continue
            if piece.get("error"):
                return piece
            _join(whole, piece)
        return whole or None

    def so_far(self, body: bytes) -> Any:
        """What it had said."""
        try:
            return self.assemble(body[: body.rfind(b"\n") + 1]) or {}
        except ValueError:
            return {}

    def usage(self, doc: Any) -> dict[str, Any] | None:
        """The counts, in OpenAI's words."""
        if not isinstance(doc, dict) or "eval_count" not in doc:
            return None
        return {"prompt_tokens": doc.get("prompt_eval_count"), "completion_tokens": doc["eval_count"]}

    def texts(self, doc: Any) -> list[str | None]:
        """What it says; None where tools are called instead."""
        message = doc.get("message")
        if not isinstance(message, dict):
            text = doc.get("response")
            return [text if isinstance(text, str) else ""]
        text = message.get("content")
        return [text if isinstance(text, str) and text else None if message.get("tool_calls") else ""]

    def asides(self, doc: Any) -> list[str | None]:
        """What was put into the thinking that was meant to be said."""
        holder = doc.get("message") if isinstance(doc.get("message"), dict) else doc
        return [from_reasoning({"content": self.texts(doc)[0], "reasoning": holder.get("thinking")})]

    def deltas(self, chunk: Any) -> list[tuple[int, str]]:
        """What a line adds to the text."""
        if not isinstance(chunk, dict):
            return []
        message = chunk.get("message")
        text = message.get("content") if isinstance(message, dict) else chunk.get("response")
        return [(0, text)] if isinstance(text, str) and text else []

    def tools(self, doc: Any) -> list[tuple[str, str]]:
        """The functions that the model calls; their arguments are objects here."""
        return [
            (str(one.get("name")), given if isinstance(given := one.get("arguments"), str) else dumps(given).decode())
            for one in map(_function, _calls(doc))
        ]

    def cut(self, doc: Any) -> bool:
        """Whether it ended at its length."""
        return bool(doc.get("done_reason") == "length")

    def stopped(self, doc: Any) -> list[Any]:
        """The reason why it is done."""
        return [doc.get("done_reason")]

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """What the model said and what is wrong with it, as two more turns or behind the prompt; with other dice."""
        texts = self.texts(answer.doc)
        said = wrong.shown(texts, self.tools(answer.doc))[:SAID]
        options = call.doc.get("options")
        changes: dict[str, Any] = {}
        if isinstance(options, dict) and (other := other_dice(options)):
            changes["options"] = {**options, **other}
        if isinstance(messages := call.doc.get("messages"), list):
            turns = [{"role": "assistant", "content": said}, {"role": "user", "content": wrong.note}]
            changes["messages"] = [*messages, *(in_ollama(_calls(answer.doc), texts[0] or "", wrong) or turns)]
        elif isinstance(prompt := call.doc.get("prompt"), str):
            changes["prompt"] = f"{prompt}\n{said}\n\n{wrong.note}\n"
        return changed(call, changes)

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """The answer with other words in it."""
        doc = dict(answer.doc)
        if texts and texts[0] is not None:
            if isinstance(doc.get("message"), dict):
                doc["message"] = {**doc["message"], "content": texts[0]}
            else:
                doc["response"] = texts[0]
        if any(given is not None for given in tools):
            calls = [
                one if given is None else {**one, "function": {**_function(one), "arguments": loads(given.encode())}}
                for one, given in zip(_calls(doc), tools, strict=True)
            ]
            doc["message"] = {**doc["message"], "tool_calls": calls}
        headers = retyped(answer.headers, MEDIA if call.stream else JSON)
        return dataclasses.replace(answer, headers=headers, doc=doc, body=_encode(doc, stream=call.stream))

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """An answer of our own."""
        at = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        doc: dict[str, Any] = {"model": call.model, "created_at": at}
        if call.path == "/api/generate":
            doc["response"] = text
        else:
            doc["message"] = {"role": "assistant", "content": text}
        return _encode({**doc, "done": True, "done_reason": "stop"}, stream=call.stream)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> bytes:
        """A text, with ``code`` and ``param`` beside it."""
        del status
        return refusal(code, message, param)

    def told(self, error: bytes) -> bytes:
        """A line."""
        return error + b"\n"

    def _told(self, doc: dict[str, Any]) -> Told:
        if error := doc.get("error"):
            return Told(error=error if isinstance(error, dict) else {"message": str(error)})
        if doc.get("done") is not True:
            return CONTENT
        return Told(done=True, finished=self.finished(doc), usage=self.usage(doc))


def _encode(doc: dict[str, Any], *, stream: bool) -> bytes:
    """One document; as a stream the same in one line, which is whole and done."""
    return dumps(doc) + b"\n" if stream else dumps(doc)


def _join(whole: dict[str, Any], piece: dict[str, Any]) -> None:
    for name, value in piece.items():
        if name == "message" and isinstance(value, dict):
            message = whole["message"] = dict(whole["message"]) if isinstance(whole.get("message"), dict) else {}
            for part, said in value.items():
                if part == "tool_calls" and isinstance(said, list):
                    message[part] = [*(message.get(part) or ()), *said]
                elif part in _JOINED and isinstance(said, str):
                    message[part] = str(message.get(part) or "") + said
                elif said is not None:
                    message[part] = said
        elif name in ("response", "thinking") and isinstance(value, str):
            whole[name] = str(whole.get(name) or "") + value
        else:
            whole[name] = value


def _calls(doc: Any) -> list[dict[str, Any]]:
    """The tool calls that have a function."""
    message = doc.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    found = calls if isinstance(calls, list) else []
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("function"), dict)]


def _function(call: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = call["function"]
    return function


SPEC = Ollama()
"""What the registry loads."""
