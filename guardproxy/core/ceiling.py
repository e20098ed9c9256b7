"""The highest mode to be had at present.

Here belongs the state machine, pure: time is an argument.  Which calls it moves is for the modes (`guards.modes`).

| event | ceiling |
|---|---|
| there is a reason to keep calls away from the ceiling mode's own upstream | falls a step, and further while there is one for the next too |
| the last reason has gone | rises to the next mode above that is well, `recovery_seconds` later and as long after the last change |
| a reason within `dwell_seconds` after a rise | falls when they are over: until then single calls are moved |
| held by hand | stands there until it is let go; what happens meanwhile is heeded then |
| another proxy's stands lower, by what that proxy has seen | is lower too for as long; its own place is what it would be |

A mode above that is ill itself is passed over on the way up: it does not keep those above it from being used.
Where it stands by what others say alone, it does not say so in its turn: *seen* is where it has been put by reasons of
this proxy's own.
"""  # noqa: E501 -- the table

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CAUSES = ("circuit", "throttle", "load")
"""Who may have a reason, the gravest first."""
_NEVER = float("-inf")


class Tuning(Protocol):
    """What a ceiling is set by; see `guards.modes.Settings`."""

    @property
    def recovery_seconds(self) -> float:
        """Seconds after the last reason has gone before it rises."""

    @property
    def dwell_seconds(self) -> float:
        """Seconds between two changes at the least, further falls aside."""


@final
class Ceiling:
    """An index into the modes, 0 being the highest; *upstreams* are theirs. Pure: the caller brings the time."""

    __slots__ = (
        "_changed", "_fell", "_hearsay", "_ill", "_well", "_why",
        "heard", "held", "own", "seen", "settings", "upstreams",
    )  # fmt: skip

    def __init__(self, upstreams: Sequence[str], settings: Tuning) -> None:
        self.upstreams = list(upstreams)
        self.settings = settings
        self.own = 0
        """Where it stands of itself."""
        self.held: int | None = None
        """Where it is held by hand."""
        self.heard: tuple[int, str] | None = None
        """Where another proxy's stands, and why."""
        self.seen = 0
        """Where reasons of this proxy's own have put it."""
        self._hearsay: set[str] = set()
        """Upstreams whose circuits are open by what others say alone."""
        self._ill: dict[str, dict[str, str]] = {}
        """By upstream and cause: the reason in a word."""
        self._well: dict[str, float] = {}
        self._changed = _NEVER
        self._fell = False
        self._why = ""

    def __repr__(self) -> str:
        return f"<Ceiling {self.at}{' held' if self.held is not None else ''}, ill: {', '.join(self._ill) or 'nobody'}>"

    @property
    def at(self) -> int:
        """Where it stands."""
        if self.held is not None:
            return self.held
        return self.own if self.heard is None else max(self.own, self.heard[0])

    @property
    def reason(self) -> str:
        """Why it does not stand at the top."""
        if self.held is not None:
            return "manual"
        if self.heard is not None and self.heard[0] > self.own:
            return self.heard[1]
        return self.why_own

    @property
    def why_own(self) -> str:
        """Why it would not stand at the top of itself."""
        return self._why if self.own else ""

    def why(self, upstream: str) -> str:
        """The gravest reason to keep calls away from *upstream*; empty: none."""
        reasons = self._ill.get(upstream)
        return next((reasons[cause] for cause in CAUSES if cause in reasons), "") if reasons else ""

    def falls_ill(self, upstream: str, cause: str, reason: str, *, heard: bool = False) -> None:
        """*cause* has a reason to keep calls away from *upstream*, *heard* from another proxy or its own."""
        self._ill.setdefault(upstream, {})[cause] = reason
        if heard:
            self._hearsay.add(upstream)
            return
        self._hearsay.discard(upstream)
        for index in range(self.own):
            if self.upstreams[index] == upstream:
                self.seen = max(self.seen, index + 1)

    def gets_well(self, upstream: str, cause: str, now: float) -> None:
        """*cause* has none any more."""
        reasons = self._ill.get(upstream)
        if reasons is not None and reasons.pop(cause, None) is not None and not reasons:
            del self._ill[upstream]
            self._hearsay.discard(upstream)
            self._well[upstream] = now

    def review(self, is_well: Callable[[str], bool], now: float) -> None:
        """Let go of the reasons against upstreams that are well, whoever had them."""
        for upstream in [name for name in self._ill if is_well(name)]:
            for cause in CAUSES:
                self.gets_well(upstream, cause, now)

    def move(self, now: float) -> int:
        """Take a step if one is due: how far down, or up where it is negative; 0: none."""
        reason = self.why(self.upstreams[self.own])
        if reason and self.own + 1 < len(self.upstreams):
            if now - self._changed < self.settings.dwell_seconds and not self._fell:
                return 0
            self._why = reason
            return self._step(1, now)
        up = self._up()
        return self._step(up - self.own, now) if up is not None and now >= self._rises(up) else 0

    def rises_in(self, now: float) -> float | None:
        """Seconds to the next rise, where one is under way."""
        up = self._up()
        return None if up is None else max(0.0, self._rises(up) - now)

    def _up(self) -> int | None:
        """The next mode above that is well."""
        return next((up for up in range(self.own - 1, -1, -1) if self.upstreams[up] not in self._ill), None)

    def _rises(self, up: int) -> float:
        since = max(self._changed, self._well.get(self.upstreams[up], _NEVER))
        return since + max(self.settings.recovery_seconds, self.settings.dwell_seconds)

    def is_hearsay(self, upstream: str) -> bool:
        """Whether there is no reason to keep calls away from *upstream* but what others say."""
        return upstream in self._hearsay and len(self._ill[upstream]) == 1

    def _step(self, step: int, now: float) -> int:
        if step > 0 and not self.is_hearsay(self.upstreams[self.own]):
            self.seen = self.own + step
        self.own += step
        self.seen = min(self.seen, self.own)
        self._changed, self._fell = now, step > 0
        return step
