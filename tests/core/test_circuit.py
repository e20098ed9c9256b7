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
    consecutive_failures: int = 0
    slow_threshold: float = 0.8
    max_timeout: float = 240
    warmup_seconds: float = 300


LEASE = 25.0
SETTINGS = Tuned(
    failure_threshold=0.5,
    success_threshold=2,
    timeout=10,
    half_open_requests=2,
    minimum_requests=3,
    window=30,
    consecutive_failures=4,
    slow_threshold=0.75,
    max_timeout=35,
    warmup_seconds=20,
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
        self.dice = 0.5
        self.circuit = Circuit(SETTINGS, LEASE, lambda: self.dice)
        self.now = 0.0
        self.state = State.CLOSED
        self.held: State | None = None
        self.due = 0.0
        self.openings = 0
        """How often it has opened without a healthy window between."""
        self.closed_at = float("-inf")
        self.era = 0
        self.attempts: list[float] = []
        self.bad: list[float] = []
        self.slow: list[float] = []
        self.streak = 0
        self.warming: float | None = None
        self.out: dict[int, float] = {}
        """Probes that are out, by the identity of their permit: when their lease ends."""
        self.good = 0
        self.beside = 0
        """Checks that were made in the place of a probe."""
        self.checks_until = 0.0
        """Until when only checks are made: a probe came back with nothing after long."""
        self.overdue: dict[int, float] = {}
        """Attempts that were late, by the identity of the permit that they have since: when that was."""
        self.kept: list[Permit] = []
        """So that no identity is used twice."""

    def turn(self, state, floor=0.0):
        if state is State.OPEN:
            fresh = self.state is State.CLOSED and self.now - self.closed_at >= SETTINGS.window
            self.openings = 0 if fresh else self.openings + 1
            span = self.circuit.until - self.now
            least = SETTINGS.timeout
            if self.openings:
                most = min(SETTINGS.timeout * 2**self.openings, SETTINGS.max_timeout)
                least = max(least, most / 2 + self.dice * most / 2)
            assert span == pytest.approx(max(least, min(floor, SETTINGS.max_timeout)))
            assert SETTINGS.timeout <= span + 1e-9 <= SETTINGS.max_timeout + 1e-6
            self.due = self.circuit.until
        if state is State.CLOSED:
            self.closed_at = self.now
        self.state, self.era, self.out, self.good, self.beside = state, self.era + 1, {}, 0, 0
        self.checks_until = 0.0
        self.attempts, self.bad, self.slow, self.streak = [], [], [], 0

    def alive(self):
        return sum(self.now < end for end in self.out.values())

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 5.0, 9.5, 10.0, 26.0, 40.0]), dice=st.sampled_from([0.0, 0.5, 0.99]))
    def wait(self, seconds, dice):
        self.now += seconds
        self.dice = dice

    @rule(target=permits, check=st.booleans())
    def permit(self, check) -> tuple[Permit, int] | MultipleResults[tuple[Permit, int]]:
        before = self.circuit.available(self.now, check=check)
        got = self.circuit.permit(self.now, check=check)
        assert before is not isinstance(got, Refusal)
        if self.state is State.CLOSED:
            assert isinstance(got, Permit)
        elif self.held is State.OPEN:
            assert isinstance(got, Refusal)
        elif self.state is State.OPEN:
            if self.now < self.due:
                assert got == Refusal("circuit_open", self.due)
            else:
                assert isinstance(got, Permit)
                self.turn(State.HALF_OPEN)
        else:
            # a check may be made in the place of a probe that has been out for as long as the circuit was open
            counted = sum(self.now < end - (LEASE - SETTINGS.timeout) * check for end in self.out.values())
            free = counted < SETTINGS.half_open_requests and (check or self.now >= self.checks_until)
            assert isinstance(got, Permit) is free
            self.beside += check and self.alive() >= SETTINGS.half_open_requests
        if isinstance(got, Refusal):
            assert got.until > self.now
            return multiple()
        if self.state is State.HALF_OPEN:
            self.out[id(got)] = self.now + LEASE
        self.kept.append(got)
        return (got, self.era)

    @rule(given=permits, kind=OUTCOMES, floor=st.sampled_from([0.0, 0.0, 3.0, 12.0, 99.0]))
    def observe(self, given, kind, floor):
        permit, era = given
        left = self.circuit.observe(permit, kind, self.now, floor)
        if era != self.era:
            assert left is None
            return
        kind = self.meant(kind)
        if self.state is State.CLOSED:
            self.ended(permit, kind, left, floor)
        elif id(permit) not in self.out:
            assert left is None  # told a second time
        else:
            if self.out.pop(id(permit)) - LEASE + SETTINGS.timeout <= self.now and kind not in (Kind.SUCCESS, *BAD):
                self.checks_until = self.now + SETTINGS.timeout
            self.good += kind is Kind.SUCCESS
            if kind in BAD:
                assert left is State.HALF_OPEN
                self.turn(State.OPEN, floor)
            elif self.good >= SETTINGS.success_threshold:
                assert left is State.HALF_OPEN
                self.turn(State.CLOSED)
            else:
                assert left is None

    def meant(self, kind):
        """What an outcome means, now that a model may have been loading for too long."""
        if kind in (Kind.SUCCESS, Kind.SLOW):
            self.warming, self.streak = None, 0
        if kind is Kind.WARMING:
            self.warming = self.now if self.warming is None else self.warming
            return Kind.FAILURE if self.now - self.warming >= SETTINGS.warmup_seconds else Kind.IGNORED
        return kind

    def ended(self, permit, kind, left, floor):
        if kind not in (Kind.SUCCESS, *BAD):
            assert left is None
            return
        counted = self.overdue.get(id(permit))
        if counted is None or self.now - counted >= SETTINGS.window:
            self.attempts.append(self.now)
        if kind is Kind.FAILURE:
            self.bad.append(self.now)
            self.streak += 1
        verdicts = [*self.verdicts(self.bad, SETTINGS.failure_threshold)]
        streak = self.streak >= SETTINGS.consecutive_failures
        if left is State.CLOSED:
            assert kind is Kind.FAILURE
            assert self.held is None
            assert streak or any(verdicts)
            self.turn(State.OPEN, floor)
        elif kind is Kind.FAILURE and self.held is None:
            assert not streak
            assert not all(verdicts)

    @rule(target=permits, given=permits)
    def late(self, given) -> tuple[Permit, int] | MultipleResults[tuple[Permit, int]]:
        permit, era = given
        new, left = self.circuit.late(permit, self.now)
        if era != self.era or id(permit) in self.overdue:
            assert (new, left) == (permit, None)
            return multiple()
        if self.state is not State.CLOSED:
            assert left is (State.HALF_OPEN if id(permit) in self.out else None)
            if left is not None:
                self.turn(State.OPEN)
            return multiple()
        self.attempts.append(self.now)
        self.slow.append(self.now)
        verdicts = [*self.verdicts(self.slow, SETTINGS.slow_threshold)]
        if left is State.CLOSED:
            assert self.held is None
            assert any(verdicts)
            self.turn(State.OPEN)
            return multiple()
        assert self.held is not None or not all(verdicts)
        self.kept.append(new)
        self.overdue[id(new)] = self.now
        return (new, era)

    def verdicts(self, marks, threshold):
        """What the marks say if the window is nine tenths of its length, and if it is all of it."""
        for length in (SETTINGS.window * 0.9, SETTINGS.window):
            for inclusive in (False, True):

                def within(at, length=length, inclusive=inclusive):
                    return self.now - at < length or (inclusive and self.now - at == length)

                total, wrong = sum(map(within, self.attempts)), sum(map(within, marks))
                yield total >= SETTINGS.minimum_requests and wrong >= threshold * total

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
        assert self.alive() <= SETTINGS.half_open_requests + self.beside
        if self.state is not State.HALF_OPEN:
            assert not self.out

    @invariant()
    def never_for_ever(self):
        """From any state, held open by hand aside, an attempt is permitted in finite time."""
        if self.held is not State.OPEN:
            assert self.circuit.available(self.now + max(SETTINGS.max_timeout, LEASE))


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
    assert (circuit.state, circuit.until) == (State.OPEN, 85.0)  # for longer than the first time
    assert circuit.observe(hung, Kind.SUCCESS, 71.0) is None
    assert circuit.state is State.OPEN


def test_a_check_goes_beside_a_probe_that_may_hang():
    """Whether it hangs or its answer is long is not known: calls wait, a check finds out, and closes or opens it."""
    for kind, state in ((Kind.SUCCESS, State.CLOSED), (Kind.FAILURE, State.OPEN)):
        circuit = opened(half_open_requests=1, success_threshold=1, lease=600.0)
        probe(circuit, 10.0)
        assert not circuit.available(19.9, check=True)
        assert isinstance(circuit.permit(19.9, check=True), Refusal)
        assert circuit.available(20.0, check=True)
        assert not circuit.available(20.0)
        assert isinstance(circuit.permit(20.0), Refusal)
        check = circuit.permit(20.0, check=True)
        assert isinstance(check, Permit)
        assert isinstance(circuit.permit(20.0, check=True), Refusal)  # one at a time
        assert circuit.observe(check, kind, 21.0) is State.HALF_OPEN
        assert circuit.state is state
    patient = Circuit(Tuned(minimum_requests=1, timeout=600, success_threshold=1, half_open_requests=1), 600.0)
    patient.observe(probe(patient, 0.0), Kind.FAILURE, 0.0)
    probe(patient, 600.0)
    assert not patient.available(629.9, check=True)
    assert patient.available(630.0, check=True)


@pytest.mark.parametrize("kind", [None, Kind.IGNORED, Kind.THROTTLED])
def test_after_a_probe_that_was_given_up_on_only_a_check_goes(kind):
    """Its place is free, but not for the next call to find out the same; if no check comes it is, after as long."""
    circuit = opened(half_open_requests=2, success_threshold=1, lease=600.0)
    circuit.observe(probe(circuit, 10.0), kind, 20.0)
    assert isinstance(circuit.permit(29.9), Refusal)
    assert circuit.waits(20.0, check=True)
    assert not circuit.waits(20.0)
    assert isinstance(circuit.permit(30.0), Permit)
    check = circuit.permit(20.0, check=True)
    assert isinstance(check, Permit)
    assert circuit.observe(check, Kind.SUCCESS, 21.0) is State.HALF_OPEN
    assert circuit.state is State.CLOSED
    quick = opened(half_open_requests=1)
    quick.observe(probe(quick, 10.0), kind, 19.9)
    assert isinstance(quick.permit(19.9), Permit)


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
    assert circuit.rates(13.0) == (0.0, 0.0, 0)


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


def test_a_quiet_upstream_that_hangs():
    """One call a minute that hangs never fills a window: failures in a row open the circuit, however far apart."""
    circuit = Circuit(Tuned(consecutive_failures=5))
    left = [circuit.observe(probe(circuit, at * 120.0), Kind.FAILURE, at * 120.0) for at in range(5)]
    assert left == [None] * 4 + [State.CLOSED]


@pytest.mark.parametrize(
    "kind, opens", [(Kind.SUCCESS, False), (Kind.SLOW, False), (Kind.THROTTLED, True), (None, True)]
)
def test_what_ends_a_row(kind, opens):
    """Only an answer ends a row of failures; what says nothing does not."""
    circuit = Circuit(Tuned(consecutive_failures=2, minimum_requests=99))
    circuit.observe(probe(circuit, 0.0), Kind.FAILURE, 0.0)
    circuit.observe(probe(circuit, 1.0), kind, 1.0)
    assert circuit.observe(probe(circuit, 2.0), Kind.FAILURE, 2.0) is (State.CLOSED if opens else None)


def test_a_model_that_queues_without_end():
    """Overload looks like a late first token, never like an error (vLLM): seen while the calls still wait."""
    circuit = Circuit(Tuned())
    waiting = [probe(circuit, 0.0) for _ in range(5)]
    told = [circuit.late(permit, 30.0) for permit in waiting]
    assert [left for _, left in told] == [None] * 4 + [State.CLOSED]
    assert circuit.state is State.OPEN
    assert [circuit.observe(permit, Kind.SLOW, 45.0) for permit, _ in told] == [None] * 5


def test_a_late_attempt_counts_once():
    """Late and then answered is one slow attempt; late and then failed is one attempt, slow and bad."""
    circuit = Circuit(Tuned(minimum_requests=99))
    first, _ = circuit.late(probe(circuit, 0.0), 30.0)
    second, _ = circuit.late(probe(circuit, 0.0), 30.0)
    assert circuit.late(second, 31.0) == (second, None)
    circuit.observe(first, Kind.SLOW, 40.0)
    circuit.observe(second, Kind.FAILURE, 60.0)
    assert circuit.rates(60.0) == (0.5, 1.0, 2)
    assert repr(circuit) == "<Circuit closed, 1/2 bad, 2 slow, 0 probes out>"


def test_a_late_attempt_that_fails_after_the_window():
    """Where the mark of its lateness has been forgotten, a failure is an attempt of its own: no rate exceeds one."""
    circuit = Circuit(Tuned(minimum_requests=99, window=10))
    permit, _ = circuit.late(probe(circuit, 0.0), 30.0)
    circuit.observe(permit, Kind.FAILURE, 100.0)
    assert circuit.rates(100.0) == (1.0, 0.0, 1)


def test_a_late_probe_opens_again():
    """A model that comes back slow has not come back."""
    circuit = opened(half_open_requests=1)
    permit = probe(circuit, 10.0)
    assert circuit.late(permit, 40.0) == (permit, State.HALF_OPEN)
    assert circuit.state is State.OPEN


def test_each_time_longer():
    """60, then 60..120, then 120..240 seconds; after a healthy window it begins anew."""
    spans = []
    circuit = Circuit(Tuned(minimum_requests=1, success_threshold=1), dice=lambda: 0.5)
    now = 0.0
    for _ in range(5):
        circuit.observe(probe(circuit, now), Kind.FAILURE, now)
        spans.append(circuit.until - now)
        now = circuit.until
    assert spans == [60.0, 90.0, 180.0, 180.0, 180.0]
    circuit.observe(probe(circuit, now), Kind.SUCCESS, now)
    circuit.observe(probe(circuit, now + 59), Kind.FAILURE, now + 59)
    assert circuit.until == now + 59 + 180.0
    now = circuit.until
    circuit.observe(probe(circuit, now), Kind.SUCCESS, now)
    circuit.observe(probe(circuit, now + 60), Kind.FAILURE, now + 60)
    assert circuit.until == now + 60 + 60.0


@pytest.mark.parametrize("asked, span", [(5.0, 60.0), (90.0, 90.0), (3600.0, 240.0)])
def test_retry_after_is_a_floor(asked, span):
    """A model that says when to come back is left alone until then, within `max_timeout`."""
    circuit = Circuit(Tuned(minimum_requests=1))
    circuit.observe(probe(circuit, 0.0), Kind.FAILURE, 0.0, asked)
    assert circuit.until == span


def test_a_long_timeout_is_kept():
    """`max_timeout` never makes an open circuit due before its `timeout`."""
    circuit = Circuit(Tuned(minimum_requests=1, timeout=600))
    for _ in range(3):
        now = circuit.until
        circuit.observe(probe(circuit, now), Kind.FAILURE, now)
        assert circuit.until == now + 600


def test_a_model_that_is_loading_is_not_broken():
    """`Loading model` opens nothing for `warmup_seconds`; a model that loads for ever is broken after all."""
    circuit = Circuit(Tuned(minimum_requests=1, warmup_seconds=100))
    for at in (0.0, 50.0, 99.9):
        assert circuit.observe(probe(circuit, at), Kind.WARMING, at) is None
    circuit.observe(probe(circuit, 99.9), Kind.SUCCESS, 99.9)
    assert circuit.observe(probe(circuit, 150.0), Kind.WARMING, 150.0) is None
    assert circuit.observe(probe(circuit, 250.0), Kind.WARMING, 250.0) is State.CLOSED


@given(st.lists(st.tuples(st.floats(0.1, 50.0), st.booleans()), min_size=1, max_size=30), st.integers(1, 4))
def test_the_verdict_does_not_depend_on_the_rate(story, times):
    """Twice as many calls that end in the same shares, at the same moments, never find another verdict later."""
    one, many = Circuit(Tuned(minimum_requests=1)), Circuit(Tuned(minimum_requests=1))
    now = 0.0
    for pause, ok in story:
        now += pause
        kind = Kind.SUCCESS if ok else Kind.FAILURE
        if one.available(now) and many.available(now):
            one.observe(probe(one, now), kind, now)
            for permit in [many.permit(now) for _ in range(times)]:
                if isinstance(permit, Permit):
                    many.observe(permit, kind, now)
            if one.generation == 2:
                assert many.generation >= 2
                return


def test_twice_as_long_each_time():
    """Doubled, not added to: 10, then at the most 20, 40, 80, 160."""
    circuit = Circuit(Tuned(minimum_requests=1, timeout=10, max_timeout=10_000), dice=lambda: 1.0)
    spans, now = [], 0.0
    for _ in range(5):
        circuit.observe(probe(circuit, now), Kind.FAILURE, now)
        spans.append(circuit.until - now)
        now = circuit.until
    assert spans == [10.0, 20.0, 40.0, 80.0, 160.0]


def test_a_probe_that_is_asked_to_wait():
    """A probe that fails and names a time keeps the circuit open until then."""
    circuit = opened(half_open_requests=1)
    circuit.observe(probe(circuit, 10.0), Kind.FAILURE, 11.0, 100.0)
    assert circuit.until == 111.0


def test_it_opens_at_this_share_of_slow_ones():
    """Four of five is 0.8: the fifth attempt opens it, were it the slow one or not needed any more."""
    circuit = Circuit(Tuned())
    circuit.observe(probe(circuit, 0.0), Kind.SUCCESS, 0.0)
    left = [circuit.late(probe(circuit, 0.0), 30.0)[1] for _ in range(4)]
    assert left == [None, None, None, State.CLOSED]


def test_no_room_is_not_available():
    """Whoever asks whether there is a probe to be had hears what he would get."""
    circuit = opened(half_open_requests=1)
    assert not circuit.available(9.9)
    assert circuit.available(10.0)
    probe(circuit, 10.0)
    assert not circuit.available(11.0)
    assert circuit.available(10.0 + 600.0)


def test_how_it_stands():
    """Its repr says the state, who holds it, what is counted and which probes are out."""
    circuit = opened(half_open_requests=1)
    probe(circuit, 10.0)
    assert repr(circuit) == "<Circuit half_open, 0/0 bad, 1 probes out>"
    circuit.hold(State.CLOSED, 10.0)
    assert repr(circuit) == "<Circuit closed, held, 0/0 bad, 0 probes out>"


def test_what_a_refusal_says():
    """Whoever refuses says so in the same word: held by hand, not due, and no probe left."""
    circuit = opened(half_open_requests=1)
    assert circuit.permit(1.0) == Refusal("circuit_open", 10.0)
    probe(circuit, 10.0)
    assert circuit.permit(10.0) == Refusal("circuit_open", 11.0)
    circuit.hold(State.OPEN, 10.0)
    assert circuit.permit(20.0) == Refusal("circuit_open", 30.0)
