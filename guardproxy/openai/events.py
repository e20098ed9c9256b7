"""Server-sent events, read as they come and written in one piece.

Here belongs the framing of a stream (WHATWG HTML §9.2): bytes in, payloads out, whatever way the bytes
were split.  What a payload means is decided in `scan` and in the dialects.
"""

from __future__ import annotations

from typing import final

import orjson

BUFFER = 8 << 20
"""Bytes of one unfinished line or event that are kept; what is longer is dropped whole, not cut."""
DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


@final
class Reader:
    """Turns bytes into the ``data`` payloads of events.

    Lines end with LF, CRLF or CR; a leading byte order mark, comments and unknown fields are passed over;
    the data lines of one event are joined by LF.
    """

    __slots__ = ("_data", "_fresh", "_held", "_length", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self._data: list[bytes] = []
        self._size = 0
        self._fresh = True
        self._held = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take *chunk*; return the payloads of the events that it ended, in order."""
        if self._fresh:
            chunk = b"".join((*self._parts, chunk))
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._parts = [chunk]
                return []
            self._parts = []
            self._fresh = False
            chunk = chunk.removeprefix(_BOM)
        if self._held and chunk:  # a CR ended the last chunk, and its line; an LF now is the rest of that CRLF
            self._held = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._held = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            if self._parts or self._length:
                self._parts.append(lines[0])
                # a line too long to be kept was dropped: what is left of it must not read as an empty line
                lines[0] = b":" if self._length > BUFFER else b"".join(self._parts)
                self._parts = []
            self._length = 0
        if rest:
            self._length += len(rest)
            self._parts.append(rest)
            if self._length > BUFFER:
                self._parts = []
        return self._dispatch(lines)

    def close(self) -> list[bytes]:
        """The stream is over: an event that lacks only its empty line counts all the same."""
        return self.feed(b"\n\n")

    def _dispatch(self, lines: list[bytes]) -> list[bytes]:
        payloads: list[bytes] = []
        data = self._data
        for line in lines:
            if line[:5] == b"data:":
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._size += len(value)
                if self._size <= BUFFER:
                    data.append(value)
            elif not line:
                if data:
                    payloads.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                self._size = 0
            elif line == b"data":
                data.append(b"")
        return payloads


def payloads(body: bytes) -> list[bytes]:
    """The payloads of all events in *body*."""
    reader = Reader()
    return reader.feed(body) + reader.close()


def event(doc: object) -> bytes:
    """One event that carries *doc* as JSON."""
    return b"data: " + orjson.dumps(doc) + b"\n\n"


def raw_event(payload: bytes) -> bytes:
    """One event that carries *payload*, which has no line breaks."""
    return b"data: " + payload + b"\n\n"
