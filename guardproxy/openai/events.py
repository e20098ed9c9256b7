"""Server-sent events, read as they come and written in one piece.

Here belongs the framing of a stream (WHATWG HTML §9.2): bytes in, payloads out, whatever way the bytes
were split.  What a payload means is decided in `scan` and in the dialects.
"""

from __future__ import annotations

from typing import final

from guardproxy.openai.strict import dumps

BUFFER = 8 << 20
"""Bytes of one line, and of one event, that are kept; an event that is longer is dropped whole, not cut."""
DONE = b"[DONE]"
_BOM = b"\xef\xbb\xbf"


@final
class Reader:
    """Turns bytes into the ``data`` payloads of events.

    Lines end with LF, CRLF or CR; a leading byte order mark, comments and unknown fields are passed over;
    the data lines of one event are joined by LF.  Whatever way the bytes were split, the payloads are the same.
    """

    __slots__ = ("_data", "_fresh", "_held", "_length", "_parts", "_size", "lost")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self._data: list[bytes] = []
        self._size = 0
        self._fresh = True
        self._held = False
        self.lost = False
        """Whether an event was dropped."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take *chunk*; return the payloads of the events that it ended, in order."""
        if (
            chunk[-2:] == b"\n\n"
            and chunk[:6] == b"data: "
            and not (self._fresh or self._held or self._length or self._size or self._data)
            and chunk.find(b"\n") == len(chunk) - 2
            and b"\r" not in chunk
            and len(chunk) <= BUFFER
        ):  # what nearly every chunk is: one whole event
            return [chunk[6:-2]]
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
            if self._length:
                if self._length + len(lines[0]) > BUFFER:
                    lines[0] = b":"  # what is left of a dropped line must not read as a line of its own
                    self._size = BUFFER + 1  # and the event that it was part of is lost
                else:
                    lines[0] = b"".join((*self._parts, lines[0]))
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
            if not line:
                if self._size > BUFFER:
                    self.lost = True
                elif data:
                    payloads.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
                self._size = 0
                continue
            if line[:5] == b"data:":
                value = line[6:] if line[5:6] == b" " else line[5:]
            elif line == b"data":
                value = b""
            elif len(line) > BUFFER:
                value = line  # as where it came in pieces: nobody knew then what it was
            else:
                continue
            self._size += len(line) + 1
            if self._size <= BUFFER:
                data.append(value)
            else:
                data.clear()
        return payloads


def payloads(body: bytes) -> list[bytes]:
    """The payloads of all events in *body*."""
    reader = Reader()
    return reader.feed(body) + reader.close()


def braced(payload: bytes) -> bool:
    """Whether *payload* can be an object at all: a look at both ends costs nothing, decoding every event would."""
    payload = payload.strip()
    return payload[:1] == b"{" and payload[-1:] == b"}"


def event(doc: object) -> bytes:
    """One event that carries *doc* as JSON."""
    return b"data: " + dumps(doc) + b"\n\n"


def typed_event(kind: str, doc: object) -> bytes:
    """One event of the type *kind* that carries *doc* as JSON."""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps(doc))


def whole_events(body: bytes) -> bytes:
    """*body*, which may be cut off anywhere, without the event that is not whole."""
    end = max(body.rfind(b"\n\n"), body.rfind(b"\r\n\r\n"), body.rfind(b"\r\r"))
    return body[: end + 4] if end >= 0 else b""


def raw_event(payload: bytes) -> bytes:
    """One event that carries *payload*, which has no line breaks."""
    return b"data: " + payload + b"\n\n"
