"""Where a stream may be cut without anybody noticing half of an event.

Here belongs finding the end of the last whole event in what has come.  What the events mean is not looked at, and not a
byte is changed, dropped or added: only when it is passed on is decided here.

    tail    open   | what comes                                   | passed on          then
    any     no     | the end of an event                          | up to that end     tail: the rest
    any     no     | no end, and not too much to wait for         | nothing            tail: all of it
    any     any    | no end, or a rest too much to wait for       | all of it          open
    –       yes    | no end                                       | all of it          open
"""

from __future__ import annotations

from typing import Final, final

HELD_BACK: Final = 16 * 1024
"""Bytes of an event that are held back until its end has come; one that is longer is passed on as it comes."""


@final
class Cutter:
    """Passes on whole events; *ends* are the bytes that end one."""

    __slots__ = ("_ends", "open", "tail")

    def __init__(self, ends: tuple[bytes, ...]) -> None:
        self._ends = ends
        self.tail = b""
        """The beginning of an event that waits for its end."""
        self.open = False
        """Whether an event too long to be held back has been passed on in part."""

    def __repr__(self) -> str:
        return f"<Cutter {len(self.tail)} bytes held back{', open' * self.open}>"

    def feed(self, chunk: bytes) -> bytes:
        """Take *chunk*; return what may be passed on."""
        held = self.tail + chunk if self.tail else chunk
        end = 0
        for mark in self._ends:
            at = held.rfind(mark)
            if at >= 0 and at + len(mark) > end:
                end = at + len(mark)
        if (self.open and not end) or len(held) - end > HELD_BACK:
            self.open, self.tail = True, b""
            return held
        self.open = False
        self.tail = held[end:]
        return held[:end]
