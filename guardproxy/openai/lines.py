"""Streams of which each line is a JSON document (NDJSON), and errors that are a text, as Ollama writes them.

Here belongs the framing: bytes in, lines out, whatever way the bytes were split.
Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

from typing import Any, Final, final

from guardproxy.openai.strict import dumps

BUFFER: Final = 8 << 20
"""Bytes of one line that are kept; a line that is longer is dropped whole, not cut."""
MEDIA: Final = b"application/x-ndjson"


@final
class Lines:
    """Turns bytes into lines that are not empty."""

    __slots__ = ("_length", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take *chunk*; return the lines that it ended, in order."""
        if b"\n" not in chunk:
            self._hold(chunk)
            return []
        first, *lines = chunk.split(b"\n")
        rest = lines.pop()
        self._hold(first)
        lines.insert(0, b"".join(self._parts) if self._length <= BUFFER else b"")
        self._parts.clear()
        self._length = 0
        self._hold(rest)
        return [bare for line in lines if (bare := line.strip()) and len(bare) <= BUFFER]

    def close(self) -> list[bytes]:
        """The stream is over: a last line needs no end."""
        return self.feed(b"\n")

    def _hold(self, part: bytes) -> None:
        if part:
            self._length += len(part)
            if self._length > BUFFER:
                self._parts.clear()
            else:
                self._parts.append(part)


def lines(body: bytes) -> list[bytes]:
    """The lines of *body*."""
    reader = Lines()
    return reader.feed(body) + reader.close()


def readable(doc: Any) -> bool:
    """Whether a client of Ollama finds the message of the error in *doc*."""
    return isinstance(doc, dict) and isinstance(doc.get("error"), str)


def refusal(code: str, message: str, param: str | None) -> bytes:
    """An error as Ollama writes it; ``code`` and ``param`` are ours beside it."""
    return dumps({"error": message, "code": code, "param": param})
