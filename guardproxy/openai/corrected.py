"""The turns in which a model is shown that it has called a tool in a wrong way.

Here belongs how each API writes a tool call of the model's and what became of it, for a conversation that goes on.  A
model that is shown its own call and a result that says what is wrong calls the tool again; one that is shown the
arguments as if it had said them answers in words the next time.

None where that cannot be done: engines read the arguments of earlier calls as JSON objects, and refuse the whole
request where they are none (vLLM), or where a call has no id.  Then the arguments are shown as text.

Sources: https://platform.openai.com/docs/guides/function-calling,
https://docs.claude.com/en/docs/agents-and-tools/tool-use/implement-tool-use, https://docs.ollama.com/capabilities/tool-calling
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.openai.message import blocks_of
from guardproxy.openai.response import items_of
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Wrong

Turns = list[dict[str, Any]]
_LONGEST = 16_000
"""Characters of arguments that are shown to the model again."""
_UNMADE = "error: this call was not made, since another one beside it was wrong; make both again"


def in_chat(doc: Any, wrong: Wrong) -> Turns | None:
    """The first choice that calls a tool in a wrong way, and a ``tool`` message for each of its calls."""
    at = 0
    for choice in doc["choices"]:
        message = choice.get("message")
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        calls = [call for call in calls if _has_function(call)] if isinstance(calls, list) else []
        problems, at = wrong.tools[at : at + len(calls)], at + len(calls)
        if not any(problems):
            continue
        if not all(isinstance(call.get("id"), str) and _readable(call["function"].get("arguments")) for call in calls):
            return None
        turn = {"role": "assistant", "content": message.get("content"), "tool_calls": calls}
        results = zip(calls, problems, strict=True)
        return [turn, *({"role": "tool", "tool_call_id": call["id"], "content": _said(p)} for call, p in results)]
    return None


def in_responses(doc: Any, wrong: Wrong) -> Turns | None:
    """The function calls, and a ``function_call_output`` for each of them."""
    calls = [item for item in items_of(doc) if item.get("type") == "function_call"]
    if not any(wrong.tools) or not all(
        isinstance(call.get("call_id"), str) and _readable(call.get("arguments")) for call in calls
    ):
        return None
    turns = [{name: call.get(name) for name in ("type", "call_id", "name", "arguments")} for call in calls]
    results = zip(calls, wrong.tools, strict=True)
    turns += [{"type": "function_call_output", "call_id": call["call_id"], "output": _said(p)} for call, p in results]
    return turns


def in_messages(doc: Any, wrong: Wrong) -> Turns | None:
    """The content as it came, and a ``tool_result`` for each call of a tool."""
    content = blocks_of(doc)
    calls = [block for block in content if block.get("type") == "tool_use"]
    if not any(wrong.tools) or not all(isinstance(call.get("id"), str) and _fits(call.get("input")) for call in calls):
        return None
    kept = [block for block in content if block.get("type") != "text" or str(block.get("text") or "").strip()]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": _said(problem), "is_error": bool(problem)}
        for call, problem in zip(calls, wrong.tools, strict=True)
    ]
    return [{"role": "assistant", "content": kept}, {"role": "user", "content": results}]


def in_ollama(calls: Sequence[dict[str, Any]], said: str, wrong: Wrong) -> Turns | None:
    """What was *said* and the *calls*, and a ``tool`` message for each of them; calls have no ids here."""
    if not any(wrong.tools) or not all(_fits(call["function"].get("arguments")) for call in calls):
        return None
    results = zip(calls, wrong.tools, strict=True)
    answers = [{"role": "tool", "tool_name": c["function"].get("name"), "content": _said(p)} for c, p in results]
    return [{"role": "assistant", "content": said, "tool_calls": list(calls)}, *answers]


def _said(problem: str) -> str:
    return f"error: {problem}; call it again" if problem else _UNMADE


def _has_function(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("function"), dict)


def _readable(arguments: Any) -> bool:
    """Whether an engine will read the text *arguments* as an object."""
    if not isinstance(arguments, str) or len(arguments) > _LONGEST:
        return False
    try:
        return isinstance(loads(arguments.encode()), dict)
    except (ValueError, UnicodeEncodeError):
        return False


def _fits(arguments: Any) -> bool:
    return isinstance(arguments, dict) and len(str(arguments)) <= _LONGEST
