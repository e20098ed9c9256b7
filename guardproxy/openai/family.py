"""What all completions of the OpenAI family have in common, whatever a choice looks like.

Here belongs the larger part of a dialect with ``choices``; the dialects themselves say how a choice is read and
written and how a conversation goes on.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from guardproxy.openai import completion, enforce, splice
from guardproxy.openai.events import DONE
from guardproxy.openai.examine import choices_flaw, finished
from guardproxy.openai.fields import EVENTS, JSON, retyped
from guardproxy.openai.language import SAID, Language
from guardproxy.openai.request import changed, choices_wanted, other_dice, wants_usage
from guardproxy.openai.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Schema, Wrong
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call


_WHOLE_ONLY = frozenset(
    (
        "audio",
        "best_of",
        "functions",
        "kv_transfer_params",
        "prompt_logprobs",
        "return_hidden_states",
        "return_token_ids",
        "tools",  # parsers of tool calls are more often wrong in streams than at the end
        "use_beam_search",
    )
)
"""Fields that some engine refuses in a stream, or answers to in another shape, or less well, there."""


class Family(Language):
    """A dialect whose answers are ``choices`` that end with a finish reason."""

    judged = True
    bounds = ("max_completion_tokens", "max_tokens")
    aside = frozenset(("stream", "stream_options", "metadata", "store", "prompt_cache_retention", "priority"))

    def read(self, choice: dict[str, Any]) -> str | None:
        """The text of one choice; None where it says nothing by design, as a tool call does."""
        raise NotImplementedError

    def write(self, choice: dict[str, Any], text: str) -> dict[str, Any]:
        """The same choice with another text."""
        raise NotImplementedError

    def going_on(self, doc: dict[str, Any], said: str, note: str) -> dict[str, Any]:
        """The fields of the request that tell the model what it said and what is wrong with it."""
        raise NotImplementedError

    def own(self, text: str, ident: str, model: str, created: int) -> dict[str, Any]:
        """A completion of our own."""
        raise NotImplementedError

    def flaw(self, doc: Any) -> str | None:
        """Its choices must be there as objects."""
        return choices_flaw(doc)

    def sound(self, doc: Any, body: bytes) -> bool:
        """Every choice has a finish reason, and ``[DONE]`` is the last word."""
        return all(choice.get("finish_reason") for choice in doc["choices"]) and body.rstrip().endswith(DONE)

    def finished(self, doc: Any) -> bool:
        """Every choice ended of itself."""
        return finished(doc)

    def choices(self, doc: dict[str, Any]) -> int:
        """How many choices the request *doc* asks for."""
        return choices_wanted(doc)

    def scan(self, call: Call, watch: Watcher | None = None) -> Scan:
        """Read along with a stream: every choice asked for must finish."""
        return Scan(self.choices(call.doc), watch)

    def gather(self, call: Call, watch: Watcher | None = None) -> Scan:
        """Put together as it comes: thousands of chunks at once would hold the loop."""
        return self.scan(call, watch).assemble()

    def streamed(self, doc: dict[str, Any]) -> dict[str, Any] | None:
        """``stream``, and the usage that an answer in one piece has; None where not every engine could stream it."""
        if any(doc.get(name) for name in _WHOLE_ONLY):
            return None
        options = doc.get("stream_options")
        return {"stream": True, "stream_options": {**(options or {}), "include_usage": True}}

    def unstreamed(self, doc: dict[str, Any]) -> dict[str, Any]:
        """No ``stream``, and no options for one: they are an error without it."""
        del doc
        return {"stream": False, "stream_options": splice.DROP}

    def enforced(self, doc: dict[str, Any], schema: Schema, how: str) -> dict[str, Any]:
        """In the field that the engine takes, or in the conversation."""
        if how == "prompt":
            return self.instructed(doc, enforce.words(schema))
        return enforce.field(doc, schema, how)

    def instructed(self, doc: dict[str, Any], words: str) -> dict[str, Any]:
        """The fields of the request that put *words* into the conversation."""
        raise NotImplementedError

    def deltas(self, chunk: Any) -> list[tuple[int, str]]:
        """What each choice of the chunk adds to its text."""
        choices = chunk.get("choices") if isinstance(chunk, dict) else None
        found: list[tuple[int, str]] = []
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                delta = choice.get("delta")
                text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
                index = choice.get("index", 0)
                if isinstance(text, str) and text and isinstance(index, int):
                    found.append((index, text))
        return found

    def texts(self, doc: Any) -> list[str | None]:
        """What each choice says."""
        return [self.read(choice) for choice in doc["choices"]]

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """Show the model the choice that is wrong, and what is wrong with it."""
        said = wrong.shown(self.texts(answer.doc), self.tools(answer.doc))
        return changed(call, self.going_on(call.doc, said[:SAID], wrong.note) | other_dice(call.doc))

    def cut(self, doc: Any) -> bool:
        """Whether a choice ended at its length."""
        return any(choice.get("finish_reason") == "length" for choice in doc["choices"])

    def stopped(self, doc: Any) -> list[Any]:
        """The finish reasons."""
        return [choice.get("finish_reason") for choice in doc["choices"]]

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """The answer with other words in it."""
        pairs = zip(answer.doc["choices"], texts, strict=True)
        choices = [choice if text is None else self.write(choice, text) for choice, text in pairs]
        if any(given is not None for given in tools):
            choices = self.rewrite(choices, tools)
        choices = [choice if choice.get("finish_reason") else _finished(choice) for choice in choices]
        doc = {**answer.doc, "choices": choices}
        body = completion.encode(doc, stream=call.stream, usage=wants_usage(call.doc))
        headers = retyped(answer.headers, EVENTS if call.stream else JSON)
        return dataclasses.replace(answer, headers=headers, doc=doc, body=body)

    def rewrite(self, choices: list[dict[str, Any]], tools: Sequence[str | None]) -> list[dict[str, Any]]:
        """The same choices with other arguments for their tools."""
        del tools
        return choices

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """An answer of our own, as JSON or as events: as many choices as were asked for."""
        doc = self.own(text, call.id, call.model, created)
        doc["choices"] = [{**doc["choices"][0], "index": index} for index in range(self.choices(call.doc))]
        return completion.encode(doc, stream=call.stream, usage=wants_usage(call.doc))


def _finished(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice that is complete, though its engine does not say why."""
    message = choice.get("message")
    calls = isinstance(message, dict) and message.get("tool_calls")
    return {**choice, "finish_reason": "tool_calls" if calls else "stop"}
