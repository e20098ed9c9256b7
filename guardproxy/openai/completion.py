"""Completions put together from chunks and taken apart into them.

Here belongs the shape of ``chat.completion`` and ``text_completion`` and of their chunks: one pair of
functions that are each other's inverse as far as an app can see.
Source: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.openai.events import DONE, event, payloads, raw_event, whole_events
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from collections.abc import KeysView

_JOINED = ("content", "refusal", "reasoning_content", "reasoning", "arguments", "text")
"""Fields of a delta whose pieces are joined; of all others the last one counts."""
_CHUNKED = {"chat.completion": "chat.completion.chunk", "text_completion": "text_completion"}
_WHOLE = {"chat.completion.chunk": "chat.completion"}
_OF_CHOICES = frozenset(("index", "message", "text", "logprobs", "finish_reason"))


@final
class Assembly:
    """A completion that is put together out of its chunks."""

    __slots__ = ("_choices", "_error", "_fields", "_rest", "_said", "_shape", "_whole")

    def __init__(self) -> None:
        self._whole: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._said: dict[int, list[str]] = {}
        """What has been added to the content of choices that is not in them yet: joined once, not once a chunk."""
        self._fields: KeysView[str] | None = None
        self._shape: KeysView[str] | None = None
        self._rest: tuple[str, ...] = ()
        """What the last chunk that was read with care consisted of: others of its shape may be read in haste."""
        self._error: Any = None

    def add(self, chunk: Any) -> int | None:
        """Take the next one; after an error nothing counts any more.

        Tells the choice of which it says the next few characters, if it does nothing else.
        """
        if not isinstance(chunk, dict) or self._error:
            return None
        if (added := self._adds_text(chunk)) is not None:
            return added
        self._error = chunk.get("error")
        self._fields = chunk.keys()
        for name, value in chunk.items():
            if name == "object":
                self._whole["object"] = _WHOLE.get(value, value) if isinstance(value, str) else value
            elif name != "choices" and (value is not None or name not in self._whole):
                self._whole[name] = value
        for piece in _list(chunk.get("choices")):
            if isinstance(piece, dict):
                index = _index(piece)
                choice = self._choices.setdefault(index, {"index": index})
                self._settle(index, choice)
                _gather(choice, piece)
                self._shape = piece.keys() if "index" in piece and "delta" in piece else None
                self._rest = tuple(name for name in piece if name not in ("index", "delta"))
        return None

    def say(self, index: int, text: str) -> None:
        """Like `add`, of a chunk that is known to do nothing else."""
        self._said.setdefault(index, []).append(text)

    def whole(self) -> dict[str, Any] | None:
        """What they told so far; None where they told nothing."""
        if self._error:
            return {"error": self._error}
        if not self._whole and not self._choices:
            return None
        for index, choice in self._choices.items():
            self._settle(index, choice)
        return {**self._whole, "choices": [self._choices[index] for index in sorted(self._choices)]}

    def _adds_text(self, chunk: dict[str, Any]) -> int | None:
        """The choice of which *chunk* says the next few characters, if it is one of the many that do nothing else."""
        pieces = chunk.get("choices")
        if type(pieces) is not list or len(pieces) != 1 or chunk.keys() != self._fields:
            return None
        if chunk.get("usage") or chunk.get("error"):
            return None
        piece = pieces[0]
        if type(piece) is not dict or piece.keys() != self._shape:
            return None
        for name in self._rest:
            if piece[name] is not None:
                return None
        delta, index = piece["delta"], piece["index"]
        text = delta.get("content") if type(delta) is dict and len(delta) == 1 else None
        if type(text) is not str or type(index) is not int or index not in self._choices:
            return None
        self._said.setdefault(index, []).append(text)
        return index

    def _settle(self, index: int, choice: dict[str, Any]) -> None:
        if said := self._said.pop(index, None):
            message = _part(choice, "message", {"role": "assistant", "content": None})
            before = message.get("content")
            message["content"] = "".join([before if isinstance(before, str) else "", *said])


def assemble(body: bytes) -> dict[str, Any] | None:
    """Put the events in *body* together into the completion they tell; None where they tell none."""
    made = Assembly()
    for payload in payloads(body):
        if payload == DONE:
            break
        made.add(loads(payload))
    return made.whole()


def so_far(body: bytes) -> dict[str, Any]:
    """What the events in *body* tell, of which the last may be cut off anywhere: a completion without an end."""
    try:
        return assemble(whole_events(body)) or {"choices": []}
    except ValueError:
        return {"choices": []}


def disassemble(doc: dict[str, Any], *, usage: bool) -> bytes:
    """Write the completion *doc* as a well-formed stream, with a usage chunk where *usage* asks for one."""
    base = {name: value for name, value in doc.items() if name not in ("choices", "usage", "object")}
    base["object"] = _CHUNKED.get(str(doc.get("object")), "chat.completion.chunk")
    extra = {"usage": None} if usage else {}
    parts: list[bytes] = []
    for choice in filter(_is_object, _list(doc.get("choices"))):
        parts += [event({**base, "choices": [piece], **extra}) for piece in _pieces(choice)]
    if usage and isinstance(doc.get("usage"), dict):
        parts.append(event({**base, "choices": [], "usage": doc["usage"]}))
    parts.append(raw_event(DONE))
    return b"".join(parts)


def chat(text: str, *, id: str, model: str, created: int, finish_reason: str = "stop") -> dict[str, Any]:  # noqa: A002 -- the API's own word
    """A chat completion of our own that says *text*."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
    return _own("chat.completion", f"chatcmpl-{id}", model, created, choice)


def text(text: str, *, id: str, model: str, created: int, finish_reason: str = "stop") -> dict[str, Any]:  # noqa: A002 -- the API's own word
    """A text completion of our own that says *text*."""
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}
    return _own("text_completion", f"cmpl-{id}", model, created, choice)


def encode(doc: dict[str, Any], *, stream: bool, usage: bool) -> bytes:
    """Write *doc* as the caller wants it: as events or as one JSON body."""
    return disassemble(doc, usage=usage) if stream else dumps(doc)


def _own(kind: str, ident: str, model: str, created: int, choice: dict[str, Any]) -> dict[str, Any]:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return {"id": ident, "object": kind, "created": created, "model": model, "choices": [choice], "usage": usage}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _index(piece: dict[str, Any]) -> int:
    index = piece.get("index", 0)
    return index if isinstance(index, int) else 0


def _gather(choice: dict[str, Any], piece: dict[str, Any]) -> None:
    """Add one piece of a choice to what has come of it."""
    for name, value in piece.items():
        if name == "delta":
            if isinstance(value, dict):
                _join(_part(choice, "message", {"role": "assistant", "content": None}), value)
        elif name == "logprobs" and isinstance(value, dict) and isinstance(choice.get("logprobs"), dict):
            for part, items in value.items():
                old = choice["logprobs"].get(part)
                if isinstance(old, list) and isinstance(items, list):
                    choice["logprobs"][part] = old + items
                elif items is not None or part not in choice["logprobs"]:
                    choice["logprobs"][part] = items
        elif name in _JOINED and isinstance(value, str) and isinstance(choice.get(name), str):
            choice[name] += value
        elif value is not None or name not in choice:
            choice[name] = value


def _part(whole: dict[str, Any], name: str, empty: dict[str, Any]) -> dict[str, Any]:
    """The object *name* of *whole*, which is *empty* where nothing, or nothing that can be added to, was there."""
    part = whole.get(name)
    if not isinstance(part, dict):
        part = whole[name] = empty
    return part


def _join(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls" and isinstance(value, list):
            message["tool_calls"] = calls = _list(message.get("tool_calls"))
            _tools(calls, value)
        elif name == "function_call" and isinstance(value, dict):
            _join(_part(message, "function_call", {}), value)
        elif name in _JOINED and isinstance(value, str) and isinstance(message.get(name), str):
            message[name] += value
        elif value is not None or name not in message:
            message[name] = value


def _tools(calls: list[dict[str, Any]], pieces: list[Any]) -> None:
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        index = piece.get("index", len(calls))
        position = index if isinstance(index, int) and 0 <= index < 1024 else len(calls)
        while len(calls) <= position:
            calls.append({"function": {}})
        call = calls[position]
        for name, value in piece.items():
            if name == "function" and isinstance(value, dict):
                function = _part(call, "function", {})
                for key, part in value.items():
                    if key == "arguments" and isinstance(part, str) and isinstance(function.get(key), str):
                        function[key] += part
                    elif part is not None or key not in function:
                        function[key] = part
            elif name != "index" and (value is not None or name not in call):
                call[name] = value


def _pieces(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """The chunks of one choice: the role first, what it says, and the finish reason with all else last."""
    index = choice.get("index", 0)
    begun = {"logprobs": choice.get("logprobs"), "finish_reason": None}
    ended = {"logprobs": None, "finish_reason": choice.get("finish_reason")}
    ended.update((name, value) for name, value in choice.items() if name not in _OF_CHOICES)
    if not isinstance(choice.get("message"), dict):
        return [{"index": index, "text": choice.get("text", ""), **begun}, {"index": index, "text": "", **ended}]
    message = dict(choice["message"])
    delta: dict[str, Any] = {"role": message.pop("role", "assistant")}
    tools = message.pop("tool_calls", None)
    if isinstance(tools, list):
        delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(tools) if isinstance(call, dict)]
    delta.update((name, value) for name, value in message.items() if value is not None or name == "content")
    return [{"index": index, "delta": delta, **begun}, {"index": index, "delta": {}, **ended}]
