"""The steps a story may want performed.

A story yields one of these and is sent what came of it.  Here belong the wishes; who fulfils them is `net`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from guardproxy.core.flights import Flight
    from guardproxy.core.guard import Watcher
    from guardproxy.core.line import Ticket
    from guardproxy.core.values import Call, Fault, Headers, Outcome, Reply, Target, Verdict


@final
@dataclass(slots=True)
class Ask:
    """Put *call* to *target*; the outcome is an `Answer`, a `Fault` or, where *relay* allows it, `Relayed`."""

    call: Call
    target: Target
    headers: Headers
    """The fields to send."""
    body: bytes
    relay: bool
    """Whether events may go on to the caller as they come."""
    streams: bool = False
    """Whether the upstream is asked for events."""
    watch: Watcher | None = None
    """Reads the events along while the answer is held back; a reason ends it early."""
    patience: float = 0.0
    """Seconds after which `late` is to be told, once, that nothing has been said yet; 0: never."""
    late: Callable[[float], None] | None = None
    """Takes the time; the attempt goes on."""
    within: float = float("inf")
    """When it is given up where nothing has come yet, since it is an experiment that can be made elsewhere."""
    hedge: Hedge | None = None
    """Who may be asked beside, where it is slow to begin; then the outcome is `Raced`."""


@final
@dataclass(slots=True)
class Hedge:
    """Another may be asked too, after *after* seconds without a first word."""

    after: float
    second: Callable[[float], Ask | None]
    """Takes the time; what to ask, or None: nobody."""


@final
@dataclass(slots=True)
class Raced:
    """What came of two asks at once."""

    outcome: Outcome
    """Of the one that was heard."""
    second: bool
    """Whether that was the second."""
    lost: Outcome | None
    """What the other had come to by itself; None: it was hung up on."""


@final
@dataclass(slots=True)
class Pause:
    """Let *seconds* pass; the outcome is what time it is then."""

    seconds: float


@final
@dataclass(slots=True)
class Stand:
    """Wait until *ticket* is called, for *seconds* at the most; the outcome is what time it is then."""

    ticket: Ticket
    seconds: float


@final
@dataclass(slots=True)
class Join:
    """Wait for what comes of *flight*, which asks what *call* asks; the outcome is `Landed`."""

    flight: Flight
    call: Call


@final
@dataclass(slots=True)
class Landed:
    """What has come of a flight for one who had joined it."""

    at: float
    """When it was over for him (the loop's clock)."""
    came: Reply | Fault | None
    """The reply to the caller who asked; a fault where his own time was over first; None where it broke off."""


@final
@dataclass(slots=True)
class Weigh:
    """Have a question answered that is too much work for the loop; the outcome is what time it is then."""

    question: bytes
    then: Callable[[bytes | None], Verdict | None]
    """What the answer means; None as an answer: it took too much time or memory, or nobody could be asked."""
    until: float
    """When nobody waits for it any more (the loop's clock)."""
    answer: bytes | None = None
    """What came of it."""


@final
@dataclass(slots=True)
class Ready:
    """Before *call* is admitted have something made ready that is too much work for the loop, and go on then.

    No step of a story: there is none yet.
    """

    call: Call
    question: bytes
    is_needed: Callable[[], bool]
    """Whether the answer is still unknown when it is this question's turn: others may have asked the same."""
    then: Callable[[bytes | None], None]
    """Takes the answer; None: it took too much time or memory, or nobody could be asked."""
    until: float
    """When nobody waits for it any more (the loop's clock)."""
    left: Sequence[Any] = ()
    """Who is to be asked then."""


@final
@dataclass(slots=True)
class Fetch:
    """Look for the answer to *call* in the store that several proxies share; the outcome is `Fetched`."""

    call: Call


@final
@dataclass(slots=True)
class Fetched:
    """What came of looking."""

    at: float
    """The loop's clock."""
    found: bytes | None
    """What was kept there, as it was written down; None where nothing was, or the store is away."""


Step = Ask | Pause | Stand | Join | Weigh | Fetch
