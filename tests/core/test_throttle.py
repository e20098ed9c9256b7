"""The gate before a throttled upstream, against a reference that keeps who is out and until when it is held."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardproxy.core.throttle import FIRST, FULL, LEASE, QUIET, Gate, Pass
from guardproxy.core.values import Kind, Refusal

MOST = 60.0


class Machine(RuleBasedStateMachine):
    """The reference: until when it is held, how wide the ramp is, who is out on it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.dice = 0.5
        self.gate = Gate(MOST, 0.0, lambda: self.dice)
        self.strikes = 0
        self.until = 0.0
        self.room = 1
        self.era = 0
        self.out: dict[int, float] = {}
        self.tokens: list[tuple[Pass, int]] = []

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 5.0, 61.0, 700.0]), dice=st.sampled_from([0.0, 0.5, 0.99]))
    def wait(self, seconds, dice):
        self.now += seconds
        self.dice = dice

    def alive(self):
        return sum(self.now < end for end in self.out.values())

    @rule()
    def permit(self):
        may = self.now >= self.until and self.alive() < self.room
        assert self.gate.available(self.now) is may
        got = self.gate.permit(self.now)
        assert isinstance(got, Pass) is may
        if isinstance(got, Pass):
            self.tokens.append((got, self.era))
            self.out[id(got)] = self.now + LEASE
        else:
            assert got.brief
            assert got.until > self.now
            assert got.until <= max(self.until, self.now + 1.0)

    @rule(asked=st.sampled_from([None, 0.0, 2.0, 3600.0]), which=st.integers(0, 5), kind=st.sampled_from(["t", "w"]))
    def throttled(self, asked, which, kind):
        """By a call on the ramp, by one of an earlier ramp, or by one from before there was a gate."""
        token, era = self.tokens.pop(which) if which < len(self.tokens) else (None, 0)
        before = self.gate.until
        generation = 0 if token is None else token.generation
        self.gate.hold(Kind.WARMING if kind == "w" else Kind.THROTTLED, self.now, asked, generation)
        if era != self.era:
            assert self.gate.until == max(before, self.now + min(asked or 0.0, MOST) if asked is not None else before)
            self.until = self.gate.until
            return
        span = self.gate.until - self.now
        if not asked:
            full = min(FIRST * 2**self.strikes, MOST)
            assert full / 2 <= span + 1e-6
            assert span <= full + 1e-6
        else:
            assert min(asked, MOST) <= span + 1e-6
            assert span <= min(asked, MOST) * 1.1 + 1e-6
        self.strikes += 1
        self.until, self.room, self.era, self.out = self.gate.until, 1, self.era + 1, {}
        assert self.gate.reason == ("warming" if kind == "w" else "throttled")

    @rule(which=st.integers(0, 5), kind=st.sampled_from([Kind.SUCCESS, Kind.SLOW, Kind.FAILURE, Kind.IGNORED, None]))
    def ended(self, which, kind):
        if which >= len(self.tokens):
            return
        token, era = self.tokens.pop(which)
        over = self.gate.passed(token, kind)
        if era == self.era:
            del self.out[id(token)]
            self.room += kind in (Kind.SUCCESS, Kind.SLOW)
            assert over is (kind in (Kind.SUCCESS, Kind.SLOW) and self.room >= FULL)
        else:
            assert not over
        assert not self.gate.passed(token, kind)  # told a second time it counts for nothing

    @invariant()
    def few_are_out(self):
        assert self.alive() <= max(self.room, 1)

    @invariant()
    def never_for_ever(self):
        """Whatever has happened, somebody is let through in finite time, and in the end all are."""
        later = max(self.until, self.now) + LEASE
        assert self.gate.available(later)
        assert self.gate.quiet(max(self.until, self.now) + QUIET + 0.001)


TestGate = Machine.TestCase
TestGate.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def ramped(gate: Gate, now: float) -> Pass:
    token = gate.permit(now)
    assert isinstance(token, Pass)
    return token


def test_one_then_more():
    """Held until the time named; then one, and with each success one more, until it is over."""
    gate = Gate(MOST, 0.0, lambda: 0.0)
    gate.hold(Kind.THROTTLED, 0.0, 5.0)
    assert gate.permit(4.9) == Refusal("throttled", 5.0, brief=True)
    assert repr(gate) == "<Gate held, throttled>"
    first = ramped(gate, 5.0)
    assert gate.permit(5.0) == Refusal("throttled", 6.0, brief=True)
    assert repr(gate) == "<Gate ramp, 1/1 out, throttled>"
    assert not gate.passed(first, Kind.SUCCESS)
    ramped(gate, 5.1)
    ramped(gate, 5.1)
    assert isinstance(gate.permit(5.1), Refusal)


def test_a_hundred_at_once_strike_once():
    """What was under way when the gate fell does not make the next time longer; only a later time named counts."""
    gate = Gate(MOST, 0.0, lambda: 1.0)
    for _ in range(100):
        gate.hold(Kind.THROTTLED, 0.0, None)
    assert gate.until == FIRST
    gate.hold(Kind.THROTTLED, 0.5, 3.0)
    assert gate.until == 3.5
    token = ramped(gate, 3.5)
    gate.hold(Kind.THROTTLED, 4.0, None, token.generation)
    assert gate.until == 6.0


@pytest.mark.parametrize("asked, lasts", [(9.9, False), (10.0, True), (3600.0, True)])
def test_what_lasts(asked, lasts):
    """A second of Retry-After is no news; ten are."""
    gate = Gate(MOST, 0.0, lambda: 0.0)
    gate.hold(Kind.THROTTLED, 0.0, asked)
    assert gate.lasts(1.0) is lasts
    assert not gate.lasts(gate.until)


def test_chance_adds_a_tenth():
    """A fleet that was told the same time does not come back in one moment."""
    gate = Gate(MOST, 0.0, lambda: 1.0)
    assert (gate.reason, gate.room, gate.until) == ("throttled", 0, 0.0)
    gate.hold(Kind.THROTTLED, 0.0, 20.0)
    assert gate.until == 22.0
    assert gate.lasts(1.0)
    later = Gate(MOST, 100.0, lambda: 1.0)
    later.hold(Kind.THROTTLED, 100.0, 5.0)
    assert not later.lasts(101.0)


def test_the_ramp_ends():
    """Fifteen successes after the first it bears sixteen at once, and is over; each ramp has a number of its own."""
    gate = Gate(MOST, 0.0, lambda: 0.0)
    gate.hold(Kind.THROTTLED, 0.0, 5.0)
    numbers = [gate.generation]
    assert [gate.passed(ramped(gate, 5.0), Kind.SUCCESS) for _ in range(FULL - 1)] == [False] * (FULL - 2) + [True]
    for _ in range(3):
        gate.hold(Kind.THROTTLED, 5.0, 5.0, gate.generation)
        numbers.append(gate.generation)
    assert numbers == [1, 2, 3, 4]
