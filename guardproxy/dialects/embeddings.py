"""Embeddings: ``POST /v1/embeddings``; cached and retried, never judged, never streamed.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from typing import Any, final

from guardproxy.openai.vectors import Vectors


@final
class Embeddings(Vectors):
    """The language of embeddings."""

    name = "embeddings"
    paths = ("/v1/embeddings",)

    def vectors(self, doc: dict[str, Any]) -> Any:
        """In ``data``."""
        return doc.get("data")


SPEC = Embeddings()
"""What the registry loads."""
