"""The limit on calls at once, against a reference that knows which places are taken."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardproxy.core.limiter import Limiter, Slot, sized
from guardproxy.core.line import Ticket
from guardproxy.core.values import Kind, Refusal


@dataclass(frozen=True)
class Tuned:
    """The settings of a limiter; smaller than the configuration's."""

    floor: int = 2
    ceiling: int = 6
    initial: int = 3
    tolerance: float = 3.0
    queue: int = 3
    queue_seconds: float = 5.0


KINDS = st.sampled_from([Kind.SUCCESS, Kind.SLOW, Kind.FAILURE, Kind.THROTTLED, Kind.IGNORED, None])


class Machine(RuleBasedStateMachine):
    """Places are taken by callers or given to those in the line, and come back exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = Limiter(Tuned())
        self.now = 0.0
        self.slots: list[Slot] = []
        self.tickets: list[Ticket] = []

    @rule(seconds=st.sampled_from([0.0, 0.2, 1.0, 4.0, 70.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(batch=st.booleans())
    def call(self, batch):
        free = self.limiter.taken < int(self.limiter.limit) and not self.limiter.line
        assert self.limiter.available(self.now) is free
        got = self.limiter.permit(self.now)
        assert isinstance(got, Slot) is free
        if isinstance(got, Slot):
            self.slots.append(got)
        else:
            assert got.line is self.limiter.line
            ticket = got.line.join(self.now, batch=batch)
            if ticket is not None:
                self.tickets.append(ticket)
                ticket.wake = lambda: self.called(ticket)

    def called(self, ticket):
        self.tickets.remove(ticket)
        if ticket.token is not None:
            self.slots.append(ticket.token)

    @rule(
        which=st.integers(0, 5),
        kind=KINDS,
        first=st.sampled_from([None, 0.01, 0.1, 3.0]),
        size=st.sampled_from([0, 17, 30, 400]),
    )
    def ended(self, which, kind, first, size):
        if which < len(self.slots):
            self.limiter.ended(self.slots.pop(which), kind, first, self.now, size)

    @rule(which=st.integers(0, 5))
    def late(self, which):
        if which < len(self.slots):
            self.limiter.fall(self.slots[which], self.now)

    @rule(waiting=st.sampled_from([0, 0, 7]))
    def hears(self, waiting):
        self.limiter.hear(waiting, self.now)

    @rule(which=st.integers(0, 2))
    def leaves(self, which):
        if which < len(self.tickets):
            self.tickets.pop(which).leave()

    @rule()
    def tick(self):
        self.limiter.line.expire(self.now)
        self.limiter.serve(self.now)

    @invariant()
    def every_place_is_somebodys(self):
        assert self.limiter.taken == len(self.slots)
        assert len(self.limiter.line) == len(self.tickets)
        assert 2 <= self.limiter.limit <= 6

    @invariant()
    def nobody_waits_for_ever(self):
        """Once all who have a place are gone, all who wait are served or sent away."""
        if self.tickets and not self.slots:
            self.limiter.serve(self.now)
            assert not self.tickets or len(self.slots) == int(self.limiter.limit)


TestLimiter = Machine.TestCase
TestLimiter.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def taken(limiter: Limiter, now: float = 0.0) -> Slot:
    slot = limiter.permit(now)
    assert isinstance(slot, Slot)
    return slot


def filled(limiter: Limiter, now: float = 0.0) -> list[Slot]:
    slots = []
    while isinstance(slot := limiter.permit(now), Slot):
        slots.append(slot)
    return slots


def test_it_grows_where_it_is_used():
    """One more for each round of full use that goes well; where half of it lies idle it stays as it is."""
    limiter = Limiter(Tuned())
    for slot in filled(limiter):
        limiter.ended(slot, Kind.SUCCESS, 0.1, 1.0)
    assert limiter.limit == pytest.approx(3 + 1 / 3 + 0.3)  # the last one left more than half of it idle
    idle = Limiter(Tuned(initial=6, ceiling=20))
    for _ in range(50):
        idle.ended(taken(idle), Kind.SUCCESS, 0.1, 1.0)
    assert idle.limit == 6


@pytest.mark.parametrize("kind, first", [(Kind.SUCCESS, 0.4), (Kind.SLOW, 9.0), (Kind.THROTTLED, None)])
def test_it_falls_once_for_a_heap(kind, first):
    """Ten that come back late at once say one thing, not ten."""
    limiter = Limiter(Tuned(initial=6))
    limiter.ended(taken(limiter), Kind.SUCCESS, 0.1, 0.5)
    slots = filled(limiter, 1.0)
    for slot in slots:
        limiter.ended(slot, kind, first, 2.0)
    assert limiter.limit == pytest.approx(6 * 0.9, abs=0.2)


def test_the_upstream_says_so_itself():
    """Where calls wait within it the limit falls, a step a second, and does not grow until they do not."""
    limiter = Limiter(Tuned(initial=6))
    limiter.hear(3, 0.0)
    limiter.hear(3, 0.5)
    assert limiter.limit == pytest.approx(5.4)
    slots = filled(limiter, 0.6)
    for slot in slots:
        limiter.ended(slot, Kind.SUCCESS, 0.1, 1.0)
    assert limiter.limit == pytest.approx(5.4)
    limiter.hear(0, 1.5)
    for slot in filled(limiter, 1.6):
        limiter.ended(slot, Kind.SUCCESS, 0.1, 2.0)
    assert limiter.limit > 5.4


def test_what_is_good_is_learnt_anew():
    """A model that has become slower for good is measured by what it is now, after a minute or two."""
    limiter = Limiter(Tuned())
    limiter.ended(taken(limiter), Kind.SUCCESS, 0.1, 0.0)
    for at in (70.0, 140.0, 141.0):
        limiter.ended(taken(limiter, at), Kind.SUCCESS, 2.0, at)
    fallen = limiter.limit
    limiter.ended(taken(limiter, 142.0), Kind.SUCCESS, 2.0, 142.0)
    assert limiter.limit == fallen


def test_pressed():
    """How long nobody has found a place at once; nought again as soon as there is one."""
    limiter = Limiter(Tuned(floor=1, initial=1))
    slot = taken(limiter)
    assert limiter.pressed(1.0) == 0.0
    assert isinstance(limiter.permit(1.0), Refusal)
    assert limiter.pressed(11.0) == 10.0
    limiter.ended(slot, Kind.SUCCESS, None, 12.0)
    assert limiter.pressed(12.0) == 0.0
    assert repr(limiter) == "<Limiter 0/2.0, 0 waiting>"


@given(st.integers(1, 30))
def test_it_finds_what_a_model_bears(bears):
    """A model that queues above *bears* calls at once is sent about as many, after some rounds."""
    limiter = Limiter(Tuned(floor=1, ceiling=64, initial=32))
    now, sent = 0.0, []
    for _ in range(300):
        slots = filled(limiter, now)
        sent.append(len(slots))
        rounds = max(1.0, len(slots) / bears)
        now += rounds
        for place, slot in enumerate(slots):
            limiter.ended(slot, Kind.SUCCESS, 0.2 if place < bears else 0.2 + rounds, now)
    settled = sent[-100:]
    assert bears * 0.7 <= sum(settled) / len(settled) <= bears * 1.6 + 2


def test_the_line_gets_no_more_than_there_is():
    """Those who wait are called to free places alone, and who is refused hears when to come again."""
    limiter = Limiter(Tuned())
    slots = filled(limiter, 7.0)
    refusal = limiter.permit(7.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.until, refusal.line) == ("overloaded", 8.0, limiter.line)
    tickets = [limiter.line.join(7.0, batch=False) for _ in range(3)]
    limiter.serve(7.0)
    assert limiter.taken == 3
    limiter.ended(slots[0], Kind.IGNORED, None, 8.0)
    assert limiter.taken == 3
    assert [ticket is not None and ticket.token is not None for ticket in tickets] == [True, False, False]


def test_what_is_too_late():
    """Three times the best, and a little, is still good; a hair more is not."""
    for seconds, falls in ((0.35, False), (0.351, True)):
        limiter = Limiter(Tuned(initial=6))
        limiter.ended(taken(limiter), Kind.SUCCESS, 0.1, 1.0)
        limiter.ended(taken(limiter, 1.0), Kind.SUCCESS, seconds, 2.0)
        assert (limiter.limit < 6) is falls


@given(st.integers(1, 20), st.lists(st.integers(1, 500), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_it_finds_what_a_model_bears_without_streams(bears, lengths):
    """Answers in one piece, of any length, from a model that queues above *bears*: few more, and none idle."""
    limiter = Limiter(Tuned(floor=1, ceiling=64, initial=32))
    free, now, sent = [0.0] * bears, 0.0, []
    under_way: list[tuple[float, int, Slot, int]] = []
    for number in range(3000):
        for slot in filled(limiter, now):
            length = lengths[(number + len(under_way)) % len(lengths)]
            begins = max(now, heapq.heappop(free))
            heapq.heappush(free, begins + 0.3 + 0.02 * length)
            heapq.heappush(under_way, (begins + 0.3 + 0.02 * length, id(slot), slot, length))
        now, _, slot, length = heapq.heappop(under_way)
        limiter.ended(slot, Kind.SUCCESS, None, now, sized(300, length))
        sent.append(len(under_way) + 1)
    settled = sent[-1000:]
    assert bears * 0.7 <= sum(settled) / len(settled) <= bears * 5 + 3


def test_a_whole_answer_is_held_against_those_of_its_size():
    """A long one takes long; a short one that takes as long stood in a queue. Unknown sizes say nothing."""
    limiter = Limiter(Tuned(initial=6))
    limiter.ended(taken(limiter), Kind.SUCCESS, None, 1.0, sized(10, 34))
    limiter.ended(taken(limiter), Kind.SUCCESS, None, 10.0, sized(10, 484))
    limiter.ended(taken(limiter, 10.0), Kind.SUCCESS, None, 99.0, 0)
    assert limiter.limit == 6
    for size, seconds, falls in ((50, 3.04, False), (50, 3.06, True), (500, 30.04, False), (500, 30.06, True)):
        before = limiter.limit = 6.0
        limiter.ended(taken(limiter, 100.0), Kind.SUCCESS, None, 100.0 + seconds, size)
        assert (limiter.limit < before) is falls, (size, seconds)
        limiter._fell = 0.0


def test_what_a_size_is():
    """Tokens of the answer, a thirty-second of the prompt's, and what does not depend on either."""
    assert [sized(0, 0), sized(0, 1), sized(320, 0), sized(320, 100)] == [0, 17, 26, 126]


def test_who_waits_in_vain():
    """Callers who leave after longer than the longest answer may take have stood in a queue; in a stream they read."""
    limiter = Limiter(Tuned(initial=6))
    limiter.ended(taken(limiter), None, None, 500.0)
    assert limiter.limit == 6  # nothing is known yet
    limiter.ended(taken(limiter, 500.0), Kind.SUCCESS, None, 505.0, 50)
    limiter.ended(taken(limiter, 505.0), None, None, 505.0 + 6.4 * 3)  # 64 are the most of the size of 50
    assert limiter.limit == 6
    limiter.ended(taken(limiter, 505.0), None, None, 505.0 + 6.4 * 3 + 0.06)
    assert limiter.limit < 6
    before = limiter.limit
    limiter.ended(taken(limiter, 530.0), Kind.SUCCESS, 0.1, 531.0)
    limiter.ended(taken(limiter, 532.0), None, None, 592.0)
    assert limiter.limit >= before
    limiter.ended(taken(limiter, 593.0), None, None, 653.0)
    assert limiter.limit >= before  # what was measured two minutes ago holds no more
