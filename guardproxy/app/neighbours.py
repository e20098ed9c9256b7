"""What other proxies say, and what they are told, where several share a store.

Here belongs the meaning of words: what is worth saying, and what is done about what is heard.  How words travel is
`net.post`'s, which of two counts `core.hearsay`'s.

| | said | heard |
|---|---|---|
| circuit | opened or closed by attempts of our own | open: ours opens, unless our own attempts say that the model is well; closed: what we opened on another's word closes, what we opened ourselves may be proven at once |
| ceiling | where reasons of our own have put it | ours is not above it, unless our own attempts say that the model of our mode is well |
| a hold | what an operator has told us | obeyed, whatever has been seen; let go when he lets go, here or elsewhere |

What we have learnt is not told on, so that nothing is true for no better reason than that everybody says it.  A finding
is good for as long as its proxy stands by it, an order for as long as anybody obeys it; then what was done about it is
undone.  While the store is away nothing is heard: after a while each proxy is alone with what it has seen.
"""  # noqa: E501 -- the table

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, final

from guardproxy.core.hearsay import CEILING, CIRCUIT, HELD_CEILING, HELD_CIRCUIT, ORDER_LEASE
from guardproxy.core.provenance import HAND, OTHERS
from guardproxy.guards.breaker import State

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from guardproxy.app.house import House
    from guardproxy.core.hearsay import Hearsay, Word
    from guardproxy.core.values import News

_OPEN, _CLOSED = "open", "closed"
_SAID = frozenset((_OPEN, _CLOSED))


@final
class Neighbours:
    """The proxies that share a store with this one.

    *house* is the one in force; *send* has a word written, and told to all where it is new; *tell* takes news of our
    own machines; *clock* and *theirs* are what time it is here and in the store.
    """

    def __init__(
        self,
        hearsay: Hearsay,
        house: Callable[[], House],
        *,
        send: Callable[[Word, bool], object],
        tell: Callable[[list[News]], object],
        clock: Callable[[], float],
        theirs: Callable[[], float],
    ) -> None:
        self._hearsay = hearsay
        self._house = house
        self._send = send
        self._tell = tell
        self._clock = clock
        self._theirs = theirs

    def subjects(self) -> Iterator[str]:
        """What there may be words on."""
        yield CEILING
        yield HELD_CEILING
        breaker = self._house().breaker
        for upstream in () if breaker is None else breaker.circuits:
            yield CIRCUIT + upstream
            yield HELD_CIRCUIT + upstream

    # -- what we say

    def told(self, news: Iterable[News]) -> None:
        """Our own machines have changed: the others may want to know."""
        for one in news:
            if one.what == "circuit" and one.reason not in OTHERS and one.new in _SAID:
                subject = CIRCUIT + one.subject
                word = self._hearsay.on(subject)
                if word is None or word.says != one.new:  # else it has been said: a fleet need not say it in chorus
                    self._say(subject, one.new, one.reason)
        self._stand_by_ceiling()

    def ordered(self, upstream: str | None, what: str | None) -> None:
        """An operator holds the circuit of *upstream*, or the ceiling (None), or lets go (*what* being None)."""
        self._say(HELD_CEILING if upstream is None else HELD_CIRCUIT + upstream, what or "", HAND)

    # -- what we hear

    def heard(self, word: Word) -> None:
        """Another proxy says something new."""
        house, now = self._house(), self._clock()
        if news := list(self._done(word, house, now)):
            self._tell(house.rules.spread(news, now))

    def beat(self, lacks: Collection[str] | None) -> None:
        """Some time has passed: stand by what still holds, and undo what nobody stands by any more.

        *lacks* are the subjects on which the store knows less than we; None: it is away.
        """
        house, hearsay, theirs = self._house(), self._hearsay, self._theirs()
        for word in hearsay.over(theirs):
            if word.by != hearsay.own:
                self._undo(word, house)
        for word in hearsay:
            mine = word.by == hearsay.own
            if lacks is not None and word.subject in lacks and (mine or word.order):
                self._send(hearsay.stand(word, theirs) if word.order and word.says else word, True)
            elif word.order and word.says and (mine or lacks is not None) and theirs - word.seen >= ORDER_LEASE / 3:
                self._stand(word)  # whoever obeys it; once in a while, for there may be many
            if not mine:
                self.heard(word)
        if house.breaker is not None:
            for upstream in house.breaker.circuits:
                self._stand_by_circuit(upstream, house.breaker.stands(upstream))
        self._stand_by_ceiling()

    # -- within

    def _say(self, subject: str, says: str, reason: str) -> None:
        self._send(self._hearsay.say(subject, says, reason, self._theirs()), True)
        if subject == CEILING:
            self._follow_nobody()

    def _stand(self, word: Word) -> None:
        self._send(self._hearsay.stand(word, self._theirs()), False)

    def _stand_by_circuit(self, upstream: str, why: str) -> None:
        """What we have seen is said again where nobody says anything; whoever has said something later knows better."""
        if not why:
            return
        word = self._hearsay.on(CIRCUIT + upstream)
        if word is None:
            self._say(CIRCUIT + upstream, _OPEN, why)
        elif word.by == self._hearsay.own and word.says == _OPEN:
            self._stand(word)

    def _stand_by_ceiling(self) -> None:
        """Where our own reasons have put it is said, unless another says as much, or more."""
        modes, hearsay = self._house().modes, self._hearsay
        ceiling, word = modes.ceiling, hearsay.on(CEILING)
        if ceiling is None:
            return
        stands, mine = modes.names[ceiling.seen] if ceiling.seen else "", hearsay.mine(CEILING)
        if word is None or (mine and word.says != stands):
            if stands or mine:
                self._say(CEILING, stands, ceiling.why_own if stands else "")
        elif mine and stands:
            self._stand(word)
        elif stands and not _is_as_low(word.says, stands, modes.names):
            self._say(CEILING, stands, ceiling.why_own)

    def _done(self, word: Word, house: House, now: float) -> Iterator[News]:
        """Do what is to be done about *word*."""
        modes, breaker, says = house.modes, house.breaker, word.says
        if word.subject == CEILING:
            follow = says in modes.names and not self._knows_better(house, now)
            yield from _one(modes.follow(says if follow else None, word.reason, now))
        elif word.subject == HELD_CEILING:
            if not says or says in modes.names:
                yield from _one(modes.hold(says or None, now))
        elif breaker is None:
            return
        elif word.subject.startswith(HELD_CIRCUIT):
            upstream = word.subject.removeprefix(HELD_CIRCUIT)
            wanted = State(says) if says in _SAID else None
            if upstream in breaker.circuits and breaker.circuits[upstream].held is not wanted:
                yield from breaker.hold(upstream, wanted, now)
        elif (upstream := word.subject.removeprefix(CIRCUIT)) in breaker.circuits:
            if says == _OPEN:
                yield from breaker.learn(upstream, now)
            elif says == _CLOSED:
                yield from breaker.unlearn(upstream, now, well=True)

    def _follow_nobody(self) -> None:
        """The last word on the ceiling is our own."""
        house, now = self._house(), self._clock()
        if (news := house.modes.follow(None, "", now)) is not None:
            self._tell(house.rules.spread([news], now))

    def _undo(self, word: Word, house: House) -> None:
        """Nobody stands by *word* any more."""
        if word.subject.startswith(CIRCUIT):
            upstream = word.subject.removeprefix(CIRCUIT)
            if house.breaker is not None and upstream in house.breaker.circuits:
                house.breaker.unlearn(upstream, self._clock(), well=False)
        elif word.says:
            news = list(self._done(_nothing(word), house, self._clock()))
            self._tell(house.rules.spread(news, self._clock()))

    @staticmethod
    def _knows_better(house: House, now: float) -> bool:
        """Whether our own attempts say that the model of our ceiling's mode is well."""
        ceiling, breaker = house.modes.ceiling, house.breaker
        return ceiling is not None and breaker is not None and breaker.proven(ceiling.upstreams[ceiling.own], now)


def _one(news: News | None) -> Iterator[News]:
    if news is not None:
        yield news


def _nothing(word: Word) -> Word:
    """As if whoever said it had taken it back."""
    return replace(word, says="")


def _is_as_low(says: str, stands: str, names: Sequence[str]) -> bool:
    """Whether a ceiling that is *says* is no higher than *stands*; of a mode that we do not know nothing is said."""
    return bool(says) and (says not in names or names.index(says) >= names.index(stands))
