"""Move calls to a lower mode while the model of a higher one is not well.

Here belongs the choice of places for a call: which mode, which others after it, who of them could serve it at all.
The *ceiling* (the highest mode there is to be had at present) is `core.ceiling`'s.  Whether an upstream is available
is the breaker's and health's knowledge, asked for through a function; why it should be left alone is heard from them.

With ``scope: upstream`` each mode but the last has a ceiling of its own, of two steps: itself, and away from itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.ceiling import Ceiling
from guardproxy.core.guard import NOBODY, Guard, Spec
from guardproxy.core.hearsay import LEARNT
from guardproxy.core.units import Seconds
from guardproxy.core.values import News, Reply, Target
from guardproxy.openai.needs import fitting, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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
    canary: float = 0.0
    """Share of calls that go to their own mode already while the ceiling is on its way back to it, 0 <= x <= 1."""


@final
class Modes(Guard):
    """Chooses where a call may go, and in which mode."""

    name = "modes"
    needed = True  # it is the one that says where calls go; to skip it is to forbid a downshift

    def __init__(  # noqa: PLR0913 -- whoever chooses places has to ask around
        self,
        settings: Settings,
        modes: Mapping[str, Mode],
        models: Mapping[str, str],
        *,
        automatic: bool = True,
        available: Callable[[str, float], bool],
        due: Callable[[str, float], bool],
        why: Callable[[str, float], str] = lambda _upstream, _now: "",
        dice: Callable[[], float] = lambda: 0.5,
        capabilities: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.settings = settings
        self.names = list(modes)
        self._modes = dict(modes)
        self._models = dict(models)
        self._automatic = automatic
        self._available = available
        self._due = due
        self._why = why
        self._dice = dice
        self._able = {name: read(words) for name, words in (capabilities or {}).items() if words}
        """What upstreams can do that do not do everything."""
        self._index = {name: index for index, name in enumerate(self.names)}
        self._upstreams = [mode.upstream for mode in modes.values()]
        self.ceiling = Ceiling(self._upstreams, settings) if modes else None
        self._shelters: dict[str, Ceiling] = {}
        """With ``scope: upstream``: each mode's own ceiling."""
        if settings.scope == "upstream":
            self._shelters = {name: Ceiling((modes[name].upstream, ""), settings) for name in self.names[:-1]}
        self._heir = False
        """Whether reasons were taken over that nobody may have to take back: guards come and go, upstreams move."""
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
        top, reason = ceiling.at, ceiling.reason
        if self._shelters and (shelter := self._shelters.get(asked)) is not None and shelter.own and index >= top:
            top, reason = index + 1, shelter.reason
        fixed = call.fixed or self.name in call.skip
        if fixed and ceiling.held is not None and index < top:
            message = f"mode {asked} is not to be had: the ceiling is held at {self.names[top]} by hand"
            body = call.dialect.error(503, "circuit_open", message)
            return Reply(503, body, list(_REFUSED), source="fault", code="circuit_open")
        if fixed or (not self._automatic and index >= top):
            call.targets = (self._targets[asked, asked],)
            if not fixed:
                call.spare = fitting(call, self._well[asked][1:], self._able)
            return call
        if (index >= top or self._canary(ceiling, call.upstream)) and self._available(call.upstream, now):
            call.targets = self._well[asked]
        else:
            call.targets = self._places(ceiling, asked, max(index, top), reason, now)
        if self._able:
            call.targets = fitting(call, call.targets, self._able)
        return call

    def hear(self, news: News, now: float) -> News | None:
        """There is a reason to keep calls away from an upstream, or none any more; or the ceiling has moved."""
        ceiling = self.ceiling
        if ceiling is None or not self._automatic:
            return None
        if (well := _WELL.get(news.what)) is not None:
            for one in (ceiling, *self._shelters.values()):
                if news.new == well:
                    one.gets_well(news.subject, news.what, now)
                else:
                    heard = news.reason == LEARNT or (news.new == "half_open" and one.is_hearsay(news.subject))
                    one.falls_ill(news.subject, news.what, _reason(news), heard=heard)
        elif news.what != "ceiling":
            return None
        return self._next(now)

    def tick(self, now: float) -> Iterable[News]:
        """Rises, and falls that had to wait."""
        moved: list[News] = []
        if self._heir and self.ceiling is not None:
            self._heir = False
            for one in (self.ceiling, *self._shelters.values()):
                one.review(lambda name: self._available(name, now) and not self._due(name, now), now)
        while (news := self._next(now)) is not None:
            moved.append(news)
        return moved

    def inherit(self, old: Guard, moved: frozenset[str] = NOBODY) -> None:
        """The ceiling, where the modes are the same; whether its reasons still hold is looked at once all are built."""
        del moved
        if not isinstance(old, Modes) or old.ceiling is None or self.ceiling is None:
            return
        if not self._automatic:
            self.ceiling.held = old.ceiling.held if old.names == self.names else None
        elif old.names == self.names and old.ceiling.upstreams == self.ceiling.upstreams:
            self.ceiling = old.ceiling
            self._shelters = {name: old._shelters.get(name, new) for name, new in self._shelters.items()}  # noqa: SLF001 -- its own kind
            for ceiling in (self.ceiling, *self._shelters.values()):
                ceiling.settings = self.settings
            if self._shelters:
                self.ceiling.own = 0
            self._heir = True

    def hold(self, mode: str | None, now: float) -> News | None:
        """Hold the ceiling at *mode* by hand, or let go (None)."""
        if (ceiling := self.ceiling) is None:
            return None
        old, ceiling.held = ceiling.at, None if mode is None else self._index[mode]
        return self._put(ceiling, old, "manual", now)

    def follow(self, mode: str | None, reason: str, now: float) -> News | None:
        """Another proxy's ceiling stands at *mode*, for this *reason*, or at the top (None): ours is not above it."""
        ceiling = self.ceiling
        if ceiling is None or not self._automatic or self._shelters or (mode is not None and mode not in self._index):
            return None
        old, ceiling.heard = ceiling.at, None if mode is None else (self._index[mode], reason)
        return self._put(ceiling, old, LEARNT, now)

    def _put(self, ceiling: Ceiling, old: int, reason: str, now: float) -> News | None:
        if ceiling.at == old:
            return None
        return News(now, "ceiling", "ceiling", self.names[old], self.names[ceiling.at], reason)

    def state(self, now: float) -> dict[str, Any]:
        """The ceiling and its reason; with ``scope: upstream`` also who is away from his own mode."""
        if (ceiling := self.ceiling) is None:
            return {"ceiling": None, "modes": []}
        told: dict[str, Any] = {"ceiling": self.names[ceiling.at], "modes": self.names}
        told["reason"] = ceiling.reason or None
        told["held"] = ceiling.held is not None
        told["heard"] = None if ceiling.heard is None else self.names[ceiling.heard[0]]
        told["rises_in"] = None if (left := ceiling.rises_in(now)) is None else round(left, 3)
        if self._shelters:
            told["away"] = {name: one.reason for name, one in self._shelters.items() if one.own}
        return told

    def _canary(self, ceiling: Ceiling, upstream: str) -> bool:
        """Whether a call is one of the few that go to their mode before the ceiling has risen to it."""
        share = self.settings.canary
        return share > 0.0 and ceiling.held is None and not ceiling.why(upstream) and self._dice() < share

    def _order(self, index: int) -> list[Target]:
        """The places of a mode that is to be had: itself, those below it, those above it."""
        order = (*range(index, len(self.names)), *range(index - 1, -1, -1))
        return [self._targets[self.names[index], self.names[given]] for given in order]

    def _places(self, ceiling: Ceiling, asked: str, start: int, reason: str, now: float) -> list[Target]:
        """The effective mode first: as a probe what was asked for, else the highest at or below the ceiling."""
        index = self._index[asked]
        order = [*range(start, len(self.names)), *range(start - 1, -1, -1)]
        order.sort(key=lambda given: not self._available(self._upstreams[given], now))  # stable
        if self._due(self._upstreams[index], now) and ceiling.held is None:
            order.remove(index)
            order.insert(0, index)
        if start <= index:
            reason = self._why(self._upstreams[index], now) or "circuit_open"
        places = [self._targets[asked, self.names[given]] for given in order]
        first = places[0]
        if first.moved_from:
            places[0] = replace(first, reason=reason)
        return places

    def _next(self, now: float) -> News | None:
        """One step of one ceiling, if one is due."""
        ceiling = self.ceiling
        if ceiling is None or ceiling.held is not None or not self._automatic:
            return None
        if not self._shelters:
            return self._moved(ceiling, self.names, "ceiling", now)
        for index, (name, shelter) in enumerate(self._shelters.items()):
            if (news := self._moved(shelter, self.names[index : index + 2], name, now)) is not None:
                return news
        return None

    @staticmethod
    def _moved(ceiling: Ceiling, names: Sequence[str], subject: str, now: float) -> News | None:
        old, why = ceiling.at, ceiling.reason
        step = ceiling.move(now)
        if ceiling.at == old:  # also where it moves, but another proxy's stands lower in any case
            return None
        return News(now, "ceiling", subject, names[old], names[ceiling.at], ceiling.reason if step > 0 else why)

    def _target(self, asked: str, given: str) -> Target:
        mode = self._modes[given]
        moved = asked if given != asked else ""
        return Target(mode.upstream, self._models[mode.upstream], given, mode.params, mode.caps, moved)


_WELL = {"circuit": "closed", "throttle": "open", "load": "well"}
"""The news that are heard, and what they say of an upstream that is well."""


def _reason(news: News) -> str:
    """Why calls are to be kept away, in the words of ``X-Guardproxy-Mode``."""
    if news.what == "circuit":
        return "slow" if news.reason == "slow" else "circuit_open"
    return news.reason


_REFUSED = ((b"Content-Type", b"application/json"), (b"Retry-After", b"30"), (b"x-should-retry", b"false"))


def _build(settings: Settings, parts: Parts) -> Modes:
    config = parts.config
    automatic = bool(config.circuit_breaker.enabled) and config.circuit_breaker.auto_downshift
    return Modes(
        settings,
        config.modes,
        parts.models,
        automatic=automatic,
        available=parts.opinions.available,
        due=parts.opinions.due,
        why=parts.opinions.why,
        dice=parts.dice,
        capabilities={name: upstream.capabilities for name, upstream in config.upstreams.items()},
    )


SPEC = Spec("modes", "downshift", 10, _build)
"""What the registry loads."""
