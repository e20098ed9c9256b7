"""What all dialects have in common that speak JSON over HTTP and stream events.

Here belongs what a dialect is where its file says nothing else: the envelope of errors, the framing of streams, and
the words in which `examine` asks whether an answer is one.  The dialects say what an answer has to hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.core.dialect import Dialect
from guardproxy.openai import completion, wanted
from guardproxy.openai.envelope import envelope, error_in, is_envelope
from guardproxy.openai.events import raw_event
from guardproxy.openai.examine import examine

if TYPE_CHECKING:
    from guardproxy.core.asked import Wanted
    from guardproxy.core.values import Answer, Call, Fault


SAID = 16_000
"""Characters of a bad answer that are shown to the model again."""


class Language(Dialect):
    """A dialect as the OpenAI family speaks it, until its file says otherwise."""

    def flaw(self, doc: Any) -> str | None:
        """What keeps *doc* from being an answer at all, in words; None where nothing does."""
        raise NotImplementedError

    def finished(self, doc: Any) -> bool:
        """Whether the answer ended of itself, cut neither at a length nor by a filter."""
        raise NotImplementedError

    def trouble(self, doc: Any) -> dict[str, Any] | None:
        """The error that *doc* carries, if any."""
        return error_in(doc)

    def readable(self, doc: Any) -> bool:
        """Whether a client of this dialect finds the message of the error that *doc* is."""
        return is_envelope(doc)

    def examine(self, call: Call, answer: Answer) -> Answer | Fault:
        """Read a whole answer."""
        return examine(call, answer, self)

    def wanted(self, doc: dict[str, Any]) -> Wanted | None:
        """In whichever field an engine of the family takes it."""
        return wanted.wanted(doc)

    def parameters(self, doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
        """What every function that the model may call takes."""
        return wanted.tools(doc)

    def streamed(self, doc: dict[str, Any]) -> dict[str, Any] | None:
        """``stream``."""
        del doc
        return {"stream": True}

    def unstreamed(self, doc: dict[str, Any]) -> dict[str, Any]:
        """No ``stream``, said aloud: not every dialect takes silence for a no."""
        del doc
        return {"stream": False}

    def assemble(self, body: bytes) -> Any:
        """Chunks, put together."""
        return completion.assemble(body)

    def so_far(self, body: bytes) -> Any:
        """The choices as far as they had come."""
        return completion.so_far(body)

    def error(self, status: int, code: str, message: str, param: str | None = None) -> bytes:
        """The OpenAI envelope."""
        return envelope(status, code, message, param)

    def told(self, error: bytes) -> bytes:
        """An event that carries the envelope."""
        return raw_event(error)
