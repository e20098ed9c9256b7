"""Chat completions: ``POST /v1/chat/completions``.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.openai import completion
from guardproxy.openai.corrected import in_chat
from guardproxy.openai.family import Family
from guardproxy.openai.repair import from_reasoning
from guardproxy.openai.request import changed, other_dice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Wrong
    from guardproxy.core.values import Answer, Call

_SYSTEM = ("system", "developer")


@final
class Chat(Family):
    """The language of chat completions."""

    name = "chat"
    paths = ("/v1/chat/completions",)

    def read(self, choice: dict[str, Any]) -> str | None:
        """What the message says; one that calls tools instead says nothing."""
        message = choice.get("message")
        if not isinstance(message, dict):
            return ""
        content = message.get("content")
        if isinstance(content, str) and content:
            return content
        if isinstance(content, list):  # parts, as some models answer
            return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
        if message.get("tool_calls") or message.get("function_call") or message.get("refusal"):
            return None
        return ""

    def asides(self, doc: Any) -> list[str | None]:
        """What some engines put into a reasoning field that was meant to be the content."""
        messages = [choice.get("message") for choice in doc["choices"]]
        return [from_reasoning(message) if isinstance(message, dict) else None for message in messages]

    def write(self, choice: dict[str, Any], text: str) -> dict[str, Any]:
        """The same choice, saying *text*."""
        message = choice.get("message")
        return {**choice, "message": {**(message if isinstance(message, dict) else {}), "content": text}}

    def calling(self, doc: Any) -> list[bool]:
        """Each choice by itself."""
        return [bool(_functions(choice)) for choice in doc["choices"]]

    def given(self, chunk: Any) -> list[tuple[Any, str, str]]:
        """By the choice's index and the call's; engines that give none send calls in one piece."""
        found: list[tuple[Any, str, str]] = []
        choices = chunk.get("choices") if type(chunk) is dict else None
        for choice in choices if type(choices) is list else ():
            delta = choice.get("delta") if type(choice) is dict else None
            calls = delta.get("tool_calls") if type(delta) is dict else None
            for call in calls if type(calls) is list else ():
                function = call.get("function") if type(call) is dict else None
                if type(function) is dict and type(at := call.get("index")) is int:
                    name, text = function.get("name"), function.get("arguments")
                    which = (index if type(index := choice.get("index")) is int else 0, at)
                    found.append((which, name if type(name) is str else "", text if type(text) is str else ""))
        return found

    def tools(self, doc: Any) -> list[tuple[str, str]]:
        """The functions that the model calls."""
        return [
            (str(function.get("name")), given if isinstance(given := function.get("arguments"), str) else "")
            for choice in doc["choices"]
            for function in _functions(choice)
        ]

    def rewrite(self, choices: list[dict[str, Any]], tools: Sequence[str | None]) -> list[dict[str, Any]]:
        """The same choices with other arguments for the functions they call."""
        left = iter(tools)
        rewritten: list[dict[str, Any]] = []
        for choice in choices:
            if not _functions(choice):
                rewritten.append(choice)
                continue
            calls = []
            for call in choice["message"]["tool_calls"]:
                function = call.get("function") if isinstance(call, dict) else None
                if isinstance(function, dict) and (given := next(left, None)) is not None:
                    calls.append({**call, "function": {**function, "arguments": given}})
                else:
                    calls.append(call)
            rewritten.append({**choice, "message": {**choice["message"], "tool_calls": calls}})
        return rewritten

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """A call of a tool is shown as one, where that can be done."""
        if not any(wrong.tools) or (turns := in_chat(answer.doc, wrong)) is None:
            return super().again(call, answer, wrong)
        messages = call.doc.get("messages")
        given = messages if isinstance(messages, list) else ()
        return changed(call, {"messages": [*given, *turns], **other_dice(call.doc)})

    def going_on(self, doc: dict[str, Any], said: str, note: str) -> dict[str, Any]:
        """Two more turns: what the model said, and what is wrong with it."""
        messages = doc.get("messages")
        turns = [{"role": "assistant", "content": said}, {"role": "user", "content": note}]
        return {"messages": [*(messages if isinstance(messages, list) else ()), *turns]}

    def instructed(self, doc: dict[str, Any], words: str) -> dict[str, Any]:
        """The words behind the system's, else behind the user's last: some templates refuse a system message."""
        given = doc.get("messages")
        messages = list(given) if isinstance(given, list) else []
        roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
        if roles and roles[0] in _SYSTEM and isinstance(messages[0].get("content"), str):
            place = 0
        elif "user" in roles:
            place = len(roles) - 1 - roles[::-1].index("user")
        else:
            return {"messages": [*messages, {"role": "user", "content": words}]}
        content = messages[place].get("content")
        if isinstance(content, list):
            longer: Any = [*content, {"type": "text", "text": words}]
        else:
            longer = f"{content}\n\n{words}" if content else words
        messages[place] = {**messages[place], "content": longer}
        return {"messages": messages}

    def own(self, text: str, ident: str, model: str, created: int) -> dict[str, Any]:
        """A ``chat.completion``."""
        return completion.chat(text, id=ident, model=model, created=created)


def _functions(choice: dict[str, Any]) -> list[dict[str, Any]]:
    """The functions that one choice calls."""
    message = choice.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    found = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return [function for function in found if isinstance(function, dict)]


SPEC = Chat()
"""What the registry loads."""
