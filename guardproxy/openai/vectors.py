"""What dialects of embeddings have in common.

Here belongs what follows from an answer being numbers: it is cached and retried, never judged, mended or streamed.
Where the numbers stand is for the dialects to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.openai.language import Language
from guardproxy.openai.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardproxy.core.asked import Wrong
    from guardproxy.core.guard import Watcher
    from guardproxy.core.values import Answer, Call


class Vectors(Language):
    """A dialect whose answers are vectors."""

    def vectors(self, doc: dict[str, Any]) -> Any:
        """What stands where the vectors must stand."""
        raise NotImplementedError

    def flaw(self, doc: Any) -> str | None:
        """It must hold vectors."""
        found = self.vectors(doc) if isinstance(doc, dict) else None
        return None if isinstance(found, list) and found else "answered without vectors"

    def finished(self, doc: Any) -> bool:
        """A vector is never cut."""
        del doc
        return True

    def scan(self, call: Call, watch: Watcher | None = None) -> Scan:
        """They are not streamed; what comes as events all the same is read as such."""
        del call
        return Scan(watch=watch)

    def texts(self, doc: Any) -> list[str | None]:
        """There are none."""
        del doc
        return []

    def again(self, call: Call, answer: Answer, wrong: Wrong) -> Call:
        """Numbers cannot be talked to."""
        del answer, wrong
        return call

    def mend(self, call: Call, answer: Answer, texts: list[str | None], tools: Sequence[str | None] = ()) -> Answer:
        """Numbers are not mended."""
        del call, texts, tools
        return answer

    def compose(self, call: Call, text: str, created: int) -> bytes:
        """No vector of ours could stand for a model's."""
        del text, created
        return self.error(502, "invalid_model_output", f"there is no fallback for {call.path}")
