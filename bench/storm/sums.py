"""What a storm came to.

Here belong the figures out of what callers were told and what reached the models; how they are shown is `page`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, final

from bench.storm.script import ILL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.storm.callers import Told
    from bench.storm.script import Script, Seen


@final
@dataclass(frozen=True, slots=True)
class Sums:
    """The figures of one system."""

    calls: int
    """Calls that callers began, their own retries not counted."""
    answered: float
    """Share answered while the model was dead or slow, of calls whose callers accept another model."""
    answered_strictly: float
    """The same, of those who do not."""
    multiplied: float
    """Attempts that reached any model, per call, from its death to its recovery."""
    wasted: int
    """Attempts that reached the model while it was dead."""
    tries: float
    """How often a caller asked for one call, then."""
    slowest: float
    """Seconds that one call in a hundred then took or more."""
    recovery: float | None
    """Seconds from the model's recovery until nine of ten strict calls in a second were answered by it."""
    proven: float
    """The same from the first attempt that reached the model after its recovery."""
    rush: int
    """Attempts that reached the model when it was asked first after its recovery, before any could be answered."""
    silence: float
    """Seconds between two answers to callers who accept another model, at the most, from its death on."""


def sums(script: Script, told: Sequence[Told], seen: Sequence[Seen]) -> Sums:
    """Sum up one storm."""
    storm = [one for one in told if script.died <= one.at - one.seconds < script.well]
    strict = [one for one in storm if one.strict]
    began = [one for one in told if script.died <= one.at - one.seconds]
    seconds = sorted(one.seconds for one in storm)
    recovery, first = _recovery(script, told), _first(script, seen)
    reached = _between(seen, script.died, script.over, None)
    return Sums(
        calls=len(told),
        answered=_share([one.ok for one in storm if not one.strict]),
        answered_strictly=_share([one.ok for one in strict]),
        multiplied=reached / max(1, len(began)),
        wasted=_between(seen, script.died, script.slowed, ILL),
        tries=sum(one.tries for one in storm) / max(1, len(storm)),
        slowest=seconds[int(len(seconds) * 0.99)] if seconds else 0.0,
        recovery=recovery,
        proven=max(0.0, (recovery or 0.0) - first),
        rush=_rush(script, seen),
        silence=_silence(script, told),
    )


def _share(truths: Sequence[bool]) -> float:
    return sum(truths) / max(1, len(truths))


def _between(seen: Sequence[Seen], start: float, end: float, name: str | None) -> int:
    """Attempts that reached *name* (None: anybody) between two moments."""
    within = [one for one in seen if start <= one.at <= end]
    if not within:
        return 0
    first, last = within[0].calls, within[-1].calls
    return sum(last[one] - first[one] for one in (last if name is None else [name]))


def _recovery(script: Script, told: Sequence[Told]) -> float | None:
    """The end of the first second after the recovery in which nine of ten strict calls got what they asked for."""
    after = sorted((one for one in told if one.strict and one.at >= script.well), key=lambda one: one.at)
    for first in after:
        window = [one for one in after if first.at <= one.at < first.at + 1.0]
        if first.ok and first.own and _share([one.ok and one.own for one in window]) >= 0.9:
            return first.at - script.well
    return None


def _first(script: Script, seen: Sequence[Seen]) -> float:
    """Seconds from the recovery until the first attempt reached the model."""
    for earlier, later in pairwise(seen):
        if later.at >= script.well and later.calls[ILL] > earlier.calls[ILL]:
            return max(0.0, later.at - script.well)
    return 0.0


def _rush(script: Script, seen: Sequence[Seen]) -> int:
    """The attempts of the two tenths of a second in which it was asked first: a well model takes longer to answer."""
    for place, (earlier, later) in enumerate(pairwise(seen)):
        if later.at >= script.well and later.calls[ILL] > earlier.calls[ILL]:
            last = seen[min(place + 2, len(seen) - 1)]
            return last.calls[ILL] - earlier.calls[ILL]
    return 0


def _silence(script: Script, told: Sequence[Told]) -> float:
    """The longest time without an answer, for those who accept another model."""
    answered = sorted(one.at for one in told if one.ok and not one.strict and script.died <= one.at < script.over)
    edges = [script.died, *answered, script.over]
    return max(later - earlier for earlier, later in pairwise(edges))
