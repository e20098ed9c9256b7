"""The limit of each upstream: who is sent away, and what is told."""

from __future__ import annotations

import pytest

from guardproxy.core.limiter import Slot
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Fault, Kind, News, Refusal, Relayed, Target
from guardproxy.guards.load import SPEC, Load, Settings

TARGET, OTHER = Target("a"), Target("b")
SMALL = Settings(enabled=True, floor=1, initial=2, ceiling=4, queue=2)


def taken(guard: Load, now: float) -> Slot:
    slot = guard.permit(TARGET, now)
    assert isinstance(slot, Slot)
    return slot


def test_each_upstream_has_its_own():
    guard = Load(SMALL, ["a", "b"])
    first = taken(guard, 0.0)
    taken(guard, 0.0)
    refusal = guard.permit(TARGET, 0.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.line is guard.limiters["a"].line) == ("overloaded", True)
    assert (guard.available("a", 0.0), guard.available("b", 0.0)) == (False, True)
    assert isinstance(guard.permit(OTHER, 0.0), Slot)
    assert not guard.observe(TARGET, first, None, 1.0)
    assert guard.available("a", 1.0)
    assert guard.state(1.0)["a"] == {"limit": 2.0, "taken": 1, "queue": 0, "sent_away": 0, "waiting_upstream": 0}
    assert SPEC.key == "load"


def test_only_a_stream_tells_of_its_first_token():
    """An answer in one piece that does not say how long it is can be good, but not late; a stream can."""
    guard = Load(SMALL, ["a"])
    guard.observe(TARGET, taken(guard, 0.0), Relayed(1.0, 200, [], Kind.SUCCESS, first=0.1), 1.0)
    before = guard.limiters["a"].limit
    guard.observe(TARGET, taken(guard, 1.0), Answer(99.0, 200, [], b"", first=98.0), 99.0)
    assert guard.limiters["a"].limit >= before
    guard.observe(TARGET, taken(guard, 99.0), Relayed(110.0, 200, [], Kind.SUCCESS, first=109.0), 110.0)
    assert guard.limiters["a"].limit < before
    assert guard.limiters["a"].taken == 0


def test_an_answer_that_was_judged_has_a_first_token():
    """It came as a stream, whatever the app gets."""
    guard = Load(SMALL, ["a"])
    guard.observe(TARGET, taken(guard, 0.0), Answer(1.0, 200, [], b"", first=0.1, streamed=True), 1.0)
    before = guard.limiters["a"].limit
    guard.observe(TARGET, taken(guard, 1.0), Answer(9.0, 200, [], b"", first=8.0, streamed=True), 9.0)
    assert guard.limiters["a"].limit < before


USAGES = [
    {"usage": {"prompt_tokens": 9, "completion_tokens": 100}},
    {"usage": {"input_tokens": 9, "output_tokens": 100}},
    {"usage": {"prompt_tokens": 3200}},  # embeddings
    {"prompt_eval_count": 9, "eval_count": 100},
]


@pytest.mark.parametrize("doc", USAGES)
def test_an_answer_in_one_piece_is_held_against_those_of_its_size(doc):
    """Whichever API counts its tokens."""
    guard = Load(SMALL, ["a"])
    guard.observe(TARGET, taken(guard, 0.0), Answer(1.0, 200, [], b"", doc=doc), 1.0)
    before = guard.limiters["a"].limit
    guard.observe(TARGET, taken(guard, 1.0), Answer(3.0, 200, [], b"", doc=doc), 3.0)
    assert guard.limiters["a"].limit >= before
    guard.observe(TARGET, taken(guard, 3.0), Answer(7.0, 200, [], b"", doc=doc), 7.0)
    assert guard.limiters["a"].limit < before + 1


@pytest.mark.parametrize("doc", [None, [], {}, {"usage": 3}, {"usage": {"completion_tokens": "many"}}])
def test_without_a_size_nothing_is_late(doc):
    """What an engine does not count cannot be held against anything."""
    guard = Load(SMALL, ["a"])
    for at in (0.0, 1.0):
        guard.observe(TARGET, taken(guard, at), Answer(at + 1 + 50 * at, 200, [], b"", doc=doc), at + 1 + 50 * at)
    assert guard.limiters["a"].limit >= 2.0


def timed_out(at, kind, first=0.0):
    return Fault(at, "upstream_timeout", "", kind=kind, first=first)


def test_a_timeout_is_too_many():
    """Of ours at once; the caller's own only where it was longer than any answer may take; not in mid-stream."""
    guard = Load(SMALL, ["a"])
    limiter = guard.limiters["a"]
    guard.observe(TARGET, taken(guard, 0.0), timed_out(1.0, Kind.IGNORED), 1.0)
    guard.observe(TARGET, taken(guard, 1.0), timed_out(2.0, Kind.FAILURE, first=1.5), 2.0)
    guard.observe(TARGET, taken(guard, 2.0), Fault(3.0, "upstream_reset", ""), 3.0)
    assert limiter.limit == 2.0
    guard.observe(TARGET, taken(guard, 3.0), timed_out(4.0, Kind.FAILURE), 4.0)
    assert limiter.limit == pytest.approx(1.8)
    guard.observe(TARGET, taken(guard, 4.0), Answer(5.0, 200, [], b"", doc=USAGES[0]), 5.0)
    grown = limiter.limit
    guard.observe(TARGET, taken(guard, 5.0), timed_out(6.0, Kind.IGNORED), 6.0)
    assert limiter.limit == grown
    guard.observe(TARGET, taken(guard, 6.0), timed_out(26.0, Kind.IGNORED), 26.0)
    assert limiter.limit < grown
    assert limiter.taken == 0


def test_late_is_too_many():
    guard = Load(SMALL, ["a"])
    slot = taken(guard, 0.0)
    assert guard.late(TARGET, slot, 30.0) == (slot, ())
    assert guard.limiters["a"].limit < 2.0


def test_what_lasts_is_told():
    """Ten seconds without a free place are news, and so are ten with one."""
    guard = Load(SMALL, ["a"])
    slots = [taken(guard, 0.0), taken(guard, 0.0)]
    guard.permit(TARGET, 0.0)
    assert list(guard.tick(9.0)) == []
    (news,) = guard.tick(10.0)
    assert (news.what, news.subject, news.new, news.reason) == ("load", "a", "overloaded", "overloaded")
    assert list(guard.tick(15.0)) == []
    for slot in slots:
        guard.observe(TARGET, slot, None, 16.0)
    assert list(guard.tick(20.0)) == []
    (news,) = guard.tick(25.0)
    assert (news.old, news.new) == ("overloaded", "well")


def test_who_waits_is_served_by_a_tick():
    """A limit that an upstream's own word has let rise again is used without waiting for a call to end."""
    guard = Load(SMALL, ["a"])
    slots = [taken(guard, 0.0), taken(guard, 0.0)]
    refusal = guard.permit(TARGET, 0.0)
    assert isinstance(refusal, Refusal)
    assert refusal.line is not None
    ticket = refusal.line.join(0.0, batch=False)
    assert ticket is not None
    guard.limiters["a"].limit = 3.0
    list(guard.tick(1.0))
    assert isinstance(ticket.token, Slot)
    assert guard.limiters["a"].taken == len(slots) + 1


def test_inherited():
    """A reload keeps the limits that were found, within what holds now, and those who are out and wait."""
    old = Load(SMALL, ["a", "b"])
    old.hear_signal("a", 5, 0.0)
    new = Load(SMALL, ["a"])
    new.inherit(old)
    assert set(new.limiters) == {"a"}
    assert new.limiters["a"] is old.limiters["a"]
    taken(old, 1.0)
    other = Load(Settings(enabled=True, floor=3, ceiling=9, queue=7, queue_seconds=Seconds(2)), ["a"])
    other.inherit(old)
    limiter = other.limiters["a"]
    assert (limiter.limit, limiter.taken, limiter.line.most, limiter.line.patience) == (3.0, 1, 7, 2.0)
    narrow = Load(Settings(enabled=True, floor=1, ceiling=2), ["a"])
    narrow.inherit(other)
    assert (limiter.limit, limiter.taken) == (2.0, 1)
    moved = Load(SMALL, ["a", "b"])
    moved.inherit(old, frozenset("a"))
    assert moved.limiters["a"] is not old.limiters["a"]
    assert moved.limiters["b"] is old.limiters["b"]


def test_what_was_told_is_taken_back_after_a_reload_too():
    """Its heir knows that an upstream has been called overloaded."""
    old, new = Load(SMALL, ["a"]), Load(SMALL, ["a"])
    slots = [taken(old, 0.0), taken(old, 0.0)]
    old.permit(TARGET, 0.0)
    list(old.tick(10.0))
    new.inherit(old)
    for slot in slots:
        new.observe(TARGET, slot, None, 11.0)
    assert [news.new for news in new.tick(20.0)] == ["well"]


def test_the_news_are_whole():
    guard = Load(SMALL, ["a"])
    slots = [taken(guard, 0.0), taken(guard, 0.0)]
    guard.permit(TARGET, 0.0)
    assert list(guard.tick(10.0)) == [News(10.0, "load", "a", "well", "overloaded", "overloaded")]
    for slot in slots:
        guard.observe(TARGET, slot, None, 11.0)
    assert list(guard.tick(20.0)) == [News(20.0, "load", "a", "overloaded", "well")]
    assert list(guard.tick(21.0)) == []


def test_the_first_token_counts_from_the_permit():
    """Two streams that took as long are as good, whenever they began; what was heard of a queue is kept."""
    guard = Load(SMALL, ["a"])
    for start in (0.0, 50.0):
        before = guard.limiters["a"].limit
        outcome = Relayed(start + 2, 200, [], Kind.SUCCESS, first=start + 1)
        guard.observe(TARGET, taken(guard, start), outcome, start + 2)
        assert guard.limiters["a"].limit >= before
    guard.hear_signal("a", 7, 60.0)
    assert guard.state(60.0)["a"]["waiting_upstream"] == 7
    assert guard.state(60.0)["a"]["limit"] == round(guard.limiters["a"].limit, 1)
    slot = taken(guard, 61.0)
    guard.late(TARGET, slot, 91.0)
    guard.late(TARGET, slot, 92.0)
    assert guard.limiters["a"].limit == pytest.approx((2 + 1 / 2) * 0.9 * 0.9)
