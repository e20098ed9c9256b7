"""When a second upstream is asked, and how often at the most."""

from __future__ import annotations

import pytest

from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Fault, Kind, Relayed, Target
from guardproxy.guards.hedge import SPEC, Hedge, Settings

A = Target("a")
FAST = Settings(enabled=True, least_seconds=Seconds(0))


def began(guard: Hedge, seconds: float, now: float = 0.0) -> None:
    """A stream of upstream a whose first event took so long."""
    token = guard.permit(A, now)
    guard.observe(A, token, Relayed(now + 99, 200, [], Kind.SUCCESS, first=now + seconds), now + 99)


def known(settings: Settings = FAST) -> Hedge:
    """One that knows that first tokens take 0.01 to 1 s."""
    guard = Hedge(settings, ["a", "b"])
    for hundredth in range(1, 101):
        began(guard, hundredth / 100)
    return guard


def test_nobody_is_asked_second_before_enough_is_known():
    guard = Hedge(FAST, ["a", "b"])
    for _ in range(19):
        began(guard, 0.1)
    assert guard.hedge("a") is None
    began(guard, 0.1)
    assert guard.hedge("a") == 0.1
    assert guard.hedge("b") is None


def test_after_almost_all_have_begun():
    """Nineteen of twenty begin sooner; and nobody is hurried more than the least."""
    assert known().hedge("a") == pytest.approx(0.96)
    assert known(Settings(quantile=0.5, least_seconds=Seconds(0))).hedge("a") == pytest.approx(0.51)
    assert known(Settings(least_seconds=Seconds(2))).hedge("a") == 2.0


def test_only_what_tells_of_a_first_token():
    """Answers in one piece and failures say nothing of it; one that was hung up on had not begun by then."""
    guard = known()
    for outcome in (Answer(9.0, 200, [], b"", first=9.0), Fault(9.0, "x", "y"), Relayed(9.0, 200, [], Kind.SUCCESS)):
        for _ in range(40):
            guard.observe(A, guard.permit(A, 0.0), outcome, 9.0)
    assert guard.hedge("a") == pytest.approx(0.96)
    for _ in range(20):
        guard.observe(A, guard.permit(A, 0.0), None, 3.0)
    after = guard.hedge("a")
    assert after == 3.0


def test_the_budget():
    """One call in twenty at the most, and no more than a few saved up."""
    guard = known()
    assert [guard.hedged("b") for _ in range(7)] == [True] * 5 + [False] * 2
    assert guard.hedge("a") is None
    for _ in range(19):
        guard.permit(A, 0.0)
    assert not guard.hedged("b")
    guard.permit(A, 0.0)
    assert guard.hedged("b")
    assert guard.made == {"a": 0, "b": 6}
    assert guard.state(0.0)["b"] == {"after": None, "made": 6}


def test_inherited():
    """A reload keeps what is known, and the count."""
    old = known()
    old.hedged("b")
    new = Hedge(FAST, ["a", "b"])
    new.inherit(old)
    assert new.made["b"] == 1
    began(new, 0.5)
    assert new.hedge("a") is None  # its own budget has to be earned
    for _ in range(20):
        new.permit(A, 0.0)
    assert new.hedge("a") == pytest.approx(0.95)
    assert SPEC.key == "hedge"


def test_another_server_has_other_first_tokens():
    """What was counted is kept, what was timed is not."""
    old = known()
    old.hedged("b")
    new = Hedge(FAST, ["a", "b"])
    new.inherit(old, frozenset("a"))
    began(new, 0.5)
    for _ in range(20):
        new.permit(A, 0.0)
    assert new.hedge("a") is None
    assert new.made["b"] == 1


def test_it_counts_from_the_permit():
    """How long a first event took does not depend on the time of day; a caller gone at once says nothing."""
    guard = Hedge(FAST, ["a", "b"])
    for number in range(20):
        began(guard, 0.3, 1000.0 + number)
    assert guard.hedge("a") == pytest.approx(0.3)
    assert guard.state(0.0)["a"] == {"after": pytest.approx(0.3), "made": 0}
    for number in range(19):
        guard.observe(A, guard.permit(A, 2000.0 + number), None, 2002.0 + number)
    assert guard.hedge("a") == pytest.approx(0.3)
    guard.observe(A, guard.permit(A, 3000.0), None, 3000.0)
    assert guard.hedge("a") == pytest.approx(0.3)
    guard.observe(A, guard.permit(A, 3000.0), None, 3002.0)
    assert guard.hedge("a") == pytest.approx(2.0)
