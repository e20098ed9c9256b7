"""Whether an event says anything of the model's own.

Here belongs what tells the first word of a stream from the courtesies before it: a chunk that names a role and nothing
else, an empty delta, a block or an item that is opened and still empty.  vLLM and SGLang send the role with the first
output of their engine, which may be a part of the prompt alone; OpenAI and gateways send it at once.  The first word
is what clocks wait for.  In doubt it is a word: what nobody here knows must not be held back.
"""

from __future__ import annotations

import re
from typing import Any

from guardproxy.openai.strict import loads

_WORD = re.compile(rb'"(?:content|text|reasoning_content|reasoning)"\s*:\s*"[^"]')
"""Almost every first word matches: no need to decode it.  Within a text the quotes are escaped."""
_OPENED = ("text", "thinking", "message", "reasoning", "output_text", "reasoning_text", "summary_text")
"""Blocks, items and parts that are nothing before something is said in them."""
_SAID = ("text", "thinking", "content", "summary")
"""Where they say it."""


def chunk(payload: bytes) -> bool:
    """Whether a chunk of completions says something, ends something, or is none."""
    if _WORD.search(payload) is not None:
        return True
    try:
        doc = loads(payload)
    except ValueError:
        return True
    choices = doc.get("choices") if isinstance(doc, dict) and not doc.get("error") else None
    if not isinstance(choices, list):
        return True
    return any(not isinstance(choice, dict) or _of_choice(choice) for choice in choices)


def typed(event: dict[str, Any]) -> bool:
    """Whether a typed event (of Anthropic's messages, of the Responses API) says something."""
    if isinstance(delta := event.get("delta"), str):
        return bool(delta)
    if isinstance(delta, dict) and event.get("type") == "content_block_delta":
        return any(value for name, value in delta.items() if name != "type")
    for name in ("content_block", "item", "part"):
        if isinstance(opened := event.get(name), dict) and opened.get("type") in _OPENED:
            return any(opened.get(said) for said in _SAID)
    return event.get("type") != "content_block_stop"


def line(doc: dict[str, Any]) -> bool:
    """Whether a line of Ollama's says something, or is the last."""
    if doc.get("done") is True or doc.get("error"):
        return True
    message = doc.get("message")
    if isinstance(message, dict):
        return any(value for name, value in message.items() if name != "role")
    return bool(doc.get("response") or doc.get("thinking")) or "response" not in doc


def _of_choice(choice: dict[str, Any]) -> bool:
    """Whether one choice of a chunk says something, or ends."""
    delta = choice.get("delta")
    if choice.get("finish_reason") or choice.get("text"):
        return True
    if isinstance(delta, dict):
        return any(value for name, value in delta.items() if name != "role")
    return "text" not in choice
