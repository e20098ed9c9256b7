"""The log: one line per call, per change of a machine's state, and per step of the program's life.

Here belongs what is said besides calls, and how lines leave.  Not here: what the line of a call says (line), who
is told what (app), counts (metrics), the latest events for the live page (feed).

What is never written, whatever the level: bodies, header fields, query strings, and what looks like a key in
the words of an error.  What a caller wrote is cut, and has no character in it that ends a line or moves a
cursor.

A line costs no system call: lines are collected and handed, 64 KiB at a time or at every `flush`, to a thread
that writes them, because a write to a pipe that nobody reads would stop the loop and every call with it.  What
waits is bounded; beyond that, lines are dropped and counted, and the log says so when it can again.
"""

from __future__ import annotations

import os
import re
import select
import threading
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, final

import orjson

from guardproxy.telemetry.crowd import Crowd
from guardproxy.telemetry.line import LEVELS, Level, filled, form_of, level_of, particulars, tidy

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.values import News, Record
    from guardproxy.telemetry.sorts import Sort

BATCH = 64 << 10
"""Bytes that leave at once, without waiting for a `flush`."""
WAITING = 4 << 20
"""Bytes that may wait for somebody to take them."""

_SECRETS = re.compile(
    r"(?i)(\b(?:bearer|basic)\s+|(?:api[-_]?key|token|secret|password)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,]+"
    r"|\bsk-[\w-]{8,}"
    r"|(?<=://)[^\s/@]+(?=@)"
)
_ALARMING = frozenset(("open", "unhealthy"))


@final
class Log:
    """Lines to the file descriptor *fd*: JSON, or words for a terminal where *human*; *wall* says what time it is.

    *share* is the part of calls answered as asked that is written, evenly spread; whatever went wrong is written.
    """

    def __init__(
        self,
        fd: int,
        wall: Callable[[], float],
        *,
        level: Level = "info",
        human: bool = False,
        share: float = 1.0,
        waiting: int = WAITING,
    ) -> None:
        self._fd = fd
        self._wall = wall
        self._least = LEVELS.index(level)
        self._human = human
        self._dress = _words if human else _json
        self._share = share
        self._crowd = Crowd()
        self._owed = 0.0  # calls answered as asked that should have been written, and have not been
        self._limit = waiting
        self._lines: list[bytes] = []
        self._size = 0
        self._handed = 0  # bytes, ever; only the loop writes it
        self._taken = 0  # bytes, ever; only the thread writes it
        self._refused = 0  # lines that did not fit; only the loop writes it
        self._lost = 0  # lines that could not be written; only the thread writes it
        self._stuck = False  # whether the last batch could not be written; only the thread writes it
        self._confessed = 0
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._writer: threading.Thread | None = None
        self._second = -1
        self._prefix = ""

    @property
    def dropped(self) -> int:
        """Lines that nobody took, since start."""
        return self._refused + self._lost

    def __repr__(self) -> str:
        return f"<Log {len(self._lines)} lines, {self._waiting()} bytes waiting, {self.dropped} dropped>"

    def told(self, record: Record, at: float, sort: Sort | None = None) -> None:
        """A call, which may be of a *sort*, has ended *at* this time of day."""
        if self._crowd.hides(record, at):
            return
        if sort is None or self._human:
            level = level_of(record)
            if LEVELS.index(level) >= self._least and (level != "info" or self._chosen()):
                self._add(particulars(record, self._stamp(at)))
            return
        form = sort.form
        if form is None:
            written = LEVELS.index(level_of(sort.example)) >= self._least
            form = sort.form = form_of(sort.example) if written else ""
        if form and (self._share >= 1 or level_of(record) != "info" or self._chosen()):
            self._take(filled(form, record, self._moment(at)).encode())

    def _number(self, at: float) -> None:
        """Tell how many were turned away in the seconds before *at*."""
        for (code, status), times in self._crowd.over(at).items():
            self.say("error" if status >= 500 else "info", "turned away", status=status, code=code, times=times)

    def news(self, news: News) -> None:
        """A machine has changed its state; what is out of order is a warning."""
        level: Level = "warning" if news.new in _ALARMING or news.what == "ceiling" else "info"
        self.say(level, news.what, subject=news.subject, old=news.old, new=news.new, reason=news.reason)

    def say(self, level: Level, message: str, **fields: Any) -> None:
        """Something happened that is no call: *message* in a word or two, the particulars as *fields*."""
        if LEVELS.index(level) >= self._least:
            said = {name: _discreet(value) for name, value in fields.items() if value not in ("", None)}
            self._add({"ts": self._stamp(self._wall()), "level": level, "msg": _discreet(message), **said})

    def flush(self) -> None:
        """Hand over what has been collected; does not wait until it is written."""
        self._number(self._wall())
        if self.dropped > self._confessed and not self._stuck and self._waiting() < self._limit // 2:
            lines, self._confessed = self.dropped - self._confessed, self.dropped
            self.say("warning", "log lines dropped", lines=lines)
        if not self._lines:
            return
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, args=(self._queue,), name="log", daemon=True)
            self._writer.start()
        self._handed += self._size
        self._queue.put(b"".join(self._lines))
        self._lines.clear()
        self._size = 0

    def close(self, seconds: float = 1.0) -> None:
        """Write what there is, for at most *seconds*; what comes later starts anew."""
        self._number(-1.0)
        self.flush()
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join(seconds)
            self._writer, self._queue = None, SimpleQueue()

    def _add(self, line: dict[str, Any]) -> None:
        self._take(self._dress(line))

    def _take(self, text: bytes) -> None:
        if self._waiting() + len(text) > self._limit:
            self._refused += 1
            return
        self._lines.append(text)
        self._size += len(text)
        if self._size >= BATCH:
            self.flush()

    def _chosen(self) -> bool:
        """Whether it is this one's turn to be written."""
        self._owed += self._share
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def _waiting(self) -> int:
        return self._size + self._handed - self._taken

    def _moment(self, at: float) -> tuple[str, int]:
        """The time of day up to the second, in writing, and the milliseconds."""
        second = int(at)
        if second != self._second:
            self._second = second
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        return self._prefix, int((at - second) * 1000)

    def _stamp(self, at: float) -> str:
        prefix, milliseconds = self._moment(at)
        return f"{prefix}{milliseconds:03d}Z"

    def _write(self, queue: SimpleQueue[bytes | None]) -> None:
        while (batch := queue.get()) is not None:
            rest = memoryview(batch)
            try:
                while rest:
                    rest = rest[self._put(rest) :]
                self._stuck = False
            except OSError:  # nobody there any more, or no room on the disk: the next batch may fare better
                self._lost += bytes(rest).count(b"\n")
                self._stuck = True
            self._taken += len(batch)

    def _put(self, rest: memoryview) -> int:
        try:
            return os.write(self._fd, rest)
        except BlockingIOError:  # whoever shares this terminal or pipe has made it non-blocking
            ready = select.poll()
            ready.register(self._fd, select.POLLOUT)
            ready.poll(1000)
            return 0


def _discreet(value: Any) -> Any:
    """*value*, its text without what looks like a key."""
    if isinstance(value, str):
        return tidy(_SECRETS.sub(lambda match: f"{match[1] or ''}***", value), 2000)
    if isinstance(value, dict):
        return {_discreet(str(name)): _discreet(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_discreet(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else _discreet(str(value))


def _json(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _words(line: dict[str, Any]) -> bytes:
    """The same for a person: time of day, level, what happened, and the rest as name=value."""
    rest = {name: value for name, value in line.items() if name not in {"ts", "level", "msg"}}
    said = line["msg"]
    if said == "request":
        said = f"{rest.pop('method', '-')} {_word(rest.pop('path', '-'))} {rest.pop('status')} {rest.pop('ms'):.0f}ms"
    if "attempts" in rest:
        rest["attempts"] = ",".join(f"{a['upstream']}:{a['label']}:{a['ms']:.0f}ms" for a in rest["attempts"])
    particulars = "".join(f" {name}={_word(value)}" for name, value in rest.items())
    return f"{line['ts'][11:-1]} {line['level']:<7} {said}{particulars}\n".encode()


def _word(value: Any) -> str:
    text = str(value)
    return orjson.dumps(text).decode() if " " in text or '"' in text else text
