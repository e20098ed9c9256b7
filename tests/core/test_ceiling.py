"""The mode ceiling, against a reference that knows who is ill, since when all are well, and when it changed last."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardproxy.core.ceiling import CAUSES, Ceiling

UPSTREAMS = ["a", "b", "c"]


@dataclass(frozen=True)
class Tuned:
    """The settings of a ceiling, with the defaults of the configuration."""

    recovery_seconds: float = 60.0
    dwell_seconds: float = 30.0


SETTINGS = Tuned()
REST = 60.0
"""Seconds after which a rise is due, here."""
REASONS = {"circuit": "circuit_open", "throttle": "throttled", "load": "overloaded"}


class Machine(RuleBasedStateMachine):
    """The reference: who is ill of what, since when each is well, when the ceiling changed last, and whither."""

    def __init__(self) -> None:
        super().__init__()
        self.ceiling = Ceiling(UPSTREAMS, SETTINGS)
        self.now = 0.0
        self.ill: set[tuple[str, str]] = set()
        self.well = dict.fromkeys(UPSTREAMS, float("-inf"))
        self.at = 0
        self.changed = float("-inf")
        self.fell = False

    @rule(seconds=st.sampled_from([0.0, 1.0, 29.0, 30.0, 59.0, 60.0, 200.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(name=st.sampled_from(UPSTREAMS), cause=st.sampled_from(CAUSES))
    def falls_ill(self, name, cause):
        self.ceiling.falls_ill(name, cause, REASONS[cause])
        self.ill.add((name, cause))

    @rule(name=st.sampled_from(UPSTREAMS), cause=st.sampled_from(CAUSES))
    def gets_well(self, name, cause):
        self.ceiling.gets_well(name, cause, self.now)
        if (name, cause) in self.ill:
            self.ill.discard((name, cause))
            if not self.is_ill(name):
                self.well[name] = self.now

    def is_ill(self, name):
        return any(one == name for one, _ in self.ill)

    @rule()
    def move(self):
        rises_in = self.ceiling.rises_in(self.now)
        step = self.ceiling.move(self.now)
        dwelt = self.now - self.changed >= SETTINGS.dwell_seconds
        above = [up for up in range(self.at) if not self.is_ill(UPSTREAMS[up])]
        assert (rises_in is None) is not bool(above)
        expected = 0
        if self.is_ill(UPSTREAMS[self.at]) and self.at < 2:
            expected = 1 if dwelt or self.fell else 0
        elif above and self.now - max(self.changed, self.well[UPSTREAMS[above[-1]]]) >= REST:
            expected = above[-1] - self.at
            assert rises_in == 0.0
        else:
            assert rises_in is None or rises_in > 0.0
        assert step == expected
        if step:
            self.at, self.changed, self.fell = self.at + step, self.now, step > 0

    @rule(where=st.sampled_from([None, 0, 1, 2]))
    def hold(self, where):
        self.ceiling.held = where

    @invariant()
    def within_bounds(self):
        assert self.ceiling.own == self.at
        assert 0 <= self.ceiling.at <= 2
        assert self.ceiling.at == (self.at if self.ceiling.held is None else self.ceiling.held)
        for name in UPSTREAMS:
            causes = [cause for cause in CAUSES if (name, cause) in self.ill]
            assert self.ceiling.why(name) == (REASONS[causes[0]] if causes else "")
        if self.ceiling.held is not None:
            assert self.ceiling.reason == "manual"
        else:
            assert bool(self.ceiling.reason) is bool(self.at)

    @invariant()
    def whoever_is_well_is_within_reach(self):
        """Once the highest has been well for long enough the ceiling is there, whoever else is ill."""
        again, now = deepcopy(self.ceiling), self.now
        for cause in CAUSES:
            again.gets_well("a", cause, now)
        for _ in range(4):
            now += REST
            again.move(now)
        assert again.own == 0


TestCeiling = Machine.TestCase
TestCeiling.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_an_ill_middle_mode_keeps_nobody_down():
    """The highest mode is well again and the middle one is not: the ceiling rises past it."""
    ceiling = Ceiling(UPSTREAMS, SETTINGS)
    for name in ("a", "b"):
        ceiling.falls_ill(name, "circuit", "circuit_open")
    assert [ceiling.move(0.0), ceiling.move(0.0)] == [1, 1]
    ceiling.gets_well("a", "circuit", 10.0)
    assert (ceiling.move(69.0), ceiling.move(70.0)) == (0, -2)
    assert repr(ceiling) == "<Ceiling 0, ill: b>"


def test_an_ill_lowest_mode_keeps_nobody_down():
    """All have died, and only the highest has come back: it is used again."""
    ceiling = Ceiling(UPSTREAMS, SETTINGS)
    for name in UPSTREAMS:
        ceiling.falls_ill(name, "circuit", "circuit_open")
    while ceiling.move(0.0):
        pass
    assert ceiling.own == 2
    ceiling.gets_well("a", "circuit", 0.0)
    assert ceiling.move(60.0) == -2


@given(st.floats(0.5, 100.0), st.floats(0.5, 100.0))
def test_a_square_wave_does_not_make_it_flap(ill, well):
    """Whatever the period of a fault that comes and goes, two changes lie `dwell_seconds` apart at the least."""
    ceiling, changes, now = Ceiling(UPSTREAMS[:2], SETTINGS), [], 0.0
    end, sick = 0.0, False
    while now < 1000.0:
        if now >= end:
            sick = not sick
            end = now + (ill if sick else well)
            if sick:
                ceiling.falls_ill("a", "circuit", "circuit_open")
            else:
                ceiling.gets_well("a", "circuit", now)
        if ceiling.move(now):
            changes.append(now)
        now += 0.5
    assert changes
    assert all(later - earlier >= SETTINGS.dwell_seconds for earlier, later in pairwise(changes))


def test_the_gravest_reason_is_named():
    """Where there are several, an open circuit says more than a throttle."""
    ceiling = Ceiling(UPSTREAMS, SETTINGS)
    ceiling.falls_ill("a", "load", "overloaded")
    ceiling.falls_ill("a", "circuit", "slow")
    assert ceiling.why("a") == "slow"
    ceiling.gets_well("a", "circuit", 0.0)
    assert ceiling.why("a") == "overloaded"


def test_how_it_stands():
    """Its repr says where, who holds it, and who is ill."""
    ceiling = Ceiling(UPSTREAMS, SETTINGS)
    assert repr(ceiling) == "<Ceiling 0, ill: nobody>"
    ceiling.falls_ill("a", "load", "overloaded")
    ceiling.falls_ill("b", "load", "overloaded")
    ceiling.held = 1
    assert repr(ceiling) == "<Ceiling 1 held, ill: a, b>"


def test_what_others_say_is_not_said_on():
    """It falls by what they say of a circuit, and is no higher than theirs; where own reasons put it is told apart."""
    ceiling = Ceiling(UPSTREAMS, SETTINGS)
    ceiling.falls_ill("a", "circuit", "circuit_open", heard=True)
    assert ceiling.move(0.0) == 1
    assert (ceiling.at, ceiling.seen, ceiling.is_hearsay("a")) == (1, 0, True)
    ceiling.heard = (2, "throttled")
    assert (ceiling.at, ceiling.own, ceiling.reason, ceiling.why_own) == (2, 1, "throttled", "circuit_open")
    ceiling.falls_ill("a", "circuit", "circuit_open")
    assert (ceiling.seen, ceiling.is_hearsay("a")) == (1, False)
    ceiling.heard = None
    ceiling.gets_well("a", "circuit", 10.0)
    assert ceiling.move(70.0) == -1
    assert (ceiling.at, ceiling.seen) == (0, 0)
    ceiling.falls_ill("a", "circuit", "circuit_open", heard=True)
    ceiling.falls_ill("a", "load", "overloaded")
    assert ceiling.move(200.0) == 1
    assert ceiling.seen == 1
