"""The circuit of an upstream, against a reference that keeps every mark and every probe.

The rules that other breakers break (cancelled probes that close, hung probes that wedge, stampedes of probes,
outcomes of another time that count) each have a test of their own as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, invariant, multiple, rule

from guardproxy.core.circuit import Circuit, Permit, State
from guardproxy.core.values import Kind, Refusal


@dataclass(frozen=True)
class Tuned:
    """The settings of a circuit, with the defaults of the configuration."""

    failure_threshold: float = 0.5
    success_threshold: int = 5
    timeout: float = 60
    half_open_requests: int = 3
    minimum_requests: int = 5
    window: float = 60


LEASE = 25.0
SETTINGS = Tuned(
    failure_threshold=0.5,
    success_threshold=2,
    timeout=10,
    half_open_requests=2,
    minimum_requests=3,
    window=30,
)
BAD = (Kind.FAILURE, Kind.SLOW)
OUTCOMES = st.sampled_from([*Kind, None])


def opened(now: float = 0.0, lease: float = LEASE, **more) -> Circuit:
    """A circuit that has just opened."""
    circuit = Circuit(Tuned(minimum_requests=1, timeout=10, **more), lease)
    permit = circuit.permit(now)
    assert isinstance(permit, Permit)
    assert circuit.observe(permit, Kind.FAILURE, now) is State.CLOSED
    return circuit


def probe(circuit: Circuit, now: float) -> Permit:
    permit = circuit.permit(now)
    assert isinstance(permit, Permit)
    return permit


class Machine(RuleBasedStateMachine):
    """The reference: a state, when it began, marks with their times, probes with their leases."""

    permits = Bundle("permits")

    def __init__(self) -> None:
        super().__init__()
        self.circuit = Circuit(SETTINGS, LEASE)
        self.now = 0.0
        self.state = State.CLOSED
        self.held: State | None = None
        self.opened_at = 0.0
        self.era = 0
        self.marks: list[tuple[float, bool]] = []
        self.out: dict[int, float] = {}
        """Probes that are out, by the identity of their permit: when their lease ends."""
        self.good = 0
        self.settled: set[int] = set()
        self.kept: list[Permit] = []
        """So that no identity is used twice."""

    def turn(self, state):
        self.state, self.era, self.marks, self.out, self.good = state, self.era + 1, [], {}, 0
        if state is State.OPEN:
            self.opened_at = self.now

    def alive(self):
        return sum(self.now < end for end in self.out.values())

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 5.0, 9.5, 10.0, 26.0, 40.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(target=permits)
    def permit(self) -> tuple[Permit, int] | MultipleResults[tuple[Permit, int]]:
        before = self.circuit.available(self.now)
        got = self.circuit.permit(self.now)
        assert before is not isinstance(got, Refusal)
        if self.state is State.CLOSED:
            assert isinstance(got, Permit)
        elif self.held is State.OPEN:
            assert isinstance(got, Refusal)
        elif self.state is State.OPEN:
            due = self.opened_at + SETTINGS.timeout
            if self.now < due:
                assert got == Refusal("circuit_open", due)
            else:
                assert isinstance(got, Permit)
                self.turn(State.HALF_OPEN)
        else:
            assert isinstance(got, Permit) is (self.alive() < SETTINGS.half_open_requests)
        if isinstance(got, Refusal):
            assert got.until > self.now
            return multiple()
        if self.state is State.HALF_OPEN:
            self.out[id(got)] = self.now + LEASE
        self.kept.append(got)
        return (got, self.era)

    @rule(given=permits, kind=OUTCOMES)
    def observe(self, given, kind):
        permit, era = given
        old = self.state
        left = self.circuit.observe(permit, kind, self.now)
        if era != self.era:
            assert left is None
            return
        if old is State.CLOSED:
            if kind is Kind.SUCCESS or kind in BAD:
                self.marks.append((self.now, kind is Kind.SUCCESS))
            if left is State.CLOSED:
                self.must_be_bad_enough(kind)
                self.turn(State.OPEN)
            elif kind in BAD and self.held is None:
                self.must_not_be_bad_enough()
        elif id(permit) not in self.out:
            assert left is None  # told a second time
        else:
            del self.out[id(permit)]
            self.good += kind is Kind.SUCCESS
            if kind in BAD:
                assert left is State.HALF_OPEN
                self.turn(State.OPEN)
            elif self.good >= SETTINGS.success_threshold:
                assert left is State.HALF_OPEN
                self.turn(State.CLOSED)
            else:
                assert left is None

    def must_be_bad_enough(self, kind):
        assert kind in BAD
        assert self.held is None
        assert any(self.verdicts())

    def must_not_be_bad_enough(self):
        assert not all(self.verdicts())

    def verdicts(self):
        """What the marks say if the window is nine tenths of its length, and if it is all of it."""
        for length in (SETTINGS.window * 0.9, SETTINGS.window):
            for inclusive in (False, True):
                marks = [
                    ok for at, ok in self.marks if self.now - at < length or (inclusive and self.now - at == length)
                ]
                yield len(marks) >= SETTINGS.minimum_requests and marks.count(False) * 2 >= len(marks)

    @rule(state=st.sampled_from([State.OPEN, State.CLOSED, None]))
    def hold(self, state):
        old = self.state
        left = self.circuit.hold(state, self.now)
        self.held = state
        if state is not None and state is not old:
            self.turn(state)
            assert left is old
        else:
            assert left is None

    @rule()
    def lapse(self):
        lost = any(self.now >= end for end in self.out.values())
        assert self.circuit.lapse(self.now) is (State.HALF_OPEN if lost else None)
        if lost:
            self.turn(State.OPEN)

    @invariant()
    def agrees(self):
        assert self.circuit.state is self.state
        assert self.circuit.held is self.held
        assert self.alive() <= SETTINGS.half_open_requests
        if self.state is not State.HALF_OPEN:
            assert not self.out

    @invariant()
    def never_for_ever(self):
        """From any state, held open by hand aside, an attempt is permitted in finite time."""
        if self.held is not State.OPEN:
            assert self.circuit.available(self.now + max(SETTINGS.timeout, LEASE))


TestCircuit = Machine.TestCase
TestCircuit.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.lists(OUTCOMES, max_size=30))
def test_what_says_nothing_changes_nothing(kinds):
    """Throttles, mistakes of callers and callers who left never open a circuit, in any number."""
    circuit = Circuit(SETTINGS)
    for kind in kinds:
        if kind not in BAD:
            assert circuit.observe(probe(circuit, 0.0), kind, 0.0) is None
    assert circuit.state is State.CLOSED


@given(st.integers(1, 200), st.data())
def test_it_opens_at_this_rate_or_above(total, data):
    """A threshold of n/m opens at exactly n of m, however n/m is rounded in binary."""
    bad = data.draw(st.integers(1, total))
    circuit = Circuit(Tuned(failure_threshold=bad / total, minimum_requests=total))
    kinds = [Kind.SUCCESS] * (total - bad) + [Kind.FAILURE] * bad
    left = [circuit.observe(probe(circuit, 0.0), kind, 0.0) for kind in kinds]
    assert left == [None] * (total - 1) + [State.CLOSED]


def test_no_verdict_on_few():
    """One failure at night is no outage: nothing opens on fewer attempts than `minimum_requests`."""
    circuit = Circuit(Tuned(minimum_requests=5))
    left = [circuit.observe(probe(circuit, 0.0), Kind.FAILURE, 0.0) for _ in range(5)]
    assert left == [None, None, None, None, State.CLOSED]
    assert repr(circuit) == "<Circuit open, 0/0 bad, 0 probes out>"


@pytest.mark.parametrize("kind", [None, Kind.IGNORED, Kind.THROTTLED])
def test_a_cancelled_probe_is_given_back(kind):
    """A probe of which nothing came does not close the circuit (Polly), nor does it count; its place is free again."""
    circuit = opened(half_open_requests=1, success_threshold=1)
    assert circuit.observe(probe(circuit, 10.0), kind, 10.5) is None
    assert circuit.state is State.HALF_OPEN
    probe(circuit, 10.5)


def test_a_hung_probe_does_not_wedge():
    """A probe that never comes back opens the circuit again when its lease is over (resilience4j, gobreaker)."""
    circuit = opened(half_open_requests=1, lease=60.0)
    hung = probe(circuit, 10.0)
    assert isinstance(circuit.permit(69.0), Refusal)
    assert circuit.lapse(69.9) is None
    assert circuit.available(70.0)
    assert circuit.lapse(70.0) is State.HALF_OPEN
    assert (circuit.state, circuit.until) == (State.OPEN, 80.0)
    assert circuit.observe(hung, Kind.SUCCESS, 71.0) is None
    assert circuit.state is State.OPEN


def test_half_open_admits_few():
    """Fifty callers who wait for the circuit to be due do not all fall upon the model (aiobreaker, sglang-router)."""
    circuit = opened(half_open_requests=3)
    permitted = [isinstance(circuit.permit(10.0), Permit) for _ in range(50)]
    assert permitted.count(True) == 3


def test_results_of_the_closed_state_are_no_probes():
    """A slow call from before the outage neither closes nor opens the half-open circuit (resilience4j)."""
    circuit = Circuit(Tuned(minimum_requests=1, success_threshold=1, timeout=10))
    early = [probe(circuit, 0.0) for _ in range(4)]
    circuit.observe(early[0], Kind.FAILURE, 1.0)
    assert circuit.observe(early[1], Kind.SUCCESS, 2.0) is None
    assert circuit.until == 11.0
    probe(circuit, 11.0)
    assert circuit.observe(early[2], Kind.SUCCESS, 12.0) is None
    assert circuit.observe(early[3], Kind.FAILURE, 12.0) is None
    assert circuit.state is State.HALF_OPEN


def test_results_of_an_earlier_closed_state_do_not_count():
    """Calls from before the outage, failing after it is over, do not open the circuit that has just closed."""
    circuit = Circuit(Tuned(minimum_requests=2, success_threshold=1, timeout=10))
    early = [probe(circuit, 0.0) for _ in range(2)]
    lost = [probe(circuit, 0.0) for _ in range(9)]
    for permit in early:
        circuit.observe(permit, Kind.FAILURE, 1.0)
    assert circuit.observe(probe(circuit, 11.0), Kind.SUCCESS, 12.0) is State.HALF_OPEN
    for permit in lost:
        assert circuit.observe(permit, Kind.FAILURE, 13.0) is None
    assert circuit.state is State.CLOSED
    assert circuit.rate(13.0) == (0.0, 0)


def test_a_call_may_be_longer_than_the_window():
    """What counts is when an attempt ended: five that hung for ten windows are five failures (go-zero)."""
    circuit = Circuit(Tuned(window=10))
    hung = [probe(circuit, 0.0) for _ in range(5)]
    for number, permit in enumerate(hung):
        circuit.observe(permit, Kind.FAILURE, 100.0 + number)
    assert circuit.state is State.OPEN


def test_a_sidecar_has_little_traffic():
    """Five failures in a minute are enough: there will not be a hundred."""
    circuit = Circuit(Tuned())
    for second in range(5):
        circuit.observe(probe(circuit, second * 10.0), Kind.FAILURE, second * 10.0)
    assert circuit.state is State.OPEN


def test_an_era_is_told_once():
    """The same outcome told twice counts once."""
    circuit = opened(half_open_requests=2, success_threshold=2)
    first = probe(circuit, 10.0)
    circuit.observe(first, Kind.SUCCESS, 10.0)
    circuit.observe(first, Kind.SUCCESS, 10.0)
    assert circuit.state is State.HALF_OPEN
