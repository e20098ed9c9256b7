"""Know which models are well, by asking them.

Here belongs the verdict on each model and what follows from it for calls.  Who asks the models is
`net.prober`; when they may be asked at all is the breaker's to say.

| check | verdict before: none | healthy | unhealthy |
|---|---|---|---|
| answered | healthy | healthy | healthy after `rise` in a row |
| failed | unhealthy | unhealthy after `fall` in a row | unhealthy |
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.guard import NOBODY, Guard, Spec
from guardproxy.core.units import Seconds
from guardproxy.core.values import News, Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardproxy.core.values import Target


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How models are proven (``health``)."""

    interval: Seconds = Seconds(30)
    """Seconds between two test inferences of a model."""
    timeout: Seconds = Seconds(10)
    """Seconds after which a test inference has failed."""
    prompt: str = "Generate a brief perfume description."
    """What a test inference asks."""
    params: dict[str, Any] = field(default_factory=lambda: {"chat_template_kwargs": {"enable_thinking": False}})
    """Further fields of a test inference; the default keeps models from thinking aloud first, where they would."""
    fresh_for: Seconds = Seconds(30)
    """Seconds for which a call that was answered proves its model well, so that it is not asked besides; 0: never.

    A check that somebody asks for (``/health/llm``, ``verify``) is always a test inference.
    """
    tokens_per_day: int = 200_000
    """Tokens that the test inferences of one model may take in 24 hours; beyond that its last verdict stands."""
    rise: int = 1
    """Checks in a row that make an unhealthy model healthy; never delays the first verdict."""
    fall: int = 2
    """Failed checks in a row that make a healthy model unhealthy; never delays the first verdict."""


DAY = 86_400.0
PROVEN = "a call was answered"
"""The detail of a check that was not made: it would have told nothing new."""
UNASKED = "circuit_breaker_open"
"""The reason of a check that was not made: an open circuit lets nothing through."""


@final
@dataclass(slots=True, frozen=True)
class Check:
    """What came of one test inference."""

    at: float
    ok: bool
    seconds: float
    reason: str = ""
    """``timeout``, ``invalid_response``, `UNASKED` or the failure in words."""
    detail: str = ""
    tokens: int = 0
    """What it took."""


@final
class Pulse:
    """The health of one model. Pure: the caller brings the checks."""

    __slots__ = ("_day", "_spent", "_streak", "healthy", "last", "settings")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._streak = 0
        self._day = float("-inf")
        self._spent = 0
        self.healthy: bool | None = None
        """The verdict; None before the first check."""
        self.last: Check | None = None

    def affords(self, now: float) -> bool:
        """Whether there are tokens left for a test inference today; a day begins with its first check."""
        return now - self._day >= DAY or self._spent < self.settings.tokens_per_day

    def proven(self, now: float) -> Check:
        """What a call that was just answered is worth as a check; how long a check took is as before."""
        if self.last is None:
            return Check(now, ok=True, seconds=0.0, detail=PROVEN)
        return replace(self.last, at=now, ok=True, reason="", detail=PROVEN, tokens=0)

    def take(self, check: Check) -> bool:
        """Take note of a check; whether the verdict changed."""
        self.last = check
        if check.at - self._day >= DAY:
            self._day, self._spent = check.at, 0
        self._spent += check.tokens
        if self.healthy is None:
            self.healthy = check.ok
            return True
        if check.ok is self.healthy:
            self._streak = 0
            return False
        self._streak += 1
        if self._streak < (self.settings.rise if check.ok else self.settings.fall):
            return False
        self._streak = 0
        self.healthy = check.ok
        return True

    def __repr__(self) -> str:
        verdict = {None: "unknown", True: "healthy", False: "unhealthy"}[self.healthy]
        return f"<Pulse {verdict}, {self._streak} against it>"


@final
class Health(Guard):
    """Keeps calls away from models that are known to be ill, as long as another one can be asked."""

    name = "health"
    refuses = "unhealthy"

    def __init__(self, settings: Settings, upstreams: Iterable[str]) -> None:
        self.settings = settings
        self.pulses = {name: Pulse(settings) for name in upstreams}

    def permit(self, target: Target, now: float) -> Refusal | None:
        """Advice, not a ban: better an ill model than none."""
        return None if self.available(target.upstream, now) else _ILL

    def take(self, upstream: str, check: Check) -> News | None:
        """A check has been made."""
        pulse = self.pulses[upstream]
        old = {None: "unknown", True: "healthy", False: "unhealthy"}[pulse.healthy]
        if not pulse.take(check):
            return None
        return News(check.at, "health", upstream, old, "healthy" if pulse.healthy else "unhealthy", check.reason)

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """The verdicts on models that are still there."""
        if isinstance(old, Health):
            for name, pulse in old.pulses.items():
                if name in self.pulses and name not in moved:
                    self.pulses[name] = pulse
                    pulse.settings = self.settings

    def available(self, upstream: str, now: float) -> bool:
        """Whether *upstream* is not known to be ill; one that was not asked since its circuit is open is not known."""
        del now
        pulse = self.pulses[upstream]
        return pulse.healthy is not False or (pulse.last is not None and pulse.last.reason == UNASKED)

    def state(self, now: float) -> dict[str, Any]:
        """Each model's verdict and last check."""
        return {
            name: {
                "status": {None: "unknown", True: "healthy", False: "unhealthy"}[pulse.healthy],
                "checked": None if pulse.last is None else round(now - pulse.last.at, 3),
                "latency_ms": None if pulse.last is None else int(pulse.last.seconds * 1000),
                "reason": None if pulse.last is None else pulse.last.reason or None,
            }
            for name, pulse in self.pulses.items()
        }


_ILL = Refusal("unhealthy", soft=True)


SPEC = Spec("health", "health", 40, lambda settings, parts: Health(settings, parts.models))
"""What the registry loads."""
