r"""Events that differ from one before them in nothing but the next few characters of a text.

Here belongs how such an event is known by its bytes, so that it need not be decoded: it begins and ends as one that was
decoded and looked at, and what stands between is the inside of a JSON text.  Then it means the same, with that text.

    payload   {"id":"c","choices":[{"index":0,"delta":{"content":"  next few  "},"finish_reason":null}]}
              └────────────────────── before ─────────────────────┘          └─────── behind ────────┘

Decoding an event, and finding in it what it adds, takes 5 µs; this takes less than one.  Not here: what becomes of
the text.
"""

from __future__ import annotations

import re
from typing import Final, final

from guardproxy.openai.strict import loads

_CONTENT: Final = re.compile(rb'"content"\s*:\s*"((?:[^"\\]++|\\.)*)"', re.DOTALL)
_PLAIN: Final = re.compile(rb'[^"\\\x00-\x1f]*+')
PATIENCE: Final = 8
"""Events in a row that are not alike after which nobody expects any: in other engines each has a time of its own."""


@final
class Alike:
    """What the last event that was looked at began and ended with."""

    __slots__ = ("_around", "_before", "_behind", "_missed", "index")

    def __init__(self) -> None:
        self._before = b""
        self._behind = b""
        self._around = 0
        self._missed = 0
        self.index = 0
        """The choice that it adds to."""

    def text(self, payload: bytes) -> str | None:
        """What *payload* adds; None: it has to be decoded."""
        around = self._around
        if not around or len(payload) < around:
            return None
        if not (payload.startswith(self._before) and payload.endswith(self._behind)):
            return None
        inside = payload[len(self._before) : len(payload) - len(self._behind)]
        try:
            text = inside.decode() if _PLAIN.fullmatch(inside) is not None else loads(b'"%b"' % inside)
        except ValueError:  # it is no text, or one that nobody can read: whoever decodes the event says so
            return None
        self._missed = 0
        return text if type(text) is str else None

    def learn(self, payload: bytes, index: int | None) -> None:
        """*payload* was decoded, and adds some text to the choice *index*, and nothing else; None: it does more."""
        if self._missed > PATIENCE:
            return
        if index is None:
            self._around = 0
            return
        self._missed += 1 if self._around else 0
        found = _CONTENT.search(payload) if payload.count(b'"content"') == 1 else None
        if found is None or self._missed > PATIENCE:
            self._around = 0
            return
        self.index = index
        self._before, self._behind = payload[: found.start(1)], payload[found.end(1) :]
        self._around = len(self._before) + len(self._behind)
