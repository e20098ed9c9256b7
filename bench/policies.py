"""Who leaves when the cache is full: hit ratios of three policies on the same trace, `python -m bench.policies`.

Here belong the policies that LRU is compared with, each weighed in bytes as ours is, and the traces.  S3-FIFO is that
of Yang et al. (SOSP 2023), W-TinyLFU that of Einziger et al. (ACM TOS 2017) as Caffeine has it: a window of 1 %, a
segmented main part, a sketch of four-bit counts that is halved now and then.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import OrderedDict
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, final

from guardproxy.core.lru import Lru

if TYPE_CHECKING:
    from collections.abc import Sequence

OBJECTS = 20_000
REQUESTS = 200_000
SHARES = (0.01, 0.05, 0.2)
"""Sizes of the cache, as parts of all bytes there are."""
EXPONENTS = (0.7, 0.9, 1.1)


class Policy(Protocol):
    """A cache that knows keys and weights alone."""

    def ask(self, key: int, weight: int) -> bool:
        """Whether it was there; it is now, if the policy says so."""


@final
class Ours:
    """The store that the cache guard uses."""

    def __init__(self, most: int) -> None:
        self._lru: Lru[None] = Lru(1 << 60, most, 1e9)

    def ask(self, key: int, weight: int) -> bool:
        """As the guard does: look, and keep what was missing."""
        name = key.to_bytes(8, "big")
        if self._lru.get(name, 0.0) is not None:
            return True
        self._lru.put(name, None, weight, 0.0)
        return False


@final
class S3Fifo:
    """A small queue of a tenth, a main one that asks who was used, and the ghosts of those who left the small one."""

    def __init__(self, most: int) -> None:
        self._most, self._small_most = most, most // 10
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._used: dict[int, int] = {}
        self._bytes = self._small_bytes = self._ghost_bytes = 0

    def ask(self, key: int, weight: int) -> bool:
        """One request."""
        if key in self._small or key in self._main:
            self._used[key] = min(self._used[key] + 1, 3)
            return True
        if weight > self._most:
            return False
        while self._bytes + weight > self._most:
            self._evict()
        self._used[key] = 0
        self._bytes += weight
        if key in self._ghosts:
            self._ghost_bytes -= self._ghosts.pop(key)
            self._main[key] = weight
        else:
            self._small[key] = weight
            self._small_bytes += weight
        return False

    def _evict(self) -> None:
        if self._small and (self._small_bytes > self._small_most or not self._main):
            key, weight = self._small.popitem(last=False)
            self._small_bytes -= weight
            if self._used[key] > 1:
                self._used[key] = 0
                self._main[key] = weight
                return
            self._ghosts[key] = weight
            self._ghost_bytes += weight
            while self._ghost_bytes > self._most:
                self._ghost_bytes -= self._ghosts.popitem(last=False)[1]
        else:
            key, weight = self._main.popitem(last=False)
            if self._used[key]:
                self._used[key] -= 1
                self._main[key] = weight
                return
        del self._used[key]
        self._bytes -= weight


@final
class WTinyLfu:
    """A window of a hundredth; who leaves it stays only if he is asked for more often than whom he would replace."""

    def __init__(self, most: int) -> None:
        self._window_most = max(most // 100, 1)
        self._main_most = most - self._window_most
        self._safe_most = self._main_most * 8 // 10
        self._window: OrderedDict[int, int] = OrderedDict()
        self._trial: OrderedDict[int, int] = OrderedDict()
        self._safe: OrderedDict[int, int] = OrderedDict()
        self._window_bytes = self._trial_bytes = self._safe_bytes = 0
        self._counts = [bytearray(1 << 16) for _ in range(4)]
        self._seeds = [random.Random(n).getrandbits(32) | 1 for n in range(4)]
        self._seen = 0

    def ask(self, key: int, weight: int) -> bool:
        """One request."""
        self._note(key)
        if key in self._window:
            self._window.move_to_end(key)
            return True
        if key in self._safe:
            self._safe.move_to_end(key)
            return True
        if key in self._trial:
            self._promote(key)
            return True
        self._window[key] = weight
        self._window_bytes += weight
        while self._window_bytes > self._window_most:
            candidate, size = self._window.popitem(last=False)
            self._window_bytes -= size
            self._admit(candidate, size)
        return False

    def _promote(self, key: int) -> None:
        weight = self._trial.pop(key)
        self._trial_bytes -= weight
        self._safe[key] = weight
        self._safe_bytes += weight
        while self._safe_bytes > self._safe_most:
            other, size = self._safe.popitem(last=False)
            self._safe_bytes -= size
            self._trial[other] = size
            self._trial_bytes += size

    def _admit(self, key: int, weight: int) -> None:
        if weight > self._main_most:
            return
        worth = self._often(key)
        while self._trial_bytes + self._safe_bytes + weight > self._main_most:
            queue = self._trial or self._safe
            victim = next(iter(queue))
            if self._often(victim) >= worth:
                return
            size = queue.pop(victim)
            if queue is self._trial:
                self._trial_bytes -= size
            else:
                self._safe_bytes -= size
        self._trial[key] = weight
        self._trial_bytes += weight

    def _note(self, key: int) -> None:
        for counts, seed in zip(self._counts, self._seeds, strict=True):
            place = _place(key, seed)
            counts[place] = min(counts[place] + 1, 15)
        self._seen += 1
        if self._seen >= 10 * max(len(self._trial) + len(self._safe), 500):
            self._seen = 0
            self._counts = [bytearray(count >> 1 for count in counts) for counts in self._counts]

    def _often(self, key: int) -> int:
        return min(counts[_place(key, seed)] for counts, seed in zip(self._counts, self._seeds, strict=True))


def _place(key: int, seed: int) -> int:
    return ((key + 1) * seed & 0xFFFFFFFF) >> 16


def trace(exponent: float, dice: random.Random) -> list[int]:
    """Requests by Zipf's law; every tenth of the way a tenth of the popular things becomes another tenth."""
    steps = list(accumulate((rank + 1) ** -exponent for rank in range(OBJECTS)))
    names = list(range(OBJECTS))
    asked = []
    for number in range(REQUESTS):
        if number % (REQUESTS // 10) == 0:
            for _ in range(OBJECTS // 10):
                one, other = dice.randrange(OBJECTS // 10), dice.randrange(OBJECTS)
                names[one], names[other] = names[other], names[one]
        asked.append(names[bisect_left(steps, dice.random() * steps[-1])])
    return asked


def ratio(policy: Policy, asked: Sequence[int], weights: Sequence[int]) -> float:
    """Hits among all requests, after a tenth of them."""
    warm = len(asked) // 10
    for key in asked[:warm]:
        policy.ask(key, weights[key])
    return sum(policy.ask(key, weights[key]) for key in asked[warm:]) / (len(asked) - warm)


def table() -> list[tuple[float, float, float, float, float]]:
    """Exponent, share, and the hit ratios of LRU, S3-FIFO and W-TinyLFU."""
    dice = random.Random(7)
    weights = [int(min(200_000, 700 + dice.lognormvariate(7.2, 1.0))) for _ in range(OBJECTS)]
    rows = []
    for exponent in EXPONENTS:
        asked = trace(exponent, dice)
        for share in SHARES:
            most = int(sum(weights) * share)
            lru, s3, tiny = (ratio(kind(most), asked, weights) for kind in (Ours, S3Fifo, WTinyLfu))
            rows.append((exponent, share, lru, s3, tiny))
    return rows


if __name__ == "__main__":
    print("| Zipf | cache / all bytes | LRU | S3-FIFO | W-TinyLFU |\n|---|---|---|---|---|")
    for exponent, share, lru, s3, tiny in table():
        print(f"| {exponent} | {share:.0%} | {lru:.1%} | {s3:.1%} | {tiny:.1%} |")
