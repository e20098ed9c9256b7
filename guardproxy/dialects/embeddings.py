"""Embeddings: ``POST /v1/embeddings``; cached and retried, never judged, never streamed.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.dialect import Dialect
from guardproxy.core.values import Answer, Kind
from guardproxy.openai.envelope import envelope
from guardproxy.openai.examine import examine
from guardproxy.openai.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Call, Fault


@final
class Embeddings(Dialect):
    """The language of embeddings."""

    name = "embeddings"
    paths = ("/v1/embeddings",)

    def examine(self, call: Call, answer: Answer) -> Answer | Fault:
        """Read a whole answer: it must hold vectors."""
        read = examine(call.upstream, answer, _flaw)
        if isinstance(read, Answer) and read.kind is Kind.SUCCESS:
            return dataclasses.replace(read, keepable=True)
        return read

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

    def error(self, status: int, code: str, message: str, param: str | None = None) -> bytes:
        """The OpenAI envelope."""
        return envelope(status, code, message, param)


def _flaw(doc: Any) -> str | None:
    data = doc.get("data") if isinstance(doc, dict) else None
    return None if isinstance(data, list) and data else "answered without data"


SPEC = Embeddings()
"""What the registry loads."""
