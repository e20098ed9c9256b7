"""Reading along with a stream whose events say themselves what they are.

Here belongs what is common to the streams of the Responses API, of Anthropic and of Ollama: which events are content,
which one ends the answer, and the one definition of a complete stream for them: the closing event has come, and no
error.  Which events these are is the dialects' to say; the streams of chunks that end with ``[DONE]`` are `scan`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, final

from guardproxy.openai.events import braced
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

    from guardproxy.core.guard import Watcher


class Frames(Protocol):
    """Turns bytes into payloads, whatever way they were split."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take *chunk*; return the payloads that it ended."""

    def close(self) -> list[bytes]:
        """The stream is over; return what is left."""


@final
@dataclass(slots=True, frozen=True)
class Told:
    """What one event tells beyond its content."""

    content: bool = True
    """Whether it counts as content: a sign that the model has begun to answer."""
    error: dict[str, Any] | None = None
    done: bool = False
    """Whether the answer has come to its end, whatever the reason."""
    finished: bool = False
    """Whether it ended of itself."""
    usage: dict[str, Any] | None = None


CONTENT = Told()
"""An event like any other."""


@final
class Follow:
    """What a stream of events has told so far.

    *telling* finds those that *read* has something to say about, *begins* tells the first word from what precedes it.
    """

    __slots__ = (
        "_begins",
        "_frames",
        "_read",
        "_telling",
        "_watch",
        "begun",
        "broken",
        "done",
        "error",
        "events",
        "finished",
        "hopeless",
        "usage",
    )

    def __init__(
        self,
        frames: Frames,
        telling: re.Pattern[bytes],
        read: Callable[[dict[str, Any]], Told],
        begins: Callable[[dict[str, Any]], bool],
        watch: Watcher | None = None,
    ) -> None:
        self._frames = frames
        self._telling = telling
        self._read = read
        self._begins = begins
        self._watch = watch
        self.events = 0
        self.begun = self.done = self.broken = False
        self.finished = False
        self.error: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self.hopeless = ""

    def feed(self, chunk: bytes) -> int:
        """Take what has come; tell how many events it ended."""
        before = self.events
        for payload in self._frames.feed(chunk):
            self._take(payload)
        return self.events - before

    def close(self) -> None:
        """The stream has ended."""
        for payload in self._frames.close():
            self._take(payload)

    def complete(self) -> bool:
        """Whether all that was promised has come."""
        return self.done and self.error is None

    def keepable(self) -> bool:
        """Whether it is complete and ended of itself."""
        return not self.broken and self.complete() and self.finished

    def told(self) -> Any:
        """It puts nothing together."""
        return None

    def _take(self, payload: bytes) -> None:
        if self.done or not payload:
            return
        if (payload[0] != 0x7B or payload[-1] != 0x7D) and not braced(payload):
            self.broken = True
        doc = self._decoded(payload) if self._watch is not None else None
        if self._telling.search(payload) is not None:
            doc = self._decoded(payload) if doc is None else doc
            self._note(self._read(doc) if isinstance(doc, dict) else CONTENT)
        else:
            self.events += 1
        if not self.begun and self.events:
            doc = self._decoded(payload) if doc is None else doc
            self.begun = not isinstance(doc, dict) or self._begins(doc)
        if self._watch is not None and not self.hopeless:
            self.hopeless = self._watch(doc) or ""

    def _note(self, told: Told) -> None:
        """Take in what an event tells beyond its content."""
        self.events += told.content
        if self.error is None:
            self.error = told.error
        self.usage = told.usage or self.usage
        self.finished = told.finished or self.finished
        self.done = told.done

    def _decoded(self, payload: bytes) -> Any:
        try:
            return loads(payload)
        except ValueError:
            self.broken = True
            return None  # a malformed event is relayed as it is; it ends nothing


def kind_of(doc: Any) -> str:
    """The ``type`` of an event; nothing where it has none."""
    kind = doc.get("type") if isinstance(doc, dict) else None
    return kind if isinstance(kind, str) else ""
