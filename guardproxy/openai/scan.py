"""Whether a stream that is relayed has ended as it must.

Here belongs the one definition of a complete stream in the OpenAI family: no error event, and a finish reason on every
choice; or, where an engine leaves finish reasons out, ``[DONE]``, or tokens that are counted in the last event and in
no other (transformers' server says no more than that).  The bytes themselves go past untouched.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Self, final

from guardproxy.openai import begin
from guardproxy.openai.alike import Alike
from guardproxy.openai.completion import Assembly
from guardproxy.openai.envelope import error_in
from guardproxy.openai.events import BUFFER, DONE, Reader, braced
from guardproxy.openai.examine import ENDED, FAILED
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from guardproxy.core.guard import Watcher

_TELLING = re.compile(rb'"(?:finish_reason"\s*:\s*"|usage"\s*:\s*\{|error"\s*[:,}])')
"""What makes an event worth decoding: one search an event instead of one decode. An error may be an ``object``, too."""


@final
class Scan:
    """What a stream of completion chunks has told so far; *choices* are expected to finish."""

    __slots__ = (
        "_alike", "_assembly", "_choices", "_counted", "_flaw", "_reader", "_watch",
        "begun", "broken", "done", "error", "events", "finished", "hopeless", "usage",
    )  # fmt: skip

    def __init__(self, choices: int = 1, watch: Watcher | None = None) -> None:
        self._reader = Reader()
        self._watch = watch
        self._assembly: Assembly | None = None
        self._alike = Alike()
        self._flaw = ""
        self.hopeless = ""
        self._choices = choices
        self._counted = 0
        self.events = 0
        self.begun = self.done = self.broken = False
        self.error: dict[str, Any] | None = None
        self.finished: dict[int, str] = {}
        self.usage: dict[str, Any] | None = None

    def feed(self, chunk: bytes) -> int:
        """Take what has come; tell how many events it ended."""
        before = self.events
        for payload in self._reader.feed(chunk):
            self._take(payload)
        if self._reader.lost:  # of no account where its bytes go past; but it is missing from what is put together
            self._flaw = self._flaw or f"an event of more than {BUFFER >> 20} MiB"
        return self.events - before

    def close(self) -> None:
        """The stream has ended."""
        for payload in self._reader.close():
            self._take(payload)

    def assemble(self) -> Self:
        """Put the answer together from here on; returns itself."""
        self._assembly = Assembly()
        return self

    def told(self) -> Any:
        """What it told, put together, if it was made to; raises `ValueError` where an event was no JSON."""
        if self._flaw:
            raise ValueError(self._flaw)
        return None if self._assembly is None else self._assembly.whole()

    def complete(self) -> bool:
        """Whether all that was promised has come."""
        if self.error is not None:
            return False
        ended = self.done and self.events > 0
        return len(self.finished) >= self._choices or ended or self.events == self._counted > 1

    def keepable(self) -> bool:
        """Whether it is complete and every choice ended of itself."""
        return (
            not self.broken
            and self.complete()
            and len(self.finished) >= self._choices
            and ENDED.issuperset(self.finished.values())
        )

    def _take(self, payload: bytes) -> None:
        if self.done:
            return
        if payload == DONE:
            self.done = True
            self.begun = self.events > 0
            return
        if not payload:
            return
        self.events += 1
        if not self.begun:
            self.begun = begin.chunk(payload)
            if b'"error"' in payload:  # not only what stands under that name
                self._read(self._decoded(payload))
        if (payload[0] != 0x7B or payload[-1] != 0x7D) and not braced(payload):
            self.broken = True
        if self._assembly is not None or self._watch is not None:
            self._show(payload)
        elif _TELLING.search(payload) is not None:
            self._read(self._decoded(payload))

    def _show(self, payload: bytes) -> None:
        """Every event is decoded, for those who want to see what it says, unless that is known by its bytes."""
        assembly, alike = self._assembly, self._alike
        if assembly is not None and (text := alike.text(payload)) is not None:
            assembly.say(alike.index, text)
            if self._watch is not None and not self.hopeless:
                self.hopeless = self._watch.heard(alike.index, text) or ""
            return
        doc = self._decoded(payload)
        if assembly is not None:
            alike.learn(payload, assembly.add(doc))
        if _TELLING.search(payload) is not None:
            self._read(doc)
        if self._watch is not None and not self.hopeless:
            self.hopeless = self._watch(doc) or ""

    def _decoded(self, payload: bytes) -> Any:
        try:
            return loads(payload)
        except ValueError as error:
            self.broken = True
            self._flaw = self._flaw or str(error) or "no JSON"  # in words: the frames of an error would hold us
            return None  # a malformed event is relayed as it is; without a finish reason it is no end

    def _read(self, doc: Any) -> None:
        if not isinstance(doc, dict):
            return
        if self.error is None:
            self.error = error_in(doc) or (doc if doc.get("object") == "error" else None)
        usage = doc.get("usage")
        if isinstance(usage, dict):
            if self.usage is None:
                self._counted = self.events
            self.usage = usage
        choices = doc.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(choice.get("finish_reason"), str):
                index = choice.get("index", 0)
                self.finished[index if isinstance(index, int) else 0] = choice["finish_reason"]
                self.broken = self.broken or choice["finish_reason"] == FAILED
