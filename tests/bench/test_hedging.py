"""The gain of a second upstream: how it is summed up, and that the bench itself works."""

from __future__ import annotations

import random

from bench.hedging import LONG, MEDIAN, STUCK, Came, delay, measured, shown


def test_the_sums():
    """Percentiles of first tokens, calls besides, and tokens that nobody read."""
    off = Came(calls=100, firsts=[n / 100 for n in range(100)], reached=100, tokens=1200)
    on = Came(calls=100, failed=1, firsts=[0.1] * 99, reached=104, second=4, tokens=1200)
    assert (off.within(0.5), off.within(0.99), off.within(1.0)) == (0.5, 0.99, 0.99)
    rows = shown(off, on).splitlines()
    assert rows[2] == "| off | 500 ms | 950 ms | 990 ms | 990 ms | 0.0% | 0 | 0.0% | 0 |"
    assert rows[3] == "| on | 100 ms | 100 ms | 100 ms | 100 ms | 4.0% | 4 | 1.0% | 1 |"


def test_the_tail_is_long():
    """Most calls begin at once, few stand in a queue."""
    dice = random.Random(0)
    seen = [delay(dice) for _ in range(10_000)]
    assert 0.5 * STUCK < sum(one > LONG[0] for one in seen) / len(seen) < 2 * STUCK
    assert 0.8 * MEDIAN < sorted(seen)[5000] < 1.2 * MEDIAN


async def test_a_short_run(tmp_path, monkeypatch):
    """The program, two upstreams, and no call that fails or is not counted."""
    monkeypatch.setattr("bench.hedging.LEARNING", 30)
    came = await measured(40, hedge=True, folder=tmp_path)
    assert (came.calls, came.failed) == (40, 0)
    assert came.reached - came.calls == came.second
