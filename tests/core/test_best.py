"""The best of late."""

from __future__ import annotations

from math import inf

from guardproxy.core.best import Best


def test_the_least_counts():
    """Until there is one, nothing is too much."""
    best = Best()
    assert (best.value, best.fresh(0.0)) == (inf, False)
    assert [best.take(measured, at, quiet=False) for at, measured in enumerate((3.0, 2.0, 5.0))] == [3.0, 2.0, 2.0]
    assert repr(best) == "<Best 2>"


def test_what_was_good_is_forgotten():
    """After one to two minutes the best is that of the last minute or two."""
    best = Best()
    best.take(1.0, 0.0, quiet=True)
    assert best.take(9.0, 59.9, quiet=True) == 1.0
    assert best.take(8.0, 60.0, quiet=True) == 1.0
    assert best.take(9.0, 119.9, quiet=True) == 1.0
    assert best.take(9.0, 120.0, quiet=True) == 8.0
    assert best.fresh(179.9)
    assert not best.fresh(180.0)


def test_a_crowd_is_no_measure_of_itself():
    """However long it lasts: only a quiet measurement lets the best go."""
    best = Best()
    best.take(1.0, 0.0, quiet=True)
    assert [best.take(9.0, at, quiet=False) for at in (70.0, 140.0, 900.0)] == [1.0] * 3
    assert best.take(9.0, 901.0, quiet=True) == 1.0
    assert best.take(9.0, 961.0, quiet=True) == 9.0
