"""Who leads, who listens, who is told: against a plain list of people."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from guardproxy.core.flights import Condition, Flights
from guardproxy.core.record import Record
from guardproxy.core.values import Reply

KEYS = st.sampled_from([b"a", b"b"])
LIVE = (Condition.ALONE, Condition.SHARED, Condition.ADOPTED)
REPLY = Reply(200, b"said")


class Somebody:
    """One who listens, and writes down what he is told."""

    def __init__(self):
        self.told = []

    def land(self, reply):
        self.told.append(reply)


class Airport(RuleBasedStateMachine):
    """Everybody who ever came, the flight he is on, and what he should have been told."""

    flights = Bundle("flights")

    def __init__(self):
        super().__init__()
        self.register = Flights()
        self.led = []
        self.aboard = {}
        self.present = set()
        self.owed = {}
        self.hung_up = set()

    @rule(target=flights, key=KEYS)
    def come(self, key):
        """Whoever finds a flight joins it, and whoever finds none leads."""
        flight = self.register.find(key)
        if flight is None:
            flight = self.register.lead(key, Record(0.0))
            self.led.append(flight)
            self.aboard[flight] = []
            self.present.add(flight)
        else:
            assert flight.condition in LIVE
            self.join(flight)
            return multiple()
        return flight

    def join(self, flight):
        somebody = Somebody()
        self.owed[somebody] = []
        flight.join(somebody)
        self.aboard[flight].append(somebody)

    @rule(flight=flights)
    def the_leader_leaves(self, flight):
        if flight in self.present and flight.condition in LIVE:
            self.present.remove(flight)
            self.hangs_up(flight, flight.leader_left())

    @rule(flight=flights, data=st.data())
    def a_listener_leaves(self, flight, data):
        if self.aboard[flight]:
            somebody = data.draw(st.sampled_from(self.aboard[flight]))
            self.aboard[flight].remove(somebody)
            self.hangs_up(flight, flight.leave(somebody))
            assert flight.leave(somebody) is False  # once is enough

    def hangs_up(self, flight, said):
        """Exactly where nobody is left, and only once."""
        nobody = flight not in self.present and not self.aboard[flight]
        assert said is (nobody and flight not in self.hung_up)
        if said:
            self.hung_up.add(flight)

    @rule(flight=consumes(flights), reply=st.sampled_from([REPLY, None]))
    def it_ends(self, flight, reply):
        """Those who are still there are told what came of it; those who have left are not."""
        alive = flight.condition in LIVE
        flight.end(reply)
        flight.end(REPLY)  # a second end is none
        assert flight.condition is (
            Condition.DROPPED if not alive else Condition.FAILED if reply is None else Condition.LANDED
        )
        for somebody in self.aboard[flight]:
            self.owed[somebody].append(reply)
        self.aboard[flight] = []
        self.hung_up.add(flight)
        self.led.remove(flight)

    @rule(flight=flights)
    def it_is_closed(self, flight):
        """An answer that is too long to be held on to: nobody can join, and those who have stay."""
        flight.closed = True
        assert self.register.find(flight.key) is not flight

    @rule()
    def all_are_closed(self):
        """After a purge what was asked before is nobody's answer who asks now."""
        self.register.close_all()
        assert self.register.find(b"a") is None
        assert self.register.find(b"b") is None

    @invariant()
    def everybody_has_been_told_what_he_should_have_been(self):
        for somebody, owed in self.owed.items():
            assert somebody.told == owed

    @invariant()
    def the_condition_says_who_is_there(self):
        for flight in self.led:
            if flight.condition in LIVE:
                there = (flight in self.present, bool(self.aboard[flight]))
                assert (
                    flight.condition
                    is {
                        (True, False): Condition.ALONE,
                        (True, True): Condition.SHARED,
                        (False, True): Condition.ADOPTED,
                    }[there]
                )

    @invariant()
    def one_question_is_on_its_way_once(self):
        """Of those with the same key at most one can be joined."""
        for key in (b"a", b"b"):
            found = self.register.find(key)
            assert found is None or found.condition in LIVE


TestAirport = Airport.TestCase


@given(st.integers(2, 50))
def test_a_failed_leader_has_one_heir(many):
    """Everybody looks again, in the order in which he came: the first leads, all others join him."""
    register = Flights()
    order = []

    class Follower:
        def __init__(self):
            self.leads = None

        def land(self, reply):
            assert reply is None
            order.append(self)

    first = register.lead(b"k", Record(0.0))
    followers = [Follower() for _ in range(many)]
    for follower in followers:
        first.join(follower)
    first.end(None)
    assert order == followers
    leaders = 0
    for follower in order:
        if (flight := register.find(b"k")) is None:
            register.lead(b"k", Record(0.0))
            leaders += 1
        else:
            flight.join(follower)
    assert leaders == 1


def test_it_says_what_it_is():
    """The condition, and how many listen."""
    register = Flights()
    flight = register.lead(b"k", Record(0.0))
    assert (repr(register), repr(flight), len(register)) == ("<Flights 1>", "<Flight alone, 0 listening>", 1)
    flight.join(Somebody())
    assert repr(flight) == "<Flight shared, 1 listening>"
    flight.end(None)
    assert (repr(flight), len(register)) == ("<Flight failed, 0 listening>", 0)
