"""What other proxies say, and what they are told, where several share a store.

Here belongs the meaning of it: which guard hears of what, and which news are worth telling.  How it travels is
`net.far`'s.  What a neighbour says is never stronger than what this proxy has seen itself, and is not told on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from guardproxy.guards.breaker import LEARNT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from guardproxy.app.house import House
    from guardproxy.app.sinks import Sinks
    from guardproxy.core.values import News
    from guardproxy.net.far import Far


_OTHERS = frozenset((LEARNT, "by hand"))
"""Reasons that are not what this proxy has seen itself: an operator's order is for the proxy that he gave it to."""


@final
class Neighbours:
    """The proxies that share a store with this one; *house* is the one in force."""

    def __init__(self, far: Far, house: Callable[[], House], sinks: Sinks, loop: asyncio.AbstractEventLoop) -> None:
        self._far = far
        self._house = house
        self._sinks = sinks
        self._loop = loop
        far.purged, far.changed = self.purged, self.changed
        if house().config.shared.state:
            far.opened, far.watched = self.opened, tuple(house().upstreams)
            sinks.neighbours = self.told

    def purged(self, upstream: str | None) -> None:
        """Another proxy was told to forget what *upstream* has answered, or everything."""
        house = self._house()
        house.rules.flights.close_all()
        if house.cache is not None:
            house.cache.purge(upstream, self._loop.time())

    def changed(self, well: bool, why: str) -> None:
        """The shared store has come or gone."""
        if well:
            self._sinks.log.say("info", "the shared store is there")
        else:
            self._sinks.log.say("warning", "the shared store is away: every proxy for itself", reason=why)

    def opened(self, upstream: str) -> None:
        """Another proxy has opened its circuit; the ceiling falls as it would for our own."""
        house, now = self._house(), self._loop.time()
        if house.breaker is not None and upstream in house.breaker.circuits:
            self._sinks.news(house.rules.spread(house.breaker.learn(upstream, now), now))

    def told(self, news: Iterable[News]) -> None:
        """Circuits that this proxy has opened by what it has seen itself: the others may want to know."""
        for one in news:
            if one.what == "circuit" and one.new == "open" and one.reason not in _OTHERS:
                self._far.open(one.subject, one.until)
