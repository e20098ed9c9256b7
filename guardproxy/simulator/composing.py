"""What a simulated model says to a request: prose, a brief, an instance of a schema, or a call of a tool.

Here belongs the content of an answer, a deterministic function of the request's body. Here does not belong the JSON
around it (`shapes`) nor how it travels (`wire`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import orjson

from guardproxy.simulator import perfume
from guardproxy.simulator.engines import OPENAI, Engine
from guardproxy.simulator.fits import CannotSatisfyError
from guardproxy.simulator.instance import instance
from guardproxy.simulator.spoiling import spoil

if TYPE_CHECKING:
    from guardproxy.simulator.manners import Manners

# A token is about a word, or four characters of a longer one.
_TOKEN = re.compile(r"\s*\S{1,4}|\s+")
# How a request travels says nothing about what it asks: a stream has the text of the answer that is not one.
_NOT_ASKED = frozenset({"stream", "stream_options"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Who answers: name, model id, the mode the request named (or None), the id to echo (or None), and the engine."""

    name: str
    model: str
    mode: str | None = None
    echo: str | None = None
    engine: Engine = OPENAI


@final
@dataclass(frozen=True, slots=True)
class Said:
    """One choice: its tokens, why it ended (`stop`, `length`, `tool_calls`), and the tool it calls, if any."""

    tokens: list[str]
    finish: str
    tool: str | None = None

    @property
    def text(self) -> str:
        """The whole text, or the arguments of the tool call."""
        return "".join(self.tokens)


def tokens(text: str) -> list[str]:
    """Cut a text into tokens; joined they are the text again."""
    return _TOKEN.findall(text)


def seed_of(body: dict[str, Any]) -> int:
    """A number that depends on everything the body asks for, and on nothing else."""
    asked = {key: value for key, value in body.items() if key not in _NOT_ASKED}
    digest = hashlib.blake2s(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS), digest_size=6).digest()
    return int.from_bytes(digest)


def compose(body: dict[str, Any], who: Speaker, manners: Manners, *, count: int = 1) -> list[Said]:
    """The choices that answer a chat or completion request whose body has been checked.

    Raises `CannotSatisfyError` where it asks for a schema no instance is found for.
    """
    seed = seed_of(body)
    return [_choice(body, who, manners, seed + number) for number in range(count)]


def _choice(body: dict[str, Any], who: Speaker, manners: Manners, seed: int) -> Said:
    tool = _forced_tool(body)
    schema = wanted_schema(body) if tool is None else tool.get("parameters", {"type": "object"})
    if not who.engine.enforces:
        schema = None
    hints = perfume.hints(seed)
    value: Any = None
    json = schema is not None or _wants_json(body)
    if who.echo:
        for name in ("description", "text"):
            hints[name] = [f"[{who.echo}] {hints[name][0]}", *hints[name]]
    if schema is not None:
        value = instance(schema, seed=seed, hints=hints)
    elif json:
        value = {**perfume.brief(seed), "description": hints["description"][0]}
    if json:
        text = spoil(value, schema, manners)
    else:
        text = (f"[{who.echo}] " if who.echo else "") + perfume.prose(seed, _introduction(body, who))
    return _ended(body, text, manners, None if tool is None else str(tool["name"]))


def _introduction(body: dict[str, Any], who: Speaker) -> str:
    temperature = body.get("temperature")
    warmth = "default temperature" if temperature is None else f"temperature {temperature}"
    return ", ".join(filter(None, (f"{who.name} = {who.model}", who.mode and f"mode {who.mode}", warmth)))


def _ended(body: dict[str, Any], text: str, manners: Manners, tool: str | None) -> Said:
    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0] if stop else text
    said, finish = tokens(text), "tool_calls" if tool else "stop"
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if manners.length:
        said, finish = said[: len(said) // 2], "length"
    if limit is not None and len(said) > limit:
        said, finish = said[:limit], "length"
    return Said(said, finish, tool)


def _forced_tool(body: dict[str, Any]) -> dict[str, Any] | None:
    """The function a request forces the model to call, if it does."""
    choice = body.get("tool_choice")
    tools = body.get("tools")
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    offered = {str(each["name"]): each for each in functions if isinstance(each, dict) and "name" in each}
    if choice == "required":
        return next(iter(offered.values()), None)
    named = choice.get("function") if isinstance(choice, dict) else None
    return offered.get(str(named.get("name"))) if isinstance(named, dict) else None


def wanted_schema(body: dict[str, Any]) -> Any:
    """The schema an answer must satisfy, as OpenAI or vLLM (old and new) spell it; None where there is none."""
    asked = body.get("response_format")
    if isinstance(asked, dict) and asked.get("type") == "json_schema":
        wrapper = asked.get("json_schema")
        # An absent schema (OpenAI makes it optional) allows every object.
        return wrapper.get("schema", {"type": "object"}) if isinstance(wrapper, dict) else {"type": "object"}
    structured = body.get("structured_outputs")
    schema = structured.get("json") if isinstance(structured, dict) else body.get("guided_json")
    try:
        return orjson.loads(schema) if isinstance(schema, str) else schema
    except orjson.JSONDecodeError:
        raise CannotSatisfyError("it is not JSON") from None


def _wants_json(body: dict[str, Any]) -> bool:
    """By `response_format`, or in words: a model that is told to answer in JSON tries to."""
    asked = body.get("response_format")
    if isinstance(asked, dict) and asked.get("type") == "json_object":
        return True
    said = orjson.dumps(body.get("messages", body.get("prompt", "")))
    return b"json" in said.lower()


def prompt_tokens(body: dict[str, Any]) -> int:
    """How many tokens a request's messages, prompt or input are, by the same measure as the answer."""
    said = body.get("messages", body.get("prompt", body.get("input", "")))
    texts = [said] if isinstance(said, str) else [_text_of(item) for item in said]
    return sum(len(tokens(text)) for text in texts)


def _text_of(item: Any) -> str:
    if isinstance(item, dict):
        content = item.get("content")
        parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
        return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in parts)
    # Token ids count as one token each.
    return item if isinstance(item, str) else " ".join("t" for _ in item) if isinstance(item, list) else "t"
