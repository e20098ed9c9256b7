"""A gate in shadow: it sees everything, decides nothing, and it is counted how right it would have been."""

from __future__ import annotations

import pytest

from guardproxy.core.shadow import Shadow
from guardproxy.core.units import Seconds
from guardproxy.core.values import Fault, Kind, Refusal, Relayed, Target
from guardproxy.guards.breaker import Breaker, Settings, State

LLAMA = Target("llama")
FAILED = Fault(0.0, "upstream_reset", "reset")


def answered(kind: Kind = Kind.SUCCESS) -> Relayed:
    return Relayed(0.0, 200, [], kind)


def breaker(**settings) -> Breaker:
    return Breaker(Settings(minimum_requests=2, timeout=Seconds(10), success_threshold=1, **settings), ["llama"])


def attempt(gate, outcome, now):
    """Make an attempt whatever the gate says, as `Rules` would; its news."""
    token = gate.permit(LLAMA, now)
    assert type(token) is not Refusal
    return [(news.what, news.old, news.new) for news in gate.observe(LLAMA, token, outcome, now) or ()]


def state(gate: Shadow) -> State:
    inner = gate.inner
    assert isinstance(inner, Breaker)
    return inner.circuits["llama"].state


def opened() -> Shadow:
    gate = Shadow(breaker())
    assert attempt(gate, FAILED, 1.0) == []
    assert attempt(gate, FAILED, 2.0) == [("shadow circuit", "closed", "open")]
    return gate


def test_an_open_gate_lets_everything_pass():
    """It says so in words that no other guard acts on."""
    gate = opened()
    assert gate.available("llama", 3.0)
    assert attempt(gate, answered(), 3.0) == []
    assert gate.would.opened == 1


@pytest.mark.parametrize(
    "outcome, spared, lost",
    [
        (FAILED, 1, 0),
        (answered(Kind.SLOW), 1, 0),
        (answered(), 0, 1),
        (answered(Kind.IGNORED), 0, 0),
        (None, 0, 0),
    ],
)
def test_how_right_it_would_have_been(outcome, spared, lost):
    """What it would have refused is compared to what became of it; who left says nothing."""
    gate = opened()
    attempt(gate, outcome, 3.0)
    would = gate.would
    assert (would.permitted, would.refused, would.spared, would.lost) == (2, 1, spared, lost)


def test_what_it_would_have_refused_it_is_not_told():
    """Else it would learn what it could not know if it were heeded; it closes by its own probes."""
    gate = opened()
    attempt(gate, answered(), 3.0)
    assert state(gate) is State.OPEN
    assert attempt(gate, answered(), 13.0) == [
        ("shadow circuit", "open", "half_open"),
        ("shadow circuit", "half_open", "closed"),
    ]


def test_lateness_is_told_where_it_would_have_permitted():
    gate = Shadow(breaker(slow_first_token=1, slow_threshold=0.5))
    token = gate.permit(LLAMA, 1.0)
    gate.late(LLAMA, token, 3.0)
    gate = opened()
    assert gate.late(LLAMA, gate.permit(LLAMA, 3.0), 5.0)[1] == ()


def test_it_is_inherited_both_ways():
    """Turned on, it knows what it knew in shadow; put into shadow, it goes on counting."""
    old = opened()
    heir = Shadow(breaker())
    heir.inherit(old)
    assert heir.would is old.would
    assert state(heir) is State.OPEN
    heir.inherit(breaker())
    assert state(heir) is State.CLOSED
    other = Shadow(breaker())
    other.name = "throttle"
    heir.inherit(other)
    assert heir.would is old.would


def test_its_condition_can_be_seen():
    shown = opened().state(3.0)
    assert shown["shadow"] is True
    assert shown["would"] == {"permitted": 2, "refused": 0, "spared": 0, "lost": 0, "opened": 1}
    assert shown["gate"]["llama"]["state"] == "open"
