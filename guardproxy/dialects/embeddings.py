"""Embeddings: ``POST /v1/embeddings``; cached and retried, never judged, never streamed.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from guardproxy.openai.language import Language
from guardproxy.openai.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call


@final
class Embeddings(Language):
    """The language of embeddings."""

    name = "embeddings"
    paths = ("/v1/embeddings",)

    def flaw(self, doc: Any) -> str | None:
        """It must hold vectors."""
        data = doc.get("data") if isinstance(doc, dict) else None
        return None if isinstance(data, list) and data else "answered without data"

    def ended(self, doc: Any, body: bytes) -> bool:
        """Vectors come at once."""
        del doc, body
        return True

    def finished(self, doc: Any) -> bool:
        """A vector is never cut."""
        del doc
        return True

    def scan(self, call: Call, watch: Watcher | None = None) -> Scan:
        """Embeddings are not streamed; what comes as events all the same is read as such."""
        del call
        return Scan(watch=watch)

    def texts(self, doc: Any) -> list[str | None]:
        """There are none."""
        del doc
        return []

    def again(self, call: Call, answer: Answer, note: str) -> Call:
        """Numbers cannot be talked to."""
        del answer, note
        return call

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """Numbers are not mended."""
        del call, texts, tools
        return answer

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """No vector of ours could stand for a model's."""
        del text, created
        return self.error(502, "invalid_model_output", f"there is no fallback for {call.path}")


SPEC = Embeddings()
"""What the registry loads."""
