"""What this proxy does with the store that it shares with others.

Here belongs the wiring: who hears of a purge, of the store's coming and going, and of words.  How the store is asked is
`net.far`'s, what words mean `neighbours`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from guardproxy.app.neighbours import Neighbours
from guardproxy.core.epochs import ALL

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.app.house import House
    from guardproxy.app.sinks import Sinks
    from guardproxy.net.far import Far


def connect(far: Far, house: Callable[[], House], sinks: Sinks, loop: asyncio.AbstractEventLoop) -> Neighbours | None:
    """Connect *far* with the *house* in force; the neighbours, where they talk to each other."""

    def purged(upstream: str | None, just: bool) -> None:
        now = house()
        if just:  # what is on its way was asked before
            now.rules.flights.close_all()
        if now.cache is not None:
            now.cache.purge(upstream, *((loop.time(),) if just else ()))

    def changed(well: bool, why: str) -> None:
        if well:
            sinks.log.say("info", "the shared store is there")
        else:
            sinks.log.say("warning", "the shared store is away: every proxy for itself", reason=why)

    far.marks.purged, far.changed = purged, changed
    if house().config.shared.cache:
        far.marks.fields = (ALL, *house().upstreams)
    if not house().config.shared.state:
        return None
    post = far.post
    neighbours = Neighbours(post.hearsay, house, send=far.say, tell=sinks.news, clock=loop.time, theirs=post.now)
    post.heard, post.beat, post.subjects = neighbours.heard, neighbours.beat, neighbours.subjects
    far.talks = True
    sinks.neighbours = neighbours.told
    return neighbours
