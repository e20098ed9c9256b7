"""Ollama's embeddings: ``POST /api/embed``, and ``/api/embeddings`` as it was before.

Source: https://docs.ollama.com/api/embed
"""

from __future__ import annotations

from typing import Any, final

from guardproxy.openai import lines
from guardproxy.openai.vectors import Vectors


@final
class OllamaEmbed(Vectors):
    """The language of Ollama's embeddings."""

    name = "ollama_embed"
    paths = ("/api/embed", "/api/embeddings")

    def vectors(self, doc: dict[str, Any]) -> Any:
        """In ``embeddings``; the older path has one ``embedding``."""
        return doc.get("embeddings") or doc.get("embedding")

    def streams(self, doc: dict[str, Any]) -> bool:
        """Never."""
        del doc
        return False

    def readable(self, doc: Any) -> bool:
        """An error is a text."""
        return lines.readable(doc)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> bytes:
        """A text, with ``code`` and ``param`` beside it."""
        del status
        return lines.refusal(code, message, param)


SPEC = OllamaEmbed()
"""What the registry loads."""
