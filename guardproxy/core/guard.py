"""The rule of the house that every guard keeps: when it may speak, and with what.

Here belongs the base of all guards.  A moment that a guard does not override costs nothing: `flow.Rules`
collects the overridden ones once, at start.  Every method is synchronous, does no I/O, reads no clock and
throws no dice of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from guardproxy.core.line import Line
    from guardproxy.core.steps import Ready, Weigh
    from guardproxy.core.values import (
        Answer,
        Call,
        News,
        Outcome,
        Record,
        Refusal,
        Reply,
        Schema,
        Target,
        Verdict,
    )


NOBODY: frozenset[str] = frozenset()


class Watcher(Protocol):
    """Reads an answer along."""

    at: int
    """Which choice the last reason was about."""

    def __call__(self, event: Any) -> str | None:
        """Take each event as it comes, decoded; None: go on, else why nothing can become of the answer."""

    def heard(self, index: int, text: str) -> str | None:
        """The same of an event that only adds *text* to a choice."""


class Guard:
    """One rule of the house; it may speak at these moments of a call."""

    name: str = ""
    refuses: str = ""
    """Why this guard says that an upstream is not available, in a word."""
    needed: bool = False
    """Whether no call can do without it, whatever ``X-Guardproxy-Skip`` or its route says."""

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply | Ready:
        """Before anything leaves: answer, rewrite, or let pass; or have something made ready, and be asked again."""
        del record, now
        return call

    def permit(self, target: Target, now: float) -> Any | Refusal:
        """Before each attempt: a token for `observe` (None: of no use but in trouble), or a `Refusal`."""
        del target, now
        return None

    def observe(self, target: Target, token: Any, outcome: Outcome | None, now: float) -> Iterable[News] | None:
        """After each permitted attempt, exactly once: take note; None as *outcome* means nobody waited for it.

        Where *token* is None a success is not told.
        """

    def late(self, target: Target, token: Any, now: float) -> tuple[Any, Iterable[News]]:
        """A permitted attempt has brought nothing in time and is still under way: its token from now on, and news."""
        del target, now
        return token, ()

    def hear(self, news: News, now: float) -> News | None:
        """Another guard has news; return what follows from it."""

    def watch(self, call: Call, target: Target) -> Watcher | None:
        """Before each attempt whose answer is held back: somebody to read along, or None.

        For a reader the upstream is asked to stream, also where the caller does not want events.
        """

    def judge(self, call: Call, answer: Answer) -> Verdict | Weigh | None:
        """After each whole, successful answer: None where this guard has nothing to say about it.

        A verdict that is too much work between two other calls is put as a question (`Weigh`).
        """

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """Nobody could answer: a reply that is better than an error, or None."""

    def recall(self, call: Call, found: bytes, record: Record, now: float) -> Reply | None:
        """A store that several proxies share had something for this call: the reply that it is, or None."""

    def settle(self, call: Call, reply: Reply, record: Record, now: float) -> None:
        """Once, when the call is over."""

    def tick(self, now: float) -> Iterable[News]:
        """Time has passed, about a second of it: what changes without any call."""
        del now
        return ()

    def available(self, upstream: str, now: float) -> bool:
        """Whether this guard would let *upstream* be asked; changes nothing."""
        del upstream, now
        return True

    def full(self, upstream: str, *, batch: bool) -> Line | None:
        """The line before *upstream*, where there is neither a place nor room to wait for one; changes nothing."""
        del upstream, batch
        return None

    def why(self, upstream: str, now: float) -> str:
        """Why *upstream* is not available, in a word."""
        del upstream, now
        return self.refuses

    def due(self, upstream: str, now: float) -> bool:
        """Whether asking *upstream* would prove something that this guard waits for; changes nothing."""
        del upstream, now
        return False

    def trial(self, token: Any) -> float:
        """Seconds that an attempt may take which is our experiment, where others can be asked; inf: it is none."""
        del token
        return inf

    def hedge(self, upstream: str) -> float | None:
        """Seconds without a first word after which another may be asked beside *upstream*; None: never."""
        del upstream
        return None

    def hedged(self, upstream: str) -> bool:
        """Whether *upstream* may be asked second now; it is then taken for done."""
        del upstream
        return False

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """Take over what still holds from the guard of the same kind that was built of the configuration before.

        Of *moved* upstreams nothing holds that was learnt: they are other servers now, or serve another model.
        """

    def state(self, now: float) -> dict[str, Any]:
        """The guard's condition and settings, for people and scripts; read, never told."""
        del now
        return {}


@final
@dataclass(slots=True)
class Parts:
    """What guards are built from, and how they ask each other's opinion without knowing each other."""

    config: Any
    """The whole configuration: settings that are not a guard's own, such as the modes."""
    models: Mapping[str, str]
    """Each upstream's name, and the model id it serves."""
    epoch: float
    """What to add to the loop's clock to get the time of day."""
    schemas: Mapping[str, Schema]
    """The declared schemas, compiled."""
    guards: list[Guard] = field(default_factory=list)
    """All of them, once they are built, in their order."""
    dice: Callable[[], float] = lambda: 0.5
    """A number from 0 up to 1."""

    opinions: Opinions = field(default_factory=lambda: Opinions())  # noqa: PLW0108 -- defined below
    """What those think of the upstreams that have an opinion."""

    def add(self, guard: Guard) -> None:
        """Take *guard* in; its opinion is asked where it has one."""
        self.guards.append(guard)
        self.opinions.add(guard)


@final
class Opinions:
    """What the guards of one configuration think of an upstream.

    Only those are in it that have an opinion, so that whoever asks is not: a circle would keep a configuration that
    has been replaced, and all the answers in its cache, until Python looks for circles, which is seldom.
    """

    __slots__ = ("_available", "_due", "_guards")

    def __init__(self) -> None:
        self._guards: list[Guard] = []
        self._available: list[Callable[[str, float], bool]] = []
        self._due: list[Callable[[str, float], bool]] = []

    def add(self, guard: Guard) -> None:
        """Take in what *guard* thinks, if it thinks anything."""
        if type(guard).available is not Guard.available:
            self._guards.append(guard)
            self._available.append(guard.available)
        if type(guard).due is not Guard.due:
            self._due.append(guard.due)

    def available(self, upstream: str, now: float) -> bool:
        """Whether every guard would let *upstream* be asked."""
        for has in self._available:  # noqa: SIM110 -- on every call, where a generator costs as much as the answers
            if not has(upstream, now):
                return False
        return True

    def why(self, upstream: str, now: float) -> str:
        """The reason of the last guard that would not let *upstream* be asked: the one that can also refuse it."""
        return next((g.why(upstream, now) for g in reversed(self._guards) if not g.available(upstream, now)), "")

    def due(self, upstream: str, now: float) -> bool:
        """Whether any guard waits for a probe of *upstream*."""
        return any(due(upstream, now) for due in self._due)


@final
@dataclass(slots=True, frozen=True)
class Spec:
    """What the file of a guard exports as ``SPEC``."""

    name: str
    """What callers and routes call it."""
    key: str
    """The section of the configuration that holds its settings."""
    order: int
    """Guards speak in this order at every moment; to `rescue` a call the last one speaks first."""
    build: Callable[[Any, Parts], Guard]
    """Makes the guard of its settings."""
