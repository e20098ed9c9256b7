"""Move calls to a lower mode while the model of a higher one is not well.

Here belongs the *ceiling* (the highest mode there is to be had at present) and the choice of places for a call.
Whether an upstream is available is the breaker's and health's knowledge, asked for through a function.

| event | ceiling |
|---|---|
| the circuit of the ceiling mode's own upstream opens | falls a step, and further while the next one's is open too |
| that circuit closes | rises a step, `recovery_seconds` later and as long after the last change |
| the same within `dwell_seconds` after a rise | falls when they are over: until then the circuit alone moves calls |
| held by hand | stands there until it is let go; what happens meanwhile is heeded then |
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import Guard, Spec
from guardproxy.core.units import Seconds
from guardproxy.core.values import News, Reply, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from guardproxy.core.guard import Parts
    from guardproxy.core.values import Call, Record


@final
@dataclass(frozen=True, slots=True)
class Mode:
    """One mode: an upstream and how it is asked."""

    upstream: str
    """The upstream that serves this mode."""
    params: dict[str, Any] = field(default_factory=dict)
    """Request fields set where the caller has left them open, e.g. ``{temperature: 0.7}``."""
    caps: dict[str, float] = field(default_factory=dict)
    """Upper bounds on numeric request fields, also over what the caller wrote, e.g. ``{max_tokens: 512}``."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How calls are moved between modes (``downshift``)."""

    field: str = "mode"
    """The request body's field that names a mode."""
    forward: bool = True
    """Whether the mode is passed on, rewritten; ``false`` strips it, for servers that refuse unknown fields."""
    recovery_seconds: Seconds = Seconds(60)
    """Seconds after the reason has gone before the ceiling rises by a step."""
    dwell_seconds: Seconds = Seconds(30)
    """Seconds between two automatic changes of the ceiling at the least, further falls of an outage aside."""
    scope: Literal["global", "upstream"] = "global"
    """``global``: one ceiling for all calls; ``upstream``: only calls of the mode that is ill are moved."""


@final
class Ceiling:
    """The highest mode to be had: an index into the modes, 0 being the highest. Pure: the caller brings the time."""

    __slots__ = ("_changed", "_fell", "_ill", "_well", "_why", "held", "own", "settings", "upstreams")

    def __init__(self, upstreams: list[str], settings: Settings) -> None:
        self.upstreams = upstreams
        self.settings = settings
        self.own = 0
        """Where it stands of itself."""
        self.held: int | None = None
        """Where it is held by hand."""
        self._ill: dict[str, str] = {}
        self._well: dict[str, float] = {}
        self._changed = float("-inf")
        self._fell = False
        self._why = ""

    def __repr__(self) -> str:
        return f"<Ceiling {self.at}{' held' if self.held is not None else ''}, ill: {', '.join(self._ill) or 'nobody'}>"

    @property
    def at(self) -> int:
        """Where it stands."""
        return self.own if self.held is None else self.held

    @property
    def reason(self) -> str:
        """Why it does not stand at the top."""
        if self.held is not None:
            return "manual"
        return self._why if self.own else ""

    def falls_ill(self, upstream: str, reason: str) -> None:
        """There is a reason to keep calls away from *upstream*."""
        self._ill[upstream] = reason

    def gets_well(self, upstream: str, now: float) -> None:
        """The reason has gone."""
        if self._ill.pop(upstream, None) is not None:
            self._well[upstream] = now

    def move(self, now: float) -> int:
        """Take one step if one is due: 1 down, -1 up, 0 none."""
        settings = self.settings
        if self.upstreams[self.own] in self._ill:
            dwelt = now - self._changed >= settings.dwell_seconds
            if self.own + 1 >= len(self.upstreams) or not (dwelt or self._fell):
                return 0
            self._why = self._ill[self.upstreams[self.own]]
            self.own += 1
            self._changed, self._fell = now, True
            return 1
        if self.own == 0:
            return 0
        above = self.upstreams[self.own - 1]
        since = max(self._changed, self._well.get(above, float("-inf")))
        if above in self._ill or now - since < max(settings.recovery_seconds, settings.dwell_seconds):
            return 0
        self.own -= 1
        self._changed, self._fell = now, False
        return -1

    def rises_in(self, now: float) -> float | None:
        """Seconds to the next rise, where one is under way."""
        if self.own == 0 or self.upstreams[self.own - 1] in self._ill:
            return None
        since = max(self._changed, self._well.get(self.upstreams[self.own - 1], float("-inf")))
        return max(0.0, since + max(self.settings.recovery_seconds, self.settings.dwell_seconds) - now)


@final
class Modes(Guard):
    """Chooses where a call may go, and in which mode."""

    name = "modes"
    needed = True  # it is the one that says where calls go; to skip it is to forbid a downshift

    def __init__(
        self,
        settings: Settings,
        modes: Mapping[str, Mode],
        models: Mapping[str, str],
        *,
        automatic: bool = True,
        available: Callable[[str, float], bool],
        due: Callable[[str, float], bool],
        why: Callable[[str, float], str] = lambda _upstream, _now: "",
    ) -> None:
        self.settings = settings
        self.names = list(modes)
        self._modes = dict(modes)
        self._models = dict(models)
        self._automatic = automatic
        self._available = available
        self._due = due
        self._why = why
        self._index = {name: index for index, name in enumerate(self.names)}
        self._upstreams = [mode.upstream for mode in modes.values()]
        self.ceiling = Ceiling(self._upstreams, settings) if modes else None
        self._targets = {(asked, given): self._target(asked, given) for asked in self.names for given in self.names}
        self._plain = {name: (Target(name, model),) for name, model in self._models.items()}
        self._well = {asked: self._order(index) for index, asked in enumerate(self.names)}

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply:
        """Give the call the places it may go to, the one it should go to first."""
        del record
        ceiling, asked = self.ceiling, call.mode
        if call.dialect is None or asked is None or ceiling is None:
            call.targets = self._plain[call.upstream]
            return call
        index = self._index[asked]
        top = ceiling.at
        fixed = call.fixed or self.name in call.skip
        if fixed and ceiling.held is not None and index < top:
            message = f"mode {asked} is not to be had: the ceiling is held at {self.names[top]} by hand"
            body = call.dialect.error(503, "circuit_open", message)
            return Reply(503, body, list(_REFUSED), source="fault", code="circuit_open")
        if fixed or (not self._automatic and index >= top):
            call.targets = (self._targets[asked, asked],)
            return call
        if index >= top and self._available(call.upstream, now):
            call.targets = self._well[asked]
            return call
        call.targets = self._places(ceiling, asked, max(index, top), now)
        return call

    def hear(self, news: News, now: float) -> News | None:
        """The circuit of an upstream has changed; or the ceiling has, and may have further to go."""
        ceiling = self.ceiling
        if ceiling is None or not self._automatic:
            return None
        if news.what == "circuit":
            if news.new == "closed":
                ceiling.gets_well(news.subject, now)
            else:
                ceiling.falls_ill(news.subject, "slow" if news.reason == "slow" else "circuit_open")
        elif news.what != "ceiling":
            return None
        return self._moved(ceiling, now) if ceiling.held is None else None

    def tick(self, now: float) -> Iterable[News]:
        """A rise, or a fall that had to wait."""
        ceiling = self.ceiling
        if ceiling is None or ceiling.held is not None or not self._automatic:
            return ()
        news = self._moved(ceiling, now)
        return () if news is None else (news,)

    def inherit(self, old: Guard) -> None:
        """The ceiling, where the modes are the same."""
        if not isinstance(old, Modes) or old.ceiling is None or self.ceiling is None:
            return
        if old.names == self.names and old.ceiling.upstreams == self.ceiling.upstreams:
            self.ceiling = old.ceiling
            self.ceiling.settings = self.settings

    def hold(self, mode: str | None, now: float) -> News | None:
        """Hold the ceiling at *mode* by hand, or let go (None)."""
        ceiling = self.ceiling
        if ceiling is None:
            return None
        old = ceiling.at
        ceiling.held = None if mode is None else self._index[mode]
        if ceiling.at == old:
            return None
        return News(now, "ceiling", "ceiling", self.names[old], self.names[ceiling.at], "manual")

    def state(self, now: float) -> dict[str, Any]:
        """The ceiling and its reason."""
        ceiling = self.ceiling
        if ceiling is None:
            return {"ceiling": None, "modes": []}
        told: dict[str, Any] = {"ceiling": self.names[ceiling.at], "modes": self.names}
        told["reason"] = ceiling.reason or None
        told["held"] = ceiling.held is not None
        told["rises_in"] = None if (left := ceiling.rises_in(now)) is None else round(left, 3)
        return told

    def _order(self, index: int) -> list[Target]:
        """The places of a mode that is to be had: itself, those below it, those above it."""
        order = (*range(index, len(self.names)), *range(index - 1, -1, -1))
        return [self._targets[self.names[index], self.names[given]] for given in order]

    def _places(self, ceiling: Ceiling, asked: str, start: int, now: float) -> list[Target]:
        """The effective mode first: as a probe what was asked for, else the highest at or below the ceiling."""
        index = self._index[asked]
        order = [*range(start, len(self.names)), *range(start - 1, -1, -1)]
        order.sort(key=lambda given: not self._available(self._upstreams[given], now))  # stable
        if self._due(self._upstreams[index], now) and ceiling.held is None:
            order.remove(index)
            order.insert(0, index)
        reason = ceiling.reason if start > index else self._why(self._upstreams[index], now) or "circuit_open"
        places = [self._targets[asked, self.names[given]] for given in order]
        first = places[0]
        if first.moved_from:
            places[0] = replace(first, reason=reason)
        return places

    def _moved(self, ceiling: Ceiling, now: float) -> News | None:
        old, why = ceiling.own, ceiling.reason
        step = ceiling.move(now)
        if not step:
            return None
        reason = ceiling.reason if step > 0 else why
        return News(now, "ceiling", "ceiling", self.names[old], self.names[ceiling.own], reason)

    def _target(self, asked: str, given: str) -> Target:
        mode = self._modes[given]
        moved = asked if given != asked else ""
        return Target(mode.upstream, self._models[mode.upstream], given, mode.params, mode.caps, moved)


_REFUSED = (
    (b"Content-Type", b"application/json"),
    (b"Retry-After", b"30"),
    (b"x-should-retry", b"false"),
)


def _build(settings: Settings, parts: Parts) -> Modes:
    config = parts.config
    automatic = bool(config.circuit_breaker.enabled) and config.circuit_breaker.auto_downshift
    return Modes(
        settings,
        config.modes,
        parts.models,
        automatic=automatic,
        available=parts.available,
        due=parts.due,
        why=parts.why,
    )


SPEC = Spec("modes", "downshift", 10, _build)
"""What the registry loads."""
