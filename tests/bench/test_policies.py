"""The policies that LRU is compared with keep to their bytes, and do what their papers say."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bench import policies

KINDS: list[Callable[[int], policies.Policy]] = [policies.Ours, policies.S3Fifo, policies.WTinyLfu]


def held(policy):
    """The bytes that a policy holds."""
    if isinstance(policy, policies.Ours):
        return policy._lru.bytes
    if isinstance(policy, policies.S3Fifo):
        return sum(policy._small.values()) + sum(policy._main.values())
    return sum(sum(queue.values()) for queue in (policy._window, policy._trial, policy._safe))


@pytest.mark.parametrize("kind", KINDS)
def test_bounds(kind):
    """However heavy what comes is."""
    dice = random.Random(1)
    policy = kind(10_000)
    for _ in range(3000):
        key = int(dice.expovariate(0.02))
        policy.ask(key, 100 + key * 7 % 900)
        assert held(policy) <= 10_000


@pytest.mark.parametrize("kind", [policies.S3Fifo, policies.WTinyLfu])
def test_a_scan_does_not_empty_it(kind):
    """What is asked for again and again survives many things that are asked for once; LRU forgets it."""

    def survives(policy):
        for _ in range(20):
            for key in range(20):
                policy.ask(key, 100)
        for key in range(1000, 1500):
            policy.ask(key, 100)
        return sum(policy.ask(key, 100) for key in range(20))

    assert survives(kind(5_000)) >= 10
    assert survives(policies.Ours(5_000)) == 0


def test_traces(monkeypatch):
    """The first is asked for most, and which one is the first changes."""
    monkeypatch.setattr(policies, "OBJECTS", 100)
    monkeypatch.setattr(policies, "REQUESTS", 2000)
    asked = policies.trace(1.1, random.Random(1))
    assert len(asked) == 2000
    assert set(asked) <= set(range(100))
    ratios = [policies.ratio(kind(3000), asked, [100] * 100) for kind in KINDS]
    assert all(0.3 < ratio < 1 for ratio in ratios), ratios
