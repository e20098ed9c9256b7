"""The book that is kept of one call.

Here belongs what is written down while a call lives: each attempt, what was judged, where the answer came from.
Who reads it (metrics, log, the answer's own header fields) is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from guardproxy.core.flights import Flight
    from guardproxy.core.values import Call, Kind, News, Reply, Target


@final
@dataclass(slots=True)
class Attempt:
    """One line of the record: an upstream was asked, and this came of it."""

    upstream: str
    model: str
    label: str
    kind: Kind
    started: float
    seconds: float
    first: float | None = None
    """Seconds to the first event that says something."""
    events: int = 0
    """How many events there were, where it was relayed as it came."""


@final
@dataclass(slots=True)
class Record:
    """Everything worth knowing about one call once it is over; told to the sinks exactly once."""

    started: float
    call: Call | None = None
    reply: Reply | None = None
    target: Target | None = None
    """The last one asked, or the one whose kept answer was served; None where nobody was."""
    attempts: list[Attempt] = field(default_factory=list)
    news: list[News] = field(default_factory=list)
    parse_failures: list[str] = field(default_factory=list)
    """The upstream of each answer that was not valid."""
    asks_again: int = 0
    aborted: int = 0
    """Answers that were ended early since nothing could become of them."""
    wasted: list[tuple[str, int]] = field(default_factory=list)
    """Of each answer that was not accepted the upstream, and the tokens that it had taken."""
    retries: int = 0
    cache: str = ""
    """The value of ``Cache-Status`` behind the cache's name; empty where no cache was asked."""
    cache_event: str = ""
    """``hit``, ``miss`` or nothing (bypassed)."""
    age: int = 0
    background: bool = False
    """Whether no caller waits for it: it was made to have something fresh to show."""
    wanted: bool = False
    """Whether a store that several proxies share may be asked for the answer."""
    kept: tuple[Any, float, float] | None = None
    """What has been kept of the answer, since when and until when (the loop's clock): for that store."""
    refresh: Call | None = None
    """The call to be made in the background, since what was answered to it is old."""
    ident: str = ""
    """Its id, where it has not become a call."""
    saved: int = 0
    """Tokens that the kept answer which was served had taken."""
    json: str = ""
    fallback: str = ""
    """The schema whose fallback was answered."""
    usage: dict[str, Any] | None = None
    beside: int = 0
    """Attempts under way beside the one that is."""
    asking: bool = False
    """Whether an attempt is under way that is not in `attempts` yet."""
    flight: Flight | None = None
    """The flight that it leads, while others may join."""
    committed: bool = False
    """Whether status and header fields have left before the answer was known."""
    gone: bool = False
    """Whether the caller left before the end."""
    ended: float = 0.0
    trail: list[tuple[float, str, str]] | None = None
    """What was decided on the way, attempts aside: when, what, and about whom or why; None where nothing was."""
    span: tuple[int, int, int, int] | None = None
    """Where spans are made: the ids of its trace, of its span and of its caller's span, and the trace's flags."""
    trace: str = ""
    """The id of the trace that the caller's ``traceparent`` names; read when the call is over."""

    def note(self, at: float, what: str, said: str) -> None:
        """Something has been decided that no other field tells."""
        if self.trail is None:
            self.trail = []
        self.trail.append((at, what, said))
