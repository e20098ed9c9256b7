"""Chat completions: ``POST /v1/chat/completions``.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import Any, final

from guardproxy.openai import completion
from guardproxy.openai.family import Family


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
        if isinstance(content, str):
            return None if not content and message.get("tool_calls") else content
        if isinstance(content, list):  # parts, as some models answer
            return "".join(part.get("text") or "" for part in content if isinstance(part, dict))
        return None if message.get("tool_calls") or message.get("function_call") else ""

    def write(self, choice: dict[str, Any], text: str) -> dict[str, Any]:
        """The same choice, saying *text*."""
        return {**choice, "message": {**choice["message"], "content": text}}

    def going_on(self, doc: dict[str, Any], said: str, note: str) -> dict[str, Any]:
        """Two more turns: what the model said, and what is wrong with it."""
        messages = doc.get("messages")
        turns = [{"role": "assistant", "content": said}, {"role": "user", "content": note}]
        return {"messages": [*(messages if isinstance(messages, list) else ()), *turns]}

    def own(self, text: str, ident: str, model: str, created: int) -> dict[str, Any]:
        """A ``chat.completion``."""
        return completion.chat(text, id=ident, model=model, created=created)


SPEC = Chat()
"""What the registry loads."""
