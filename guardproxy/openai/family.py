"""What all completions of the OpenAI family have in common, whatever a choice looks like.

Here belongs the larger part of a dialect with ``choices``; the dialects themselves say how a choice is read and
written and how a conversation goes on.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from guardproxy.core.dialect import Dialect
from guardproxy.openai import completion, splice
from guardproxy.openai.envelope import envelope
from guardproxy.openai.examine import choices_flaw, examine
from guardproxy.openai.request import choices_wanted, wants_usage
from guardproxy.openai.scan import Scan

if TYPE_CHECKING:
    from guardproxy.core.values import Answer, Call, Fault


class Family(Dialect):
    """A dialect whose answers are ``choices`` that end with a finish reason."""

    judged = True

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

    def examine(self, call: Call, answer: Answer) -> Answer | Fault:
        """Read a whole answer: its choices must be there as objects."""
        return examine(call.upstream, answer, choices_flaw)

    def scan(self, call: Call) -> Scan:
        """Read along with a stream: every choice asked for must finish."""
        return Scan(choices_wanted(call.doc))

    def texts(self, doc: Any) -> list[str | None]:
        """What each choice says."""
        return [self.read(choice) for choice in doc["choices"]]

    def again(self, call: Call, answer: Answer, note: str) -> Call:
        """Show the model the first of its choices that says something, and what is wrong with it."""
        said = next((text for text in self.texts(answer.doc) if text), "")
        changes = self.going_on(call.doc, said, note)
        body = splice.splice(call.body, call.doc, changes)
        return dataclasses.replace(call, body=body, doc={**call.doc, **changes})

    def mend(self, call: Call, answer: Answer, texts: list[str | None]) -> Answer:
        """The answer with other words in it."""
        pairs = zip(answer.doc["choices"], texts, strict=True)
        choices = [choice if text is None else self.write(choice, text) for choice, text in pairs]
        doc = {**answer.doc, "choices": choices}
        body = completion.encode(doc, stream=call.stream, usage=wants_usage(call.doc))
        return dataclasses.replace(answer, doc=doc, body=body)

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """An answer of our own, as JSON or as events."""
        doc = self.own(text, call.id, call.model, created)
        return completion.encode(doc, stream=call.stream, usage=wants_usage(call.doc))

    def error(self, status: int, code: str, message: str, param: str | None = None) -> bytes:
        """The OpenAI envelope."""
        return envelope(status, code, message, param)
