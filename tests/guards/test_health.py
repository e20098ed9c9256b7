"""The verdict on a model, and what it means for calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import Refusal, Target
from guardproxy.guards.health import DAY, PROVEN, Check, Health, Pulse, Settings


def check(ok: bool, at: float = 1.0) -> Check:
    return Check(at, ok=ok, seconds=0.85, reason="" if ok else "timeout")


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4))
def test_hysteresis(checks, rise, fall):
    """The first check is the verdict; after it `fall` failures in a row make ill, and `rise` successes well."""
    pulse, run = Pulse(Settings(rise=rise, fall=fall)), 0
    verdict: bool | None = None
    for number, ok in enumerate(checks):
        run = run + 1 if number and checks[number - 1] is ok else 1
        before = verdict
        if verdict is None or (verdict and not ok and run >= fall) or (not verdict and ok and run >= rise):
            verdict = ok
        assert pulse.take(check(ok)) is (verdict is not before)
        assert pulse.healthy is verdict


def test_advice():
    """Ill: advised against, softly; unknown or well: nothing to say."""
    health = Health(Settings(), ["a"])
    assert health.permit(Target("a"), 0.0) is None
    assert health.state(0.0)["a"] == {"status": "unknown", "checked": None, "latency_ms": None, "reason": None}
    news = health.take("a", check(ok=False))
    assert news is not None
    assert (news.what, news.subject, news.reason) == ("health", "a", "timeout")
    assert (news.old, news.new) == ("unknown", "unhealthy")
    refusal = health.permit(Target("a"), 2.0)
    assert isinstance(refusal, Refusal)
    assert refusal.soft
    assert not health.available("a", 2.0)
    assert health.state(3.0)["a"] == {"status": "unhealthy", "checked": 2.0, "latency_ms": 850, "reason": "timeout"}
    assert repr(health.pulses["a"]) == "<Pulse unhealthy, 0 against it>"


def test_news_only_where_something_changed():
    """The same verdict again is no news."""
    health = Health(Settings(fall=2), ["a"])
    told = [health.take("a", check(ok)) for ok in (True, True, False, True, False, False, False, True)]
    assert [None if one is None else (one.old, one.new) for one in told] == [
        ("unknown", "healthy"), None, None, None, None, ("healthy", "unhealthy"), None, ("unhealthy", "healthy"),
    ]  # fmt: skip


def test_a_call_that_was_answered_is_worth_a_check():
    """It counts towards `rise`; how long a check takes is still what the last one took."""
    pulse = Pulse(Settings(rise=2))
    pulse.take(Check(1.0, ok=False, seconds=3.0, reason="timeout", tokens=5))
    assert pulse.take(pulse.proven(2.0)) is False
    assert pulse.take(pulse.proven(3.0)) is True
    assert pulse.last == Check(3.0, ok=True, seconds=3.0, detail=PROVEN)
    assert Pulse(Settings()).proven(1.0).ok


def test_a_day_has_so_many_tokens():
    """It begins with its first check; what was spent yesterday is forgotten."""
    pulse = Pulse(Settings(tokens_per_day=10))
    for now in (1.0, 2.0):
        assert pulse.affords(now)
        pulse.take(Check(now, ok=True, seconds=1.0, tokens=6))
    assert not pulse.affords(3.0)
    assert not pulse.affords(DAY)
    assert pulse.affords(1.0 + DAY)


def test_another_server_is_another_model():
    """A verdict holds for the server that was asked."""
    old, new = Health(Settings(), ["a", "b"]), Health(Settings(rise=2), ["a", "b", "c"])
    for name in "ab":
        old.take(name, check(ok=False))
    new.inherit(old, frozenset("a"))
    assert [new.pulses[name].healthy for name in "abc"] == [None, False, None]
    assert new.pulses["b"].settings.rise == 2
