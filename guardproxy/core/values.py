"""The values that pass through the proxy.

Here belongs what one call *is* at each point of its way: `Call`, `Target`, `Answer`, `Relayed`, `Fault`,
`Refusal`, `Verdict`, `News`, `Reply`, `Record`.  Nothing here does anything, and nothing is changed once it
is made, the `Record` aside, which is the one book kept of a call.  They are slotted rather than frozen:
freezing costs four times as much to make, and they are made on every call.  The record's own fields are in `record`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.asked import Schema, Wrong
from guardproxy.core.record import Attempt, Record
from guardproxy.core.terms import OURS, Terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guardproxy.core.dialect import Dialect, Scan
    from guardproxy.core.line import Line

__all__ = [
    "Answer", "Attempt", "Call", "Fault", "Headers", "Kind", "News", "Outcome", "Record", "Refusal",
    "Relayed", "Reply", "Schema", "Target", "Verdict", "Wrong",
]  # fmt: skip

Headers = list[tuple[bytes, bytes]]
"""Header fields in the order and spelling in which they came."""


class Kind(Enum):
    """What the end of an attempt says about the upstream; decided once, read by every guard."""

    __hash__ = object.__hash__  # there is one of each; Enum's own is a call of a function in Python

    SUCCESS = "success"
    FAILURE = "failure"
    """It broke: counts against the circuit."""
    SLOW = "slow"
    """It answered, but too late to be well."""
    THROTTLED = "throttled"
    """It asked for less (429, 503 with Retry-After): no sign of being broken."""
    WARMING = "warming"
    """Its model is still being loaded: no sign of being broken, for a while."""
    IGNORED = "ignored"
    """It says nothing about the upstream: the caller left, or the mistake was the caller's (4xx)."""


@final
@dataclass(slots=True)
class Call:
    """What one caller asked for."""

    id: str
    """The caller's ``X-Request-Id``, else one of ours: visible ASCII, at most 128 characters."""
    method: str
    path: str
    """The path as it goes upstream: normalised, without the prefix that named an upstream."""
    query: str
    """What followed the question mark, without it."""
    headers: Headers
    """The caller's header fields, hop-by-hop and own ones taken out."""
    body: bytes
    doc: dict[str, Any]
    """*body*, decoded; empty where the call is only relayed."""
    dialect: Dialect | None
    """The language of an inference path, or None: such a call is relayed once, unguarded."""
    model: str = ""
    """What the caller wrote in ``model``."""
    mode: str | None = None
    """The mode asked for, or the mode of the upstream asked for; None where it has none."""
    mode_in: str = ""
    """Where the mode was named, and so where it is rewritten: ``header``, ``field``, ``model`` or nowhere."""
    upstream: str = ""
    """The upstream asked for, or that of the mode asked for."""
    targets: Sequence[Target] = ()
    """Where it may go, the most wanted first; guards that admit it may change that."""
    spare: Sequence[Target] = ()
    """Where it may go only once its answers have not been accepted elsewhere."""
    stream: bool = False
    """Whether the caller wants events."""
    schema: Schema | None = None
    """What the answer has to satisfy, where a guard marked it so."""
    whole: bool = False
    """Whether nothing may leave before the whole answer has been judged."""
    asked_again: int = 0
    """How often answers to it were not accepted, and it was asked once more with what was wrong with them."""
    plain: bool = False
    """Whether upstreams are asked for the answer in one piece, though the caller wants events."""
    keep: bool = False
    """Whether a guard wants to see the whole answer afterwards, though it may be relayed meanwhile."""
    fixed: bool = False
    """Whether the caller forbade a downshift (``X-Guardproxy-Downshift: never``)."""
    skip: frozenset[str] = frozenset()
    """Guards the caller does without (``X-Guardproxy-Skip``)."""
    wants_schema: str = ""
    """The name in ``X-Guardproxy-Schema``, else that of the route."""
    cache_control: str = ""
    """The caller's ``Cache-Control``, in lower case."""
    key: bytes = b""
    """Under what an answer to it may be kept; empty: not at all."""
    flight: bytes = b""
    """What the same call of somebody else has here too, so that they share one answer; empty: shared with nobody."""
    deadline: float = float("inf")
    """When the call must be over (the loop's clock)."""
    terms: Terms = OURS
    """What the caller has said of his own patience."""
    named_mode: bool = False
    """Whether the caller named the mode, rather than the upstream that serves it."""


@final
@dataclass(slots=True, frozen=True)
class Target:
    """Where one attempt goes, and what is changed on the way."""

    upstream: str
    model: str = ""
    """The model id served there; empty: what the caller wrote stays."""
    mode: str = ""
    """The mode that this is, or nothing."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Set where the caller has left them open."""
    caps: Mapping[str, Any] = field(default_factory=dict)
    """Upper bounds that hold against the caller."""
    moved_from: str = ""
    """The mode asked for, where this is another."""
    reason: str = ""
    """Why it was moved."""


@final
@dataclass(slots=True)
class Answer:
    """A whole answer of an upstream, in memory: any status, any body."""

    at: float
    """When its last byte came (seconds, the loop's clock)."""
    status: int
    headers: Headers
    body: bytes
    kind: Kind = Kind.SUCCESS
    first: float = 0.0
    """When its first word came; of an answer in one piece the first byte."""
    doc: Any = None
    """The completion it brought, decoded; from a stream, put together. None until it has been read."""
    keepable: bool = False
    """Whether it is whole and ended of itself: neither cut at a length nor by a filter."""
    retry_after: float | None = None
    """Seconds the upstream asked to be left alone."""
    scan: Scan | None = None
    """Who has read it along, where it came as a stream."""
    streamed: bool = False
    """Whether it came as a stream, so that `first` is when its first word came."""
    hopeless: str = ""
    """Why it was ended early: nothing that could still have come would have made it acceptable."""

    @property
    def label(self) -> str:
        """How logs and metrics call this outcome."""
        return str(self.status)


@final
@dataclass(slots=True)
class Relayed:
    """An answer of which every byte has gone to the caller already."""

    at: float
    status: int
    headers: Headers
    kind: Kind
    first: float = 0.0
    complete: bool = False
    """Whether it ended as an answer must: finish reasons, no error event, framing whole."""
    keepable: bool = False
    """Whether it is complete and ended of itself: neither cut at a length nor by a filter."""
    body: bytes | None = None
    """All of it, where the call asked to `keep` it and it stayed within bounds."""
    usage: dict[str, Any] | None = None
    events: int = 0
    """How many events went by."""

    @property
    def label(self) -> str:
        """How logs and metrics call this outcome."""
        return str(self.status)


@final
@dataclass(slots=True)
class Fault:
    """An attempt that brought no usable answer."""

    at: float
    code: str
    """The ``code`` of the error envelope, e.g. ``upstream_timeout``."""
    message: str
    status: int = 502
    kind: Kind = Kind.FAILURE
    retry_after: float | None = None
    """Seconds the upstream asked to be left alone."""
    sent: bool = True
    """Whether any of the request may have reached the upstream."""
    committed: bool = False
    """Whether the caller has seen bytes of this attempt: then nothing can be tried again."""
    first: float = 0.0
    again: bool = True
    """Whether the same upstream may be asked once more; one that broke HTTP or redirected would only do it again."""

    @property
    def label(self) -> str:
        """How logs and metrics call this outcome."""
        return self.code


Outcome = Answer | Relayed | Fault
"""How an attempt ended. Where the caller has gone there is none, and guards are told None."""


@final
@dataclass(slots=True, frozen=True)
class Refusal:
    """A guard will not have this target asked."""

    reason: str
    """``circuit_open``, ``unhealthy``, …"""
    until: float = 0.0
    """When asking may help again (the loop's clock)."""
    soft: bool = False
    """Whether the target may still be asked where nobody else is left."""
    brief: bool = False
    """Whether waiting until then is better than an error, where nobody else is left."""
    line: Line | None = None
    """Where to wait for a place, where nobody else is left."""


@final
@dataclass(slots=True)
class Verdict:
    """What a guard thinks of a whole answer."""

    label: str
    """``valid``, ``repaired``, ``unchecked`` …: shown in ``X-Guardproxy-Json``."""
    note: str | None = None
    """Where the answer will not do: all that is wrong with it."""
    answer: Answer | None = None
    """The answer as repaired."""
    wrong: Wrong | None = None
    """What of it the model is told; None: the note."""
    cut: bool = False
    """Whether it will not do because it was cut at its length: more room may help where another try cannot."""
    flawed: bool = False
    """Whether the answer, as it came, was not valid, though it may pass now."""


@final
@dataclass(slots=True, frozen=True)
class News:
    """A machine has changed its state: for the log, the feed, the webhook and the guards that listen."""

    at: float
    what: str
    """``circuit``, ``ceiling``, ``health`` …"""
    subject: str
    """Whose: an upstream's or a mode's name."""
    old: str
    new: str
    reason: str = ""
    until: float = 0.0


@final
@dataclass(slots=True)
class Reply:
    """How a call ends for its caller."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=list)
    source: str = "own"
    """``upstream``, ``cache``, ``stale``, ``fallback``, ``fault`` or ``own``."""
    sent: bool = False
    """Whether it has left already."""
    events: bool = False
    """Whether *body* is a stream of server-sent events."""
    code: str = ""
    """The code of the error envelope in it, or nothing."""
    keepable: bool = False
    """Whether it is a whole answer that ended of itself, and so may be shown again."""
    cut: bool = False
    """Whether it is whole, but ended at its length or by a filter: shown again only where that is wanted."""
    block: bytes = b""
    """The status line and header fields as one ready block, where they were prepared before."""
