"""Text completions: ``POST /v1/completions``.

Source: https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

from typing import Any, final

from guardproxy.openai import completion
from guardproxy.openai.family import Family
from guardproxy.openai.request import choices_wanted


@final
class Completions(Family):
    """The language of text completions."""

    name = "completions"
    paths = ("/v1/completions",)

    def read(self, choice: dict[str, Any]) -> str | None:
        """The text of the choice."""
        text = choice.get("text")
        return text if isinstance(text, str) else ""

    def write(self, choice: dict[str, Any], text: str) -> dict[str, Any]:
        """The same choice, saying *text*."""
        return {**choice, "text": text}

    def going_on(self, doc: dict[str, Any], said: str, note: str) -> dict[str, Any]:
        """What was said and what is wrong with it, behind the prompt; a prompt of tokens is asked again as it is."""
        prompt = doc.get("prompt")
        return {"prompt": f"{prompt}\n{said}\n\n{note}\n"} if isinstance(prompt, str) else {}

    def instructed(self, doc: dict[str, Any], words: str) -> dict[str, Any]:
        """The words behind the prompt; a prompt of tokens stays as it is."""
        prompt = doc.get("prompt")
        return {"prompt": f"{prompt}\n\n{words}\n"} if isinstance(prompt, str) else {}

    def own(self, text: str, ident: str, model: str, created: int) -> dict[str, Any]:
        """A ``text_completion``."""
        return completion.text(text, id=ident, model=model, created=created)

    def choices(self, doc: dict[str, Any]) -> int:
        """As many for every prompt."""
        prompt = doc.get("prompt")
        many = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
        return choices_wanted(doc) * many


SPEC = Completions()
"""What the registry loads."""
