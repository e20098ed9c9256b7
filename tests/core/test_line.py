"""Who is next, who waits too long, who gives his place to somebody in a hurry."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardproxy.core.line import STANDING, Line, Ticket

PATIENCE = 5.0
MOST = 4


class Machine(RuleBasedStateMachine):
    """The reference: a list of those who wait; everybody who joined is called, sent away or has left, once."""

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(MOST, PATIENCE)
        self.now = 0.0
        self.waiting: list[Ticket] = []
        self.told: dict[Ticket, int] = {}
        self.called: set[Ticket] = set()

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.4, 1.0, 3.0, 6.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(batch=st.booleans())
    def join(self, batch):
        full = len(self.waiting) >= MOST
        given_up = [ticket for ticket in self.waiting if ticket.batch]
        ticket = self.line.join(self.now, batch=batch)
        if full and (batch or not given_up):
            assert ticket is None
            return
        assert ticket is not None
        if full:
            assert self.told[given_up[-1]] == 1
            self.waiting.remove(given_up[-1])
        self.told[ticket] = 0
        ticket.wake = lambda: self.told.update({ticket: self.told[ticket] + 1})
        self.waiting.append(ticket)

    @rule(which=st.integers(0, 3))
    def leave(self, which):
        if which < len(self.waiting):
            self.waiting.pop(which).leave()

    @rule()
    def next(self):
        standing = self.line.standing(self.now)
        allowed = PATIENCE * (STANDING if standing else 1.0)
        stay = [ticket for ticket in self.waiting if self.now - ticket.since <= allowed]
        ticket = self.line.next(self.now)
        assert all(self.told[gone] == 1 for gone in self.waiting if gone not in stay)
        self.waiting = stay
        if ticket is None:
            assert not stay
            return
        hurried = [one for one in stay if not one.batch] or stay
        assert ticket is (hurried[-1] if standing and self.line_still(stay) else hurried[0])
        self.waiting.remove(ticket)
        self.called.add(ticket)

    def line_still(self, stay):
        """Whether it was a standing line when its next was chosen: not if expiry has emptied it."""
        return bool(stay)

    @rule()
    def expire(self):
        allowed = PATIENCE * (STANDING if self.line.standing(self.now) else 1.0)
        self.line.expire(self.now)
        self.waiting = [ticket for ticket in self.waiting if self.now - ticket.since <= allowed]

    @invariant()
    def agrees(self):
        assert len(self.line) == len(self.waiting) <= MOST
        assert all(self.told[ticket] == 0 for ticket in self.waiting)
        assert all(times <= 1 for times in self.told.values())


TestLine = Machine.TestCase
TestLine.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def test_a_burst_is_served_in_order():
    """First come, first served, those in a hurry before batch work."""
    line = Line(9, PATIENCE)
    batch = line.join(0.0, batch=True)
    first, second = line.join(0.1, batch=False), line.join(0.2, batch=False)
    assert [line.next(1.0) for _ in range(4)] == [first, second, batch, None]
    assert repr(line) == "<Line of 0, 0 sent away>"


def test_a_standing_line_serves_the_newest():
    """Who has waited in a line that does not get empty waits for nothing: the newest is served, the old sent away."""
    line = Line(9, PATIENCE)
    tickets = [line.join(at, batch=False) for at in (0.0, 4.8, 4.9, 5.05)]
    assert line.standing(5.1)
    assert line.next(5.1) is tickets[3]
    assert line.dropped == 1


def test_nobody_waits_longer_than_he_may():
    """A line that nobody serves sends everybody away in time."""
    line = Line(9, PATIENCE)
    line.join(0.0, batch=False)
    line.expire(5.1)
    assert len(line) == 0


def test_who_is_counted():
    """Each who is sent away, or finds no room, is counted once."""
    line = Line(1, PATIENCE)
    line.join(0.0, batch=True)
    assert line.join(0.0, batch=True) is None
    assert line.dropped == 1
    assert line.join(0.0, batch=False) is not None
    assert line.dropped == 2
    line.expire(PATIENCE)
    assert (len(line), line.dropped) == (1, 2)
    line.expire(PATIENCE + 0.1)
    assert (len(line), line.dropped) == (0, 3)


def test_an_emptied_line_is_no_standing_one():
    """Every burst begins anew: what was served before it does not count against it."""
    line = Line(9, PATIENCE)
    line.join(0.0, batch=False)
    assert line.next(4.0) is not None
    line.join(4.0, batch=False)
    assert not line.standing(9.0)
    assert line.standing(9.1)
    assert Line(1, 1.0, "other").gate == "other"
    ticket = line.join(9.0, batch=False)
    assert ticket is not None
    assert (ticket.gate, ticket.token) == ("load", None)


def test_a_burst_may_wait_all_of_its_time():
    """A tenth of the patience is for a standing line alone; served empty, it is none."""
    line = Line(9, PATIENCE)
    line.join(0.0, batch=False)
    line.expire(4.0)
    assert len(line) == 1
    line.join(4.9, batch=False)
    assert line.next(4.95) is not None
    line.expire(5.0)
    assert len(line) == 1
    line.expire(5.5)
    assert len(line) == 0
    line.expire(50.0)
    line.join(50.0, batch=False)
    assert not line.standing(54.0)
    for _ in range(9):
        line.join(54.0, batch=True)
    assert line.dropped == 2


@pytest.mark.parametrize(
    "waiting, hurried, patient",
    [((), False, False), ((True, True), False, True), ((False, True), False, True), ((False, False), True, True)],
)
def test_full_is_who_cannot_join(waiting, hurried, patient):
    """One in a hurry finds room as long as batch work waits; asking changes nothing."""
    line = Line(2, PATIENCE)
    for batch in waiting:
        line.join(0.0, batch=batch)
    assert (line.full(batch=False), line.full(batch=True)) == (hurried, patient)
    assert (len(line), line.dropped) == (len(waiting), 0)
    assert (line.join(0.0, batch=True) is None) is patient
