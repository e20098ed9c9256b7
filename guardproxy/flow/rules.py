"""The guards of one configuration, sorted once by the moments at which they speak.

Here belongs the dispatch of a moment to the guards that have something to say at it, and nothing of what they
say.  A moment that a guard does not override costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, final

from guardproxy.core.flights import Flights
from guardproxy.core.guard import Guard
from guardproxy.core.steps import Ready
from guardproxy.core.values import Call, Kind, Refusal
from guardproxy.flow.unread import Unread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from guardproxy.core.budget import Budget
    from guardproxy.core.guard import Watcher
    from guardproxy.core.line import Line, Ticket
    from guardproxy.core.steps import Ask, Weigh
    from guardproxy.core.values import Answer, News, Outcome, Record, Reply, Target, Verdict


_NOBODY: frozenset[str] = frozenset()
_SUCCESS = Kind.SUCCESS
_PASSED = object()
"""In the place of a token: this gate was not asked, or not heeded, and is told nothing of the outcome."""


@final
@dataclass(slots=True, frozen=True)
class Retry:
    """How calls are tried again."""

    attempts: int = 2
    """Attempts after the first, at other upstreams first."""
    base: float = 0.2
    """Seconds: the wait before the same upstream is tried again for the n-th time is random(0, base * 2^n)."""
    asks_again: int = 3
    """Re-asks after an answer that a guard did not accept."""
    again_base: float = 1.0
    """Seconds: the wait before re-ask n is ``again_base * 2^(n-1) + random(0, again_jitter)``."""
    again_jitter: float = 0.5
    longest: int = 8192
    """Tokens to which an answer that was cut may be lengthened."""
    escalate: bool = False
    """Whether another place is asked once when all re-asks are spent."""


class Aiming(Protocol):
    """Makes an `Ask` of a call and a target; *watch* reads the answer along."""

    def __call__(self, call: Call, target: Target, watch: Watcher | None = None) -> Ask:
        """The request as *target* gets it."""


@final
class Rules:
    """Who speaks when, and what the story needs besides."""

    __slots__ = (
        "_admits", "_ears", "_full", "_gates", "_heard", "_judges", "_late", "_observers", "_recalls", "_rescues",
        "_settles", "_ticks", "_trial", "_watches", "aim", "budgets", "dice", "epoch", "far", "flights", "guards",
        "hedge", "hedged", "lined", "models", "patience", "retry", "unread",
    )  # fmt: skip

    def __init__(
        self,
        guards: Sequence[Guard],
        *,
        aim: Aiming,
        dice: Callable[[], float],
        budgets: dict[str, Budget],
        models: Mapping[str, str] | None = None,
        retry: Retry | None = None,
        epoch: float = 0.0,
        patience: Mapping[str, float] | None = None,
    ) -> None:
        self.guards = tuple(guards)
        self.aim = aim
        self.dice = dice
        """A number from 0 up to 1."""
        self.budgets = budgets
        self.models = dict(models or {})
        """Each upstream's name, and the model id it serves."""
        self.retry = Retry() if retry is None else retry
        self.epoch = epoch
        """What to add to the loop's clock to get the time of day."""
        self.patience = dict(patience or {})
        """By upstream: seconds after which a stream without a first word is late; who is not here is never late."""
        self._heard: list[News] = []
        """What was said and spread while a call was under way."""
        self.unread = Unread()
        self.flights = Flights()
        """The calls on their way that others may join."""
        self._admits = tuple((None if g.needed else g.name, g.admit) for g in _speaking(guards, "admit"))
        gates = tuple(g for g in guards if _speaks(g, "permit") or _speaks(g, "observe"))
        self._gates = tuple((g.name, g.permit) for g in gates)
        self._observers = tuple(g.observe if _speaks(g, "observe") else _deaf for g in gates)
        self._full = tuple((g.name, g.full) for g in _speaking(guards, "full"))
        self.lined = bool(self._full)
        """Whether calls may have to wait in line anywhere."""
        self._late = tuple(g.late for g in gates)
        self._ears = tuple(g.hear for g in _speaking(guards, "hear"))
        self._watches = tuple((g.name, g.watch) for g in _speaking(guards, "watch"))
        self._judges = tuple((g.name, g.judge) for g in _speaking(guards, "judge"))
        self._rescues = tuple((g.name, g.rescue) for g in reversed(_speaking(guards, "rescue")))
        self._recalls = tuple((g.name, g.recall) for g in _speaking(guards, "recall"))
        self.far = False
        """Whether there is a store that several proxies share."""
        trials = [(place, g.trial) for place, g in enumerate(gates) if _speaks(g, "trial")]
        self._trial = trials[0] if trials else None
        hedgers = [g for g in guards if _speaks(g, "hedge")]
        self.hedge = hedgers[0].hedge if hedgers else None
        """How long to wait for a first word before another is asked too; None: for ever."""
        self.hedged = hedgers[0].hedged if hedgers else _never
        self._settles = tuple((g.name, g.settle) for g in _speaking(guards, "settle"))
        self._ticks = tuple(g.tick for g in _speaking(guards, "tick"))

    def admit(self, call: Call, record: Record, now: float, since: Ready | None = None) -> Call | Reply | Ready:
        """Answer from the house if any guard can; the story begins only if none could.

        *since*: what had to be made ready first, and now is.
        """
        for name, speak in self._admits if since is None else since.left:
            if call.skip and name in call.skip:
                continue
            admitted = speak(call, record, now)
            if type(admitted) is Call:
                call = admitted
                continue
            if type(admitted) is Ready:
                admitted.left = self._admits[self._admits.index((name, speak)) :]
            return admitted
        return call

    def permit(self, target: Target, now: float, skip: frozenset[str] = _NOBODY) -> list[Any] | Refusal:
        """A token of every gate, or the first refusal; tokens taken before a refusal are given back."""
        tokens: list[Any] = []
        for name, permit in self._gates:
            token = _PASSED if skip and name in skip else permit(target, now)
            if type(token) is Refusal:
                self._give_back(target, tokens, now)
                return token
            tokens.append(token)
        return tokens

    def insist(self, target: Target, now: float, skip: frozenset[str] = _NOBODY) -> list[Any] | Refusal:
        """Like `permit`, but deaf to refusals that are only advice."""
        tokens: list[Any] = []
        for name, permit in self._gates:
            token = _PASSED if skip and name in skip else permit(target, now)
            if type(token) is Refusal:
                if not token.soft:
                    self._give_back(target, tokens, now)
                    return token
                token = _PASSED
            tokens.append(token)
        return tokens

    def redeem(
        self, target: Target, ticket: Ticket, now: float, skip: frozenset[str] = _NOBODY
    ) -> tuple[Target, list[Any]] | None:
        """*target* and its tokens, that of *ticket* among them; None where it has none, or another gate refuses."""
        if ticket.token is None:
            return None
        tokens = self.insist(target, now, skip | {ticket.gate})
        if type(tokens) is Refusal:
            return None
        tokens[next(place for place, (name, _) in enumerate(self._gates) if name == ticket.gate)] = ticket.token
        ticket.token = None
        return target, tokens

    def forgo(self, target: Target, ticket: Ticket, now: float) -> None:
        """Give back what *ticket* got and nobody has redeemed."""
        if ticket.token is not None:
            token, ticket.token = ticket.token, None
            place = next(place for place, (name, _) in enumerate(self._gates) if name == ticket.gate)
            self._observers[place](target, token, None, now)

    def available(self, upstream: str, now: float) -> bool:
        """Whether every guard would let *upstream* be asked; changes nothing."""
        return all(guard.available(upstream, now) for guard in self.guards)

    def full(self, upstream: str, skip: frozenset[str], *, batch: bool) -> Line | None:
        """A line without room, before an *upstream* that can be asked through it alone; changes nothing."""
        for name, speak in self._full:
            if not (skip and name in skip) and (line := speak(upstream, batch=batch)) is not None:
                return line
        return None

    def observe(self, target: Target, tokens: list[Any], outcome: Outcome | None, now: float) -> list[News]:
        """Tell the gates that gave a token how it ended, and those that listen what changed by it.

        Who gave None for a token wants to hear of trouble only.
        """
        news: list[News] = []
        well = outcome is not None and outcome.kind is _SUCCESS
        for observe, token in zip(self._observers, tokens, strict=True):
            if (token is None and well) or token is _PASSED:
                continue
            if told := observe(target, token, outcome, now):
                news += told
        return self.spread(news, now) if news else news

    def trial(self, tokens: list[Any] | None) -> float:
        """How long the attempt that *tokens* permit may take as an experiment; for ever where it is none."""
        if self._trial is None or tokens is None or tokens[self._trial[0]] is _PASSED:
            return inf
        return self._trial[1](tokens[self._trial[0]])

    def late(self, target: Target, tokens: list[Any], now: float) -> None:
        """Tell the gates that gave a token that nothing has come yet; what follows is told by the next tick."""
        news: list[News] = []
        for place, late in enumerate(self._late):
            if tokens[place] is not _PASSED:
                tokens[place], told = late(target, tokens[place], now)
                news += told
        if news:
            self._heard += self.spread(news, now)

    def judge(self, call: Call, answer: Answer) -> Verdict | Weigh | None:
        """The first verdict that any guard has."""
        for name, speak in self._judges:
            if call.skip and name in call.skip:
                continue
            if (verdict := speak(call, answer)) is not None:
                return verdict
        return None

    def watch(self, call: Call, target: Target, now: float = 0.0) -> Watcher | None:
        """The first who wants to read along, where that can be."""
        if not (call.stream or self.unread.streams(target.upstream, now)):
            return None
        for name, speak in self._watches:
            if not (call.skip and name in call.skip) and (watcher := speak(call, target)) is not None:
                return watcher
        return None

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """The first reply that is better than an error."""
        for name, speak in self._rescues:
            if not (call.skip and name in call.skip) and (reply := speak(call, record, now)) is not None:
                return reply
        return None

    def recall(self, call: Call, found: bytes, record: Record, now: float) -> Reply | None:
        """The first reply that is made of what was *found* in the far store."""
        for name, speak in self._recalls:
            if not (call.skip and name in call.skip) and (reply := speak(call, found, record, now)) is not None:
                return reply
        return None

    def settle(self, call: Call, reply: Reply, record: Record, now: float) -> None:
        """The call is over."""
        for name, speak in self._settles:
            if not (call.skip and name in call.skip):
                speak(call, reply, record, now)

    def tick(self, now: float) -> list[News]:
        """Time has passed."""
        heard, self._heard = self._heard, []
        news = [one for speak in self._ticks for one in speak(now)]
        return heard + self.spread(news, now) if news else heard

    def spread(self, news: Iterable[News], now: float) -> list[News]:
        """All *news*, and what the guards that heard it have to add, each in the order it came."""
        told = list(news)
        for one in told:  # grows while it is read: news may follow from news
            told += [more for ear in self._ears if (more := ear(one, now)) is not None]
        return told

    def _give_back(self, target: Target, tokens: list[Any], now: float) -> None:
        for observe, token in zip(self._observers, tokens, strict=False):  # tokens end where the refusal came
            if token is not _PASSED:
                observe(target, token, None, now)


def _never(_upstream: str) -> bool:
    """Stands for who would hedge."""
    return False


def _deaf(_target: Target, _token: Any, _outcome: Outcome | None, _now: float) -> None:
    """Stands for a gate that does not ask how things ended."""


def _speaks(guard: Guard, moment: str) -> bool:
    return getattr(type(guard), moment) is not getattr(Guard, moment)


def _speaking(guards: Sequence[Guard], moment: str) -> list[Guard]:
    return [guard for guard in guards if _speaks(guard, moment)]
