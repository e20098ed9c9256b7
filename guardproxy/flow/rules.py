"""The guards of one configuration, sorted once by the moments at which they speak.

Here belongs the dispatch of a moment to the guards that have something to say at it, and nothing of what they
say.  A moment that a guard does not override costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.guard import Guard
from guardproxy.core.values import Call, Refusal, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from guardproxy.core.budget import Budget
    from guardproxy.core.steps import Ask
    from guardproxy.core.values import Answer, News, Outcome, Record, Target, Verdict


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


@final
class Rules:
    """Who speaks when, and what the story needs besides."""

    __slots__ = (
        "_admits", "_ears", "_gates", "_judges", "_rescues", "_settles", "_ticks",
        "aim", "budgets", "dice", "epoch", "guards", "models", "retry",
    )  # fmt: skip

    def __init__(  # noqa: PLR0913 -- the story's whole equipment
        self,
        guards: Sequence[Guard],
        *,
        aim: Callable[[Call, Target], Ask],
        dice: Callable[[], float],
        budgets: dict[str, Budget],
        models: Mapping[str, str] | None = None,
        retry: Retry | None = None,
        epoch: float = 0.0,
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
        self._admits = tuple((g.name, g.admit) for g in _speaking(guards, "admit"))
        self._gates = tuple(g for g in guards if _speaks(g, "permit") or _speaks(g, "observe"))
        self._ears = tuple(g.hear for g in _speaking(guards, "hear"))
        self._judges = tuple((g.name, g.judge) for g in _speaking(guards, "judge"))
        self._rescues = tuple((g.name, g.rescue) for g in _speaking(guards, "rescue"))
        self._settles = tuple((g.name, g.settle) for g in _speaking(guards, "settle"))
        self._ticks = tuple(g.tick for g in _speaking(guards, "tick"))

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply:
        """Answer from the house if any guard can; the story begins only if none could."""
        for name, speak in self._admits:
            if call.skip and name in call.skip:
                continue
            admitted = speak(call, record, now)
            if type(admitted) is Reply:
                return admitted
            call = admitted
        return call

    def permit(self, target: Target, now: float) -> list[Any] | Refusal:
        """A token of every gate, or the refusal of one; tokens taken before a refusal are given back."""
        tokens: list[Any] = []
        soft: Refusal | None = None
        for gate in self._gates:
            token = gate.permit(target, now)
            if type(token) is Refusal:
                if token.soft:
                    soft, token = token, None
                else:
                    self._give_back(target, tokens, now)
                    return token
            tokens.append(token)
        if soft is not None:
            self._give_back(target, tokens, now)
            return soft
        return tokens

    def insist(self, target: Target, now: float) -> list[Any] | Refusal:
        """Like `permit`, but deaf to refusals that are only advice."""
        tokens: list[Any] = []
        for gate in self._gates:
            token = gate.permit(target, now)
            if type(token) is Refusal:
                if not token.soft:
                    self._give_back(target, tokens, now)
                    return token
                token = None
            tokens.append(token)
        return tokens

    def observe(self, target: Target, tokens: list[Any], outcome: Outcome | None, now: float) -> list[News]:
        """Tell the gates how it ended, and those that listen what changed by it."""
        news: list[News] = []
        for gate, token in zip(self._gates, tokens, strict=True):
            if (one := gate.observe(target, token, outcome, now)) is not None:
                news.append(one)
        return self.spread(news, now) if news else news

    def judge(self, call: Call, answer: Answer) -> Verdict | None:
        """The first verdict that any guard has."""
        for name, speak in self._judges:
            if call.skip and name in call.skip:
                continue
            if (verdict := speak(call, answer)) is not None:
                return verdict
        return None

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """The first reply that is better than an error."""
        for name, speak in self._rescues:
            if not (call.skip and name in call.skip) and (reply := speak(call, record, now)) is not None:
                return reply
        return None

    def settle(self, call: Call, reply: Reply, record: Record, now: float) -> None:
        """The call is over."""
        for name, speak in self._settles:
            if not (call.skip and name in call.skip):
                speak(call, reply, record, now)

    def tick(self, now: float) -> list[News]:
        """Time has passed."""
        news = [one for speak in self._ticks for one in speak(now)]
        return self.spread(news, now) if news else news

    def spread(self, news: Iterable[News], now: float) -> list[News]:
        """All *news*, and what the guards that heard it have to add, each in the order it came."""
        told = list(news)
        for one in told:  # grows while it is read: news may follow from news
            for ear in self._ears:
                if (more := ear(one, now)) is not None:
                    told.append(more)
        return told

    def _give_back(self, target: Target, tokens: list[Any], now: float) -> None:
        for gate, token in zip(self._gates, tokens, strict=False):
            gate.observe(target, token, None, now)


def _speaks(guard: Guard, moment: str) -> bool:
    return getattr(type(guard), moment) is not getattr(Guard, moment)


def _speaking(guards: Sequence[Guard], moment: str) -> list[Guard]:
    return [guard for guard in guards if _speaks(guard, moment)]
