"""The simulated fleet: a shared tier never makes it worse, and a dead model is left alone."""

from __future__ import annotations

import pytest

from bench import fleet


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """So few calls that a test may make them."""
    monkeypatch.setattr(fleet, "CALLS", 4_000)
    monkeypatch.setattr(fleet, "TTL", 60.0)
    monkeypatch.setattr(fleet, "DOWN", 120.0)


def test_a_shared_tier_helps_where_several_ask():
    """One pod gets nothing from it, ten do; what nobody has is stored once."""
    one, ten = fleet.caches(1), fleet.caches(10)
    assert one.shared == pytest.approx(one.alone, abs=0.05)
    assert ten.shared > ten.alone + 0.05
    assert ten.stores < ten.lookups


def test_every_pod_finds_out_for_itself():
    """After a handful of failures each; the same simulation tells the same every time."""
    dead = fleet.outage(10)
    assert dead == fleet.outage(10)
    assert dead.failing <= 10 * 5
    assert dead.failing + dead.probes < dead.unguarded / 10
    assert 0 < dead.noticed < fleet.DOWN / 2


def test_both_tables_are_printed(capsys):
    fleet.main((2,))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| 2 |") for line in lines) == 2
