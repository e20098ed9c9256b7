"""What the proxies that share a store say to each other, and which word counts.

Here belongs the register of words, pure: time is an argument, and it is the *store's* clock, which is one for all.
How a word travels is `net.post`'s; what is said, and what is done about a word, `app.neighbours`'.

| the word on a subject | a later word | the same, stood by later | an earlier word | its time is over |
|---|---|---|---|---|
| none | is taken | – | – | – |
| another's | takes its place | lasts longer | is not heard | none; what was done on it is undone |
| our own | takes its place | lasts longer | is not heard, and told so | none |

The later word counts, whoever said it: by the time at which it was said, then by the name of who said it.  A word is
good for as long as somebody stands by it: who said it, or, where it is an operator's order, whoever obeys it.  It says
when that was last, so that an old one that somebody puts back into the store is no word any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Iterator

LEARNT = "learnt from another proxy"
"""Why a machine is in a state in which it has not put itself."""
LEASE = 30.0
"""Seconds that a finding is good for after its proxy has last stood by it."""
ORDER_LEASE = 600.0
"""Seconds that an order is good for: a person's wish outlives a store that is away for a while."""
CIRCUIT, CEILING, HELD_CIRCUIT, HELD_CEILING = "circuit ", "ceiling", "held circuit ", "held ceiling"
"""Subjects; those that end in a blank are followed by an upstream's name."""
_HELD = "held "
_TICK = 1e-6
"""Seconds by which a later word is later at the least."""


@final
@dataclass(slots=True, frozen=True)
class Word:
    """One thing that a proxy says."""

    subject: str
    says: str
    """The state or the mode; empty: nothing any more."""
    reason: str
    at: float
    """When it was said (the store's clock)."""
    by: str
    """Who said it."""
    seen: float
    """When somebody last stood by it (the store's clock)."""

    @property
    def order(self) -> bool:
        """Whether an operator wants it so."""
        return self.subject.startswith(_HELD)

    @property
    def ends(self) -> float:
        """Until when it is good."""
        return self.seen + (ORDER_LEASE if self.order else LEASE)

    def later(self, other: Word) -> bool:
        """Whether it counts rather than *other*."""
        return (self.at, self.by) > (other.at, other.by)


@final
class Hearsay:
    """The words that this proxy, called *own*, knows: the last on each subject."""

    __slots__ = ("_words", "own")

    def __init__(self, own: str) -> None:
        self.own = own
        self._words: dict[str, Word] = {}

    def __repr__(self) -> str:
        return f"<Hearsay of {len(self._words)} subjects>"

    def __iter__(self) -> Iterator[Word]:
        """The words that are known, in no order."""
        return iter(list(self._words.values()))

    def on(self, subject: str) -> Word | None:
        """The word on *subject*, if there is one."""
        return self._words.get(subject)

    def mine(self, subject: str) -> bool:
        """Whether the word on *subject* is our own."""
        word = self._words.get(subject)
        return word is not None and word.by == self.own

    def say(self, subject: str, says: str, reason: str, now: float) -> Word:
        """Say something: it is later than all that is known here, whatever the clock says."""
        known = self._words.get(subject)
        at = round(now if known is None else max(now, known.at + _TICK), 6)
        word = self._words[subject] = Word(subject, says, reason, at, self.own, at)
        return word

    def stand(self, word: Word, now: float) -> Word:
        """Stand by *word*, which is the one on its subject."""
        again = self._words[word.subject] = replace(word, seen=max(now, word.seen))
        return again

    def hear(self, word: Word, now: float) -> bool:
        """Hear what another says: whether that is news."""
        if word.ends <= now or word.seen > now + LEASE:  # that is over, or from a time that has not come
            return False
        known = self._words.get(word.subject)
        if known is not None and not word.later(known):
            if not known.later(word) and word.seen > known.seen:
                self._words[word.subject] = word
            return False
        self._words[word.subject] = word
        return True

    def over(self, now: float) -> list[Word]:
        """The words whose time is over, or that are from a time that has not come: they are forgotten."""
        ended = [word for word in self._words.values() if word.ends <= now or word.seen > now + ORDER_LEASE]
        for word in ended:
            del self._words[word.subject]
        return ended
