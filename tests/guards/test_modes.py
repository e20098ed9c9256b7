"""The mode ceiling, and the places that a call may go to."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from guardproxy.core.units import Seconds
from guardproxy.core.values import Call, News, Record, Reply
from guardproxy.guards.modes import Ceiling, Mode, Modes, Settings
from tests.flow.playbook import NEVER, House, code, header

UPSTREAMS = ["a", "b", "c"]
SETTINGS = Settings(recovery_seconds=Seconds(60), dwell_seconds=Seconds(30))
REST = 60.0
"""Seconds after which a rise is due, here."""


class Machine(RuleBasedStateMachine):
    """The reference: who is ill, since when everybody is well, and when the ceiling changed last, and whither."""

    def __init__(self) -> None:
        super().__init__()
        self.ceiling = Ceiling(UPSTREAMS, SETTINGS)
        self.now = 0.0
        self.ill: set[str] = set()
        self.well = dict.fromkeys(UPSTREAMS, float("-inf"))
        self.at = 0
        self.changed = float("-inf")
        self.fell = False

    @rule(seconds=st.sampled_from([0.0, 1.0, 29.0, 30.0, 59.0, 60.0, 200.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule(name=st.sampled_from(UPSTREAMS))
    def falls_ill(self, name):
        self.ceiling.falls_ill(name, "circuit_open")
        self.ill.add(name)

    @rule(name=st.sampled_from(UPSTREAMS))
    def gets_well(self, name):
        self.ceiling.gets_well(name, self.now)
        if name in self.ill:
            self.ill.discard(name)
            self.well[name] = self.now

    @rule()
    def move(self):
        rises_in = self.ceiling.rises_in(self.now)
        step = self.ceiling.move(self.now)
        dwelt = self.now - self.changed >= SETTINGS.dwell_seconds
        above = UPSTREAMS[self.at - 1]
        if UPSTREAMS[self.at] in self.ill:
            expected = 1 if self.at < 2 and (dwelt or self.fell) else 0
        elif self.at and above not in self.ill and self.now - max(self.changed, self.well[above]) >= REST:
            expected = -1
            assert rises_in == 0.0
        else:
            expected = 0
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
        if self.ceiling.held is not None:
            assert self.ceiling.reason == "manual"
        else:
            assert bool(self.ceiling.reason) is bool(self.at)

    @invariant()
    def the_top_is_always_within_reach(self):
        """Once all are well, and have been for long enough, the ceiling is at the top."""
        again = Ceiling(UPSTREAMS, SETTINGS)
        for name in again.__slots__:
            value = getattr(self.ceiling, name)
            setattr(again, name, dict(value) if isinstance(value, dict) else value)
        now = self.now
        for name in UPSTREAMS:
            again.gets_well(name, now)
        for _ in range(2):
            now += REST
            again.move(now)
        assert again.own == 0


TestCeiling = Machine.TestCase
TestCeiling.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def circuit(subject: str, new: str, now: float) -> News:
    return News(now, "circuit", subject, "closed", new)


def modes(sick: set[str] | None = None, due: set[str] | None = None, **how) -> Modes:
    """Three modes on upstreams a, b and c; those in *sick* are unavailable."""
    names = {"high": Mode("a"), "middle": Mode("b"), "low": Mode("c")}
    return Modes(
        how.pop("settings", SETTINGS),
        names,
        {name: f"{name}-id" for name in "abcd"},
        available=lambda upstream, _now: upstream not in (sick or ()),
        due=lambda upstream, _now: upstream in (due or ()),
        **how,
    )


def test_a_fall_and_a_rise():
    """Down at once when the circuit opens, up by one step a minute after it has closed."""
    guard = modes()
    news = guard.hear(circuit("a", "open", 100.0), 100.0)
    assert news is not None
    assert (news.old, news.new, news.reason) == ("high", "middle", "circuit_open")
    assert guard.state(100.0)["rises_in"] is None
    assert guard.hear(circuit("a", "closed", 130.0), 130.0) is None
    assert guard.state(150.0) == {
        "ceiling": "middle",
        "modes": ["high", "middle", "low"],
        "reason": "circuit_open",
        "held": False,
        "rises_in": 40.0,
    }
    assert list(guard.tick(189.0)) == []
    (news,) = guard.tick(190.0)
    assert (news.old, news.new) == ("middle", "high")
    assert guard.state(190.0)["reason"] is None


def test_only_the_ceilings_own_upstream_counts():
    """A lower mode's outage does not take the higher ones down; the fall comes when it matters, all the way."""
    guard = modes()
    assert guard.hear(circuit("b", "open", 1.0), 1.0) is None
    first = guard.hear(circuit("a", "open", 2.0), 2.0)
    assert first is not None
    second = guard.hear(first, 2.0)  # the story lets it hear its own news
    assert second is not None
    assert guard.hear(second, 2.0) is None
    assert [first.new, second.new] == ["middle", "low"]


def test_no_flapping():
    """Right after a rise the ceiling stays for `dwell_seconds`; then it falls without being asked."""
    guard = modes()
    guard.hear(circuit("a", "open", 0.0), 0.0)
    guard.hear(circuit("a", "closed", 1.0), 1.0)
    assert len(list(guard.tick(61.0))) == 1
    assert guard.hear(circuit("a", "open", 62.0), 62.0) is None
    assert list(guard.tick(90.0)) == []
    assert [news.new for news in guard.tick(91.0)] == ["middle"]


def test_by_hand():
    """Held, the ceiling stands there; what happens meanwhile is heeded when it is let go."""
    guard = modes()
    news = guard.hold("low", 1.0)
    assert news is not None
    assert (news.old, news.new, news.reason) == ("high", "low", "manual")
    assert guard.hold("low", 1.0) is None
    assert guard.hear(circuit("a", "open", 2.0), 2.0) is None
    assert list(guard.tick(3.0)) == []
    assert guard.hold(None, 4.0) is not None
    assert [one.new for one in guard.tick(4.0)] == ["middle"]


def test_the_ceiling_can_be_left_to_people():
    """`auto_downshift: false`: circuits open, the ceiling stays, and calls stay where they were sent."""
    guard = modes(automatic=False)
    assert guard.hear(circuit("a", "open", 1.0), 1.0) is None
    assert list(guard.tick(1.0)) == []
    call = admitted(guard, mode="high", upstream="a")
    assert [target.mode for target in call.targets] == ["high"]


def admitted(guard: Modes, *, mode: str | None, upstream: str, **more) -> Call:
    """A call for *mode*, admitted."""
    house = House()
    call = house.read()
    assert isinstance(call, Call)
    call.mode, call.upstream = mode, upstream
    for name, value in more.items():
        setattr(call, name, value)
    result = guard.admit(call, Record(0.0), 0.0)
    assert isinstance(result, Call)
    return result


@pytest.mark.parametrize(
    "sick, due, asked, order",
    [
        ("", "", "high", "high middle low"),
        ("", "", "middle", "middle low high"),
        ("", "", "low", "low middle high"),
        ("a", "", "high", "middle low high"),
        ("ab", "", "high", "low high middle"),
        ("b", "", "middle", "low high middle"),
        ("bc", "", "middle", "high middle low"),
        ("c", "", "low", "middle high low"),
        ("abc", "", "high", "high middle low"),
    ],
)
def test_the_effective_mode(sick, due, asked, order):
    """The highest available one at or below what was asked for; none below: the nearest above; none: as asked."""
    guard = modes(set(sick), set(due))
    upstream = {"high": "a", "middle": "b", "low": "c"}[asked]
    places = admitted(guard, mode=asked, upstream=upstream).targets
    assert [target.mode for target in places] == order.split()
    assert [target.moved_from for target in places] == ["" if target.mode == asked else asked for target in places]


def test_below_the_ceiling():
    """While the ceiling is down, a call for more gets what there is, and is told why; a due circuit gets its probe."""
    guard = modes()
    guard.hear(circuit("a", "open", 0.0), 0.0)
    places = admitted(guard, mode="high", upstream="a").targets
    assert (places[0].mode, places[0].reason) == ("middle", "circuit_open")
    assert admitted(guard, mode="low", upstream="c").targets[0].mode == "low"
    guard = modes(set(), {"a"})
    guard.hear(circuit("a", "open", 0.0), 0.0)
    assert admitted(guard, mode="high", upstream="a").targets[0].mode == "high"
    guard.hold("middle", 1.0)
    first = admitted(guard, mode="high", upstream="a").targets[0]
    assert (first.mode, first.reason) == ("middle", "manual")


def test_no_modes():
    """Without modes, and for an upstream that serves none, a call goes where it was sent."""
    guard = Modes(SETTINGS, {}, {"a": "a-id"}, available=lambda _u, _n: True, due=lambda _u, _n: False)
    assert [target.model for target in admitted(guard, mode=None, upstream="a").targets] == ["a-id"]
    assert guard.state(0.0) == {"ceiling": None, "modes": []}
    assert guard.hold(None, 0.0) is None
    assert list(guard.tick(0.0)) == []
    assert guard.hear(circuit("a", "open", 0.0), 0.0) is None
    assert [target.upstream for target in admitted(modes(), mode=None, upstream="d").targets] == ["d"]


def test_never_and_by_hand():
    """A caller who wants no other mode cannot have one that an operator has closed: he hears it at once."""
    house = House()
    house.modes.hold("fast", 0.0)
    reply = house.admit(Record(0.0), b'{"model":"creative"}', headers=NEVER)
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply), header(reply, "x-should-retry")) == (503, "circuit_open", "false")
