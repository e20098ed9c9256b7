"""What a fleet of sidecars does to a shared cache and to the models: a small simulation, in virtual time.

    python -m bench.fleet [PODS …]

The caches and circuits are the program's own (`core.lru`, `core.circuit`); network, models and callers are numbers:
callers ask with popularity like 1/rank, each pod the same number of times a second, and nothing takes any time.  Two
questions: how many calls does a model see with and without a shared tier, and how many failing calls does it take
until every pod of the fleet has noticed that a model is dead.
"""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import dataclass

from guardproxy.core.circuit import Circuit, Permit
from guardproxy.core.lru import Lru
from guardproxy.core.values import Kind
from guardproxy.guards.breaker import Settings

PODS = (1, 10, 100, 1000)
CALLS = 400_000
"""Calls that are simulated at least; in a larger fleet as many as it makes in twice the time that entries are fresh."""
RATE = 1.0
"""Calls a second of one pod."""
PROMPTS = 20_000
"""Different calls that there are."""
TTL, SIZE = 600.0, 1000
WEIGHT = 2_000
DOWN = 600.0
"""Seconds that a model is dead, in the second question."""


@dataclass(frozen=True)
class Warm:
    """How often callers were answered from where."""

    alone: float
    """Share of hits of private caches."""
    shared: float
    """Share of hits with a shared tier behind them."""
    lookups: float
    """Look-ups a second at the shared tier."""
    stores: float


def caches(pods: int) -> Warm:
    """Ask until the caches are as warm as they become, then count."""
    dice = random.Random(1)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, PROMPTS + 1)))
    private: list[Lru[None]] = [Lru(SIZE, 1 << 40, TTL) for _ in range(pods)]
    tier: Lru[None] = Lru(1 << 30, 1 << 60, TTL)
    step = 1 / (RATE * pods)
    now, near, far, lookups, stores, counted = 0.0, 0, 0, 0, 0, 0
    calls = max(CALLS, int(2 * TTL * RATE * pods))
    keys = dice.choices(range(PROMPTS), cum_weights=weights, k=calls)
    for number, key in enumerate(keys):
        now += step
        name = key.to_bytes(4, "big")
        cache = private[dice.randrange(pods)]
        after = number > calls // 2
        counted += after
        if cache.get(name, now) is not None:
            near += after
            continue
        lookups += after
        entry = tier.get(name, now)
        if entry is not None:
            far += after
            cache.put(name, None, WEIGHT, now, entry.expires)
            continue
        stores += after
        tier.put(name, None, WEIGHT, now)
        cache.put(name, None, WEIGHT, now)
    seconds = counted * step
    return Warm(_alone(pods, keys), (near + far) / counted, lookups / seconds, stores / seconds)


def _alone(pods: int, keys: list[int]) -> float:
    """Share of hits of the same calls where there is no tier."""
    dice = random.Random(2)
    private: list[Lru[None]] = [Lru(SIZE, 1 << 40, TTL) for _ in range(pods)]
    now, hits, counted = 0.0, 0, 0
    for number, key in enumerate(keys):
        now += 1 / (RATE * pods)
        cache, name = private[dice.randrange(pods)], key.to_bytes(4, "big")
        hit = cache.get(name, now) is not None
        if not hit:
            cache.put(name, None, WEIGHT, now)
        if number > len(keys) // 2:
            counted += 1
            hits += hit
    return hits / counted


@dataclass(frozen=True)
class Dead:
    """What an outage of `DOWN` seconds costs."""

    failing: int
    """Calls that reached the dead model before the last circuit had opened."""
    probes: int
    """Probes that the fleet sent it afterwards."""
    unguarded: int
    """Calls that it would have been sent without circuits."""
    noticed: float
    """Seconds until the last circuit had opened."""


def outage(pods: int) -> Dead:
    """Kill a model and watch every pod find out for itself."""
    dice = random.Random(3)
    circuits = [Circuit(Settings(), dice=dice.random) for _ in range(pods)]
    failing, probes, asked, noticed = 0, 0, 0, 0.0
    turns = sorted((dice.uniform(0, DOWN), pod) for pod in range(pods) for _ in range(int(DOWN * RATE)))
    for now, pod in turns:
        asked += 1
        permit = circuits[pod].permit(now)
        if isinstance(permit, Permit):
            failing, probes = (failing, probes + 1) if permit.expires else (failing + 1, probes)
            if circuits[pod].observe(permit, Kind.FAILURE, now) is not None and not permit.expires:
                noticed = now
    return Dead(failing, probes, asked, noticed)


def main(fleets: tuple[int, ...]) -> None:
    """Print both tables."""
    print(
        "| pods | calls/s | hits, private caches | hits, shared tier | calls/s to the models | Redis gets/s | sets/s |"
    )
    print("|---" * 7 + "|")
    for pods in fleets:
        warm, rate = caches(pods), pods * RATE
        models = f"{rate * (1 - warm.alone):.1f} → {rate * (1 - warm.shared):.1f}"
        shares = f"{warm.alone:.0%} | {warm.shared:.0%}"
        print(f"| {pods} | {rate:.0f} | {shares} | {models} | {warm.lookups:.1f} | {warm.stores:.1f} |")
    print("\n| pods | calls of ten minutes | sent to the dead model | of those, probes | all have noticed after |")
    print("|---" * 5 + "|")
    for pods in fleets:
        dead = outage(pods)
        print(f"| {pods} | {dead.unguarded} | {dead.failing + dead.probes} | {dead.probes} | {dead.noticed:.0f} s |")


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:])) or PODS)
