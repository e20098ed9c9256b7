"""The circuit of an upstream, against a reference that keeps every mark and every probe.

The rules that other breakers break (cancelled probes that close, hung probes that wedge, stampedes of probes,
outcomes of another time that count) each have a test of their own as well.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Fault, Kind, Refusal, Target
from guardproxy.guards.breaker import SPEC, Breaker, Circuit, Override, Permit, Settings, State, effective

LEASE = 25.0
SETTINGS = Settings(
    failure_threshold=0.5,
    success_threshold=2,
    timeout=Seconds(10),
    half_open_requests=2,
    minimum_requests=3,
    window=Seconds(30),
)
BAD = (Kind.FAILURE, Kind.SLOW)
OUTCOMES = st.sampled_from([*Kind, None])


def opened(now: float = 0.0, lease: float = LEASE, **more) -> Circuit:
    """A circuit that has just opened."""
    circuit = Circuit(Settings(minimum_requests=1, timeout=Seconds(10), **more), lease)
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
    def permit(self):
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
    circuit = Circuit(Settings(failure_threshold=bad / total, minimum_requests=total))
    for number in range(total):
        assert circuit.state is State.CLOSED
        circuit.observe(probe(circuit, 0.0), Kind.SUCCESS if number < total - bad else Kind.FAILURE, 0.0)
    assert circuit.state is State.OPEN


def test_no_verdict_on_few():
    """One failure at night is no outage: nothing opens on fewer attempts than `minimum_requests`."""
    circuit = Circuit(Settings(minimum_requests=5))
    for _ in range(4):
        circuit.observe(probe(circuit, 0.0), Kind.FAILURE, 0.0)
    assert circuit.state is State.CLOSED
    assert circuit.observe(probe(circuit, 0.0), Kind.FAILURE, 0.0) is State.CLOSED
    assert circuit.state is State.OPEN
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
    circuit = Circuit(Settings(minimum_requests=1, success_threshold=1, timeout=Seconds(10)))
    early = [probe(circuit, 0.0) for _ in range(4)]
    circuit.observe(early[0], Kind.FAILURE, 1.0)
    assert circuit.observe(early[1], Kind.SUCCESS, 2.0) is None
    assert circuit.until == 11.0
    probe(circuit, 11.0)
    assert circuit.observe(early[2], Kind.SUCCESS, 12.0) is None
    assert circuit.observe(early[3], Kind.FAILURE, 12.0) is None
    assert circuit.state is State.HALF_OPEN


def test_a_4xx_is_not_the_models_failure():
    """A client that sends nonsense all night does not take a healthy model down for the others (sglang)."""
    breaker = Breaker(Settings(minimum_requests=1), ["a"])
    target = Target("a")
    for _ in range(50):
        token = breaker.permit(target, 0.0)
        assert breaker.observe(target, token, Answer(0.0, 400, [], b"", Kind.IGNORED), 0.0) is None
    assert breaker.state(0.0)["a"]["attempts"] == 0


def test_a_sidecar_has_little_traffic():
    """Five failures in a minute are enough: there will not be a hundred."""
    circuit = Circuit(Settings())
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


def test_by_hand():
    """Held open nobody passes, however long; held closed everybody does, however bad; let go, it lives on."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    news = breaker.hold("a", State.OPEN, 5.0)
    assert news is not None
    assert (news.what, news.subject, news.old, news.new, news.reason, news.until) == (
        "circuit",
        "a",
        "closed",
        "open",
        "by hand",
        15.0,
    )
    assert isinstance(breaker.permit(Target("a"), 9999.0), Refusal)
    assert not breaker.due("a", 9999.0)
    assert breaker.state(6.0)["a"]["held"] == "open"
    assert breaker.hold("a", None, 20.0) is None
    assert breaker.due("a", 20.0)
    assert breaker.hold("a", State.CLOSED, 20.0) is not None
    breaker.observe(Target("a"), breaker.permit(Target("a"), 20.0), Fault(20.0, "x", "y"), 20.0)
    assert breaker.available("a", 20.0)
    assert not breaker.due("a", 20.0)


def test_news_of_a_lost_probe():
    """What happens without a call is told as well."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a", "b"], lease=30.0)
    breaker.tell("a", breaker.circuits["a"].permit(0.0), Kind.FAILURE, 0.0)  # type: ignore[arg-type] # it is closed: a permit
    breaker.permit(Target("a"), 10.0)
    assert list(breaker.tick(39.0)) == []
    (news,) = breaker.tick(40.0)
    assert (news.subject, news.old, news.new, news.until) == ("a", "half_open", "open", 50.0)
    assert list(breaker.tick(40.0)) == []


def test_one_models_override():
    """`models` changes what it names, for that model alone."""
    settings_ = Settings(models={"qwen": Override(failure_threshold=0.4, timeout=Seconds(5))})
    mine = effective(settings_, "qwen")
    assert (mine.failure_threshold, mine.timeout, mine.window) == (0.4, 5, 60)
    assert effective(settings_, "llama") is settings_
    assert Breaker(settings_, ["qwen"]).state(0.0)["qwen"]["settings"]["failure_threshold"] == 0.4


def test_state_for_people():
    """What `/guard/state` shows of an open circuit, and that looking at it changes nothing."""
    circuit = opened(now=5.0)
    breaker = Breaker(circuit.settings, ["a"])
    breaker.circuits["a"] = circuit
    told = breaker.state(8.0)["a"]
    assert (told["state"], told["due_in"], told["attempts"]) == ("open", 7.0, 0)
    assert breaker.state(99.0)["a"]["state"] == "open"  # until a probe is admitted
    assert breaker.due("a", 99.0)
    assert SPEC.key == "circuit_breaker"
