"""The verdict on a model, and what it means for calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import News, Refusal, Target
from guardproxy.guards.health import DAY, PROVEN, UNASKED, Check, Health, Pulse, Settings


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


def test_what_is_shown_of_each():
    """Every verdict in its word, times to a millisecond, and a reason only where there is one."""
    health = Health(Settings(fall=3), ["a", "b", "c"])
    health.take("a", Check(1.0, ok=True, seconds=0.8509))
    health.take("b", Check(1.0, ok=False, seconds=0.0019, reason="timeout"))
    assert health.state(3.0006789) == {
        "a": {"status": "healthy", "checked": 2.001, "latency_ms": 850, "reason": None},
        "b": {"status": "unhealthy", "checked": 2.001, "latency_ms": 1, "reason": "timeout"},
        "c": {"status": "unknown", "checked": None, "latency_ms": None, "reason": None},
    }
    assert [repr(pulse) for pulse in health.pulses.values()] == [
        "<Pulse healthy, 0 against it>", "<Pulse unhealthy, 0 against it>", "<Pulse unknown, 0 against it>",
    ]  # fmt: skip
    health.take("a", check(ok=False, at=2.0))
    assert repr(health.pulses["a"]) == "<Pulse healthy, 1 against it>"


def test_the_news_are_whole():
    """When, of whom, from what to what, and why."""
    health = Health(Settings(fall=1), ["a"])
    assert health.take("a", check(ok=True, at=1.0)) == News(1.0, "health", "a", "unknown", "healthy", "")
    assert health.take("a", check(ok=False, at=2.0)) == News(2.0, "health", "a", "healthy", "unhealthy", "timeout")


def test_who_was_not_asked_is_not_ill():
    """What an open circuit made of a check says nothing of the model; each upstream is judged by its own."""
    health = Health(Settings(), ["a", "b"])
    health.take("a", Check(1.0, ok=False, seconds=0.0, reason=UNASKED))
    health.take("b", check(ok=False))
    assert health.pulses["a"].healthy is False
    assert (health.available("a", 2.0), health.available("b", 2.0)) == (True, False)
    assert health.permit(Target("a"), 2.0) is None
    refusal = health.permit(Target("b"), 2.0)
    assert refusal == Refusal("unhealthy", soft=True)


def test_the_first_proof():
    """A model that was never checked is as well as one that was; it took no time and no tokens."""
    assert Pulse(Settings()).proven(1.0) == Check(1.0, ok=True, seconds=0.0, detail=PROVEN)
    pulse = Pulse(Settings())
    pulse.take(Check(1.0, ok=False, seconds=3.0, reason="timeout", detail="no answer", tokens=5))
    assert pulse.proven(2.0) == Check(2.0, ok=True, seconds=3.0, reason="", detail=PROVEN, tokens=0)


def test_a_day_is_as_long_as_a_day():
    """To the second; the last token of it may be spent, and not one more."""
    pulse = Pulse(Settings(tokens_per_day=10))
    pulse.take(Check(1.0, ok=True, seconds=1.0, tokens=9))
    assert pulse.affords(2.0)
    pulse.take(Check(2.0, ok=True, seconds=1.0, tokens=1))
    assert not pulse.affords(3.0)
    pulse.take(Check(DAY, ok=True, seconds=1.0, tokens=1))
    assert not pulse.affords(DAY + 0.5)
    pulse.take(Check(DAY + 1.0, ok=True, seconds=1.0, tokens=9))
    assert pulse.affords(DAY + 2.0)
    pulse.take(Check(DAY + 2.0, ok=True, seconds=1.0, tokens=1))
    assert not pulse.affords(DAY + 3.0)
