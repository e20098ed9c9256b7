"""Who is left alone, what that is called, and what is told of it."""

from __future__ import annotations

from guardproxy.core.throttle import FULL, Pass
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Fault, Kind, News, Refusal, Relayed, Target
from guardproxy.guards.throttle import SPEC, Settings, Throttle

TARGET, OTHER = Target("a"), Target("b")


def throttle(**how) -> Throttle:
    return Throttle(Settings(**how), ["a", "b"], lambda: 0.0)


def refused(kind: Kind = Kind.THROTTLED, wait: float | None = None) -> Answer:
    """An upstream that asks for less."""
    return Answer(0.0, 429, [], b"", kind, retry_after=wait)


def test_it_has_nothing_to_say():
    """Where nobody was throttled everybody passes, whatever happens to them."""
    guard = throttle()
    for outcome in (Answer(0.0, 200, [], b""), Fault(0.0, "x", "y"), None):
        assert guard.permit(TARGET, 0.0) is None
        assert not guard.observe(TARGET, None, outcome, 0.0)
    assert guard.state(0.0) == {}
    assert list(guard.tick(0.0)) == []
    assert SPEC.key == "throttle"


def test_one_upstream_alone():
    """The one that asked for less is left alone; the others are not."""
    guard = throttle()
    guard.observe(TARGET, None, refused(wait=5.0), 0.0)
    assert guard.permit(TARGET, 1.0) == Refusal("throttled", 5.0, brief=True)
    assert guard.permit(OTHER, 1.0) is None
    assert (guard.available("a", 1.0), guard.available("b", 1.0), guard.available("a", 5.0)) == (False, True, True)
    assert guard.why("a", 1.0) == "throttled"
    assert guard.state(1.0) == {"a": {"reason": "throttled", "due_in": 4.0, "room": 0}}


def test_no_longer_than_it_may():
    """An absurd Retry-After is cut; a model that is being loaded is looked at every few seconds."""
    guard = throttle(max_seconds=Seconds(20))
    guard.observe(TARGET, None, refused(wait=3600.0), 0.0)
    guard.observe(OTHER, None, refused(Kind.WARMING, 3600.0), 0.0)
    assert not guard.available("a", 19.9)
    assert guard.available("a", 20.0)
    assert not guard.available("b", 4.9)
    assert guard.available("b", 5.0)
    assert guard.why("b", 1.0) == "warming"


def test_what_is_told():
    """A throttle that lasts is told once, and so is its end."""
    guard = throttle()
    guard.observe(TARGET, None, refused(wait=30.0), 0.0)
    (news,) = guard.tick(1.0)
    assert (news.what, news.subject, news.old, news.new, news.reason) == ("throttle", "a", "open", "held", "throttled")
    assert news.until == 30.0
    assert list(guard.tick(2.0)) == []
    told: list[News] = []
    for step in range(FULL):
        token = guard.permit(TARGET, 31.0 + step)
        if token is None:
            break
        assert isinstance(token, Pass)
        told += guard.observe(TARGET, token, Answer(0.0, 200, [], b""), 31.0 + step)
    assert [(news.old, news.new) for news in told] == [("held", "open")]
    assert guard.permit(TARGET, 60.0) is None


def test_a_short_one_is_not_told():
    """A second or two are no news, neither their beginning nor their end; a quiet gate ends by itself."""
    guard = throttle()
    guard.observe(TARGET, None, refused(wait=2.0), 0.0)
    assert [*guard.tick(1.0), *guard.tick(31.9)] == []
    assert guard.state(31.9)
    assert list(guard.tick(32.0)) == []
    assert guard.state(32.0) == {}


def test_a_caller_who_leaves_the_ramp():
    """His place is free again; nothing else has changed."""
    guard = throttle()
    guard.observe(TARGET, None, refused(wait=2.0), 0.0)
    token = guard.permit(TARGET, 2.0)
    assert isinstance(token, Pass)
    assert isinstance(guard.permit(TARGET, 2.0), Refusal)
    assert not guard.observe(TARGET, token, None, 2.5)
    assert isinstance(guard.permit(TARGET, 2.5), Pass)


def test_inherited():
    """A reload keeps the gates of upstreams that are still there."""
    old = throttle()
    for target in (TARGET, OTHER):
        old.observe(target, None, refused(wait=30.0), 0.0)
    list(old.tick(1.0))
    new = Throttle(Settings(), ["a"], lambda: 0.0)
    new.inherit(old)
    assert set(new.gates) == {"a"}
    assert list(new.tick(2.0)) == []  # told by its predecessor
    moved = Throttle(Settings(), ["a", "b"], lambda: 0.0)
    moved.inherit(old, frozenset("a"))
    assert set(moved.gates) == {"b"}


def test_the_news_are_whole():
    """What lasts is told with its reason and its time, for each upstream, and its end; then it may come again."""
    guard = throttle()
    for target in (TARGET, OTHER):
        guard.observe(target, None, refused(wait=30.0), 0.0)
    told = list(guard.tick(1.0))
    assert told == [News(1.0, "throttle", name, "open", "held", "throttled", 30.0) for name in ("a", "b")]
    ended = list(guard.tick(60.0))
    assert ended == [News(60.0, "throttle", name, "held", "open", "throttled") for name in ("a", "b")]
    guard.observe(TARGET, None, refused(wait=30.0), 61.0)
    assert len(list(guard.tick(62.0))) == 1
    assert guard.why("b", 62.0) == "throttled"
    assert guard.state(200.0)["a"]["due_in"] == 0.0


def test_on_the_ramp_again():
    """A call on the ramp that is throttled holds the gate for longer; one from before only reminds of it."""
    guard = Throttle(Settings(), ["a"], lambda: 1.0)
    guard.observe(TARGET, None, refused(), 0.0)
    token = guard.permit(TARGET, 1.0)
    assert isinstance(token, Pass)
    guard.observe(TARGET, None, refused(), 1.5)
    assert guard.gates["a"].until == 1.0
    guard.observe(TARGET, token, refused(), 2.0)
    assert guard.gates["a"].until == 4.0
    assert guard.gates["a"].since == 0.0


def test_a_stream_says_no_time():
    """An error event in a stream that was relayed has no Retry-After; the gate is held for its own time."""
    guard = throttle()
    guard.observe(TARGET, None, Relayed(0.0, 200, [], Kind.THROTTLED), 0.0)
    assert guard.gates["a"].until == 0.5


def test_a_ramp_wants_calls():
    """Once its time is over a gate is due for as many as it has room for: past any ceiling that fell for it."""
    guard = throttle()
    assert not guard.due("a", 0.0)
    guard.observe(TARGET, None, refused(wait=30.0), 0.0)
    assert not guard.due("a", 29.0)
    assert guard.due("a", 34.0)
    assert not guard.due("b", 34.0)
    assert isinstance(guard.permit(TARGET, 34.0), Pass)
    assert not guard.due("a", 34.0)
