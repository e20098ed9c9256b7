"""The guard that keeps a circuit for each upstream: what it is told, what it tells."""

from __future__ import annotations

from math import inf
from types import SimpleNamespace

import pytest

from guardproxy.core.circuit import LEASE, Permit, State
from guardproxy.core.guard import Parts
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Fault, Kind, News, Refusal, Relayed, Target
from guardproxy.guards.breaker import LEARNT, SPEC, Breaker, Override, Settings, effective

TARGET = Target("a")


def token(breaker: Breaker, now: float, upstream: str = "a") -> Permit:
    """A permit."""
    permit = breaker.permit(Target(upstream), now)
    assert isinstance(permit, Permit)
    return permit


def test_a_4xx_is_not_the_models_failure():
    """A client that sends nonsense all night does not take a healthy model down for the others (sglang)."""
    breaker = Breaker(Settings(minimum_requests=1), ["a"])
    for _ in range(50):
        outcome = Answer(0.0, 400, [], b"", Kind.IGNORED)
        assert not breaker.observe(TARGET, token(breaker, 0.0), outcome, 0.0)
    assert breaker.state(0.0)["a"]["attempts"] == 0


def test_by_hand():
    """Held open nobody passes, however long; held closed everybody does, however bad; let go, it lives on."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    (news,) = breaker.hold("a", State.OPEN, 5.0)
    assert (news.what, news.subject, news.old, news.new) == ("circuit", "a", "closed", "open")
    assert (news.reason, news.until) == ("by hand", 15.0)
    assert isinstance(breaker.permit(TARGET, 9999.0), Refusal)
    assert not breaker.due("a", 9999.0)
    assert breaker.state(6.0)["a"]["held"] == "open"
    assert breaker.hold("a", None, 20.0) == []
    assert breaker.due("a", 20.0)
    assert len(breaker.hold("a", State.CLOSED, 20.0)) == 1
    breaker.observe(TARGET, token(breaker, 20.0), Fault(20.0, "x", "y"), 20.0)
    assert breaker.available("a", 20.0)
    assert not breaker.due("a", 20.0)


def test_news_of_a_lost_probe():
    """What happens without a call is told as well."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a", "b"], lease=30.0)
    breaker.tell("a", token(breaker, 0.0), Kind.FAILURE, 0.0)
    token(breaker, 10.0)
    (news,) = breaker.tick(11.0)
    assert (news.at, news.subject, news.old, news.new, news.reason) == (10.0, "a", "open", "half_open", "due")
    assert list(breaker.tick(39.0)) == []
    (news,) = breaker.tick(40.0)
    assert (news.subject, news.old, news.new, news.until) == ("a", "half_open", "open", 55.0)
    assert list(breaker.tick(40.0)) == []


def test_one_models_override():
    """`models` changes what it names, for that model alone."""
    settings_ = Settings(models={"qwen": Override(failure_threshold=0.4, timeout=Seconds(5))})
    mine = effective(settings_, "qwen")
    assert (mine.failure_threshold, float(mine.timeout), float(mine.window)) == (0.4, 5.0, 60.0)
    assert effective(settings_, "llama") is settings_
    assert Breaker(settings_, ["qwen"]).state(0.0)["qwen"]["settings"]["failure_threshold"] == 0.4


def test_state_for_people():
    """What `/guard/state` shows of an open circuit, and that looking at it changes nothing."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    breaker.tell("a", token(breaker, 5.0), Kind.FAILURE, 5.0, "upstream_reset")
    told = breaker.state(8.0)["a"]
    assert (told["state"], told["due_in"], told["attempts"]) == ("open", 7.0, 0)
    assert breaker.state(99.0)["a"]["state"] == "open"  # until a probe is admitted
    assert breaker.due("a", 99.0)
    assert SPEC.key == "circuit_breaker"


def test_what_happened_is_the_reason():
    """News of a circuit say what it was that opened it, and until when it stays so."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    (news,) = breaker.observe(TARGET, token(breaker, 5.0), Fault(6.0, "upstream_timeout", "y"), 6.0)
    assert (news.at, news.new, news.reason, news.until) == (6.0, "open", "upstream_timeout", 16.0)


def test_inherited():
    """A reload keeps the circuits of upstreams that are still there, open ones too, whatever they are set by now."""
    old = Breaker(Settings(minimum_requests=1), ["a", "b", "c"])
    old.hold("a", State.OPEN, 1.0)
    new = Breaker(Settings(minimum_requests=1, models={}), ["a", "b", "d"])
    new.inherit(old)
    assert new.circuits["a"] is old.circuits["a"]
    assert set(new.circuits) == {"a", "b", "d"}
    other = Breaker(Settings(minimum_requests=2, window=Seconds(7)), ["a"], lease=3.0)
    other.inherit(new)
    assert other.circuits["a"] is old.circuits["a"]
    assert other.circuits["a"].state is State.OPEN
    assert other.circuits["a"].settings.minimum_requests == 2
    assert other.circuits["a"]._window._step == pytest.approx(0.7)
    assert other.circuits["a"]._lease == 3.0


def test_another_server_is_another_circuit():
    """Of an upstream that has moved nothing is known; only what an operator has ordered of its name holds."""
    old = Breaker(Settings(minimum_requests=1), ["a", "b"])
    old.observe(TARGET, token(old, 1.0), Fault(1.0, "x", "y"), 1.0)
    old.hold("b", State.OPEN, 1.0)
    new = Breaker(Settings(minimum_requests=1), ["a", "b"])
    new.inherit(old, frozenset("ab"))
    token(new, 2.0)
    assert isinstance(new.permit(Target("b"), 2.0), Refusal)
    new.hold("b", None, 100.0)
    assert new.available("b", 100.0)  # due at once: nobody knows it


def test_a_circuit_that_is_set_anew_stays_as_it_is():
    """Marks and state are kept; other numbers count from then on."""
    old = Breaker(Settings(minimum_requests=3, consecutive_failures=0), ["a"])
    for _ in range(2):
        old.observe(TARGET, token(old, 1.0), Fault(1.0, "x", "y"), 1.0)
    new = Breaker(Settings(minimum_requests=3, failure_threshold=0.9, consecutive_failures=0), ["a"])
    new.inherit(old)
    (news,) = new.observe(TARGET, token(new, 1.0), Fault(1.0, "x", "y"), 1.0)
    assert news.new == "open"


def test_half_open_is_told():
    """That a probe was let through is told before what became of it, in the order in which it happened."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), success_threshold=1), ["a"])
    breaker.tell("a", token(breaker, 0.0), Kind.FAILURE, 0.0)
    assert isinstance(breaker.permit(TARGET, 9.0), Refusal)
    probe = token(breaker, 10.0)
    told = breaker.observe(TARGET, probe, Answer(12.0, 200, [], b""), 12.0)
    assert [(news.at, news.new) for news in told] == [(10.0, "half_open"), (12.0, "closed")]
    assert list(breaker.tick(13.0)) == []


def test_slow_is_the_reason():
    """A circuit that opens since its model begins too late says so, while the calls still wait."""
    breaker = Breaker(Settings(minimum_requests=2), ["a"])
    first, told = breaker.late(TARGET, token(breaker, 0.0), 30.0)
    assert list(told) == []
    _, (news,) = breaker.late(TARGET, token(breaker, 1.0), 31.0)
    assert (news.new, news.reason) == ("open", "slow")
    assert not breaker.observe(TARGET, first, Answer(40.0, 200, [], b"", Kind.SLOW), 40.0)


def test_an_upstreams_wish_is_heeded():
    """A 500 that says when to come back keeps the circuit open until then; what a caller ignored does not."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    outcome = Answer(0.0, 500, [], b"", Kind.FAILURE, retry_after=20.0)
    (news,) = breaker.observe(TARGET, token(breaker, 0.0), outcome, 0.0)
    assert news.until == 20.0
    assert breaker.observe(TARGET, token(breaker, 20.0), None, 21.0)[0].new == "half_open"


def test_chance_is_handed_in():
    """The dice are the caller's: what a test wants to fall, falls."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"], dice=lambda: 0.0)
    for start in (0.0, 10.0):
        breaker.tell("a", token(breaker, start), Kind.FAILURE, start)
    assert breaker.circuits["a"].until == 20.0


def test_what_another_proxy_has_found():
    """It opens a circuit that knows no better: not one that is held, open already, or has judged enough to be well."""
    breaker = Breaker(Settings(minimum_requests=2, timeout=Seconds(10)), ["a", "b", "c"])
    (news,) = breaker.learn("a", 5.0)
    assert (news.old, news.new, news.reason, news.until) == ("closed", "open", LEARNT, 15.0)
    assert breaker.circuits["a"].held is None
    assert breaker.learn("a", 6.0) == ()
    assert isinstance(breaker.permit(TARGET, 15.0), Permit)  # and proves it in its time
    breaker.hold("b", State.CLOSED, 0.0)
    assert breaker.learn("b", 5.0) == ()
    for _ in range(2):
        permit = breaker.permit(Target("c"), 5.0)
        assert isinstance(permit, Permit)
        breaker.observe(Target("c"), permit, Answer(5.0, 200, [], b""), 5.0)
    assert breaker.learn("c", 6.0) == ()
    assert breaker.learn("c", 600.0) != ()  # that was long ago


def test_what_another_proxy_has_proven():
    """What we opened on another's word closes on it, or is due where nobody stands by it; our own is due, no more."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), success_threshold=1), ["a", "b"])
    breaker.learn("a", 0.0)
    (news,) = breaker.unlearn("a", 1.0, well=True)
    assert (news.old, news.new, news.reason) == ("open", "closed", LEARNT)
    breaker.learn("a", 2.0)
    assert breaker.unlearn("a", 3.0, well=False) == ()
    assert breaker.due("a", 3.0)
    breaker.tell("b", token(breaker, 0.0, "b"), Kind.FAILURE, 0.0)
    assert (breaker.stands("a"), breaker.stands("b")) == ("", "open")
    assert breaker.unlearn("b", 1.0, well=False) == ()
    assert not breaker.due("b", 1.0)
    assert breaker.unlearn("b", 1.0, well=True) == ()
    assert breaker.due("b", 1.0)
    assert breaker.circuits["b"].state is State.OPEN
    breaker.hold("b", State.OPEN, 2.0)
    assert breaker.unlearn("b", 2.0, well=True) == ()
    assert not breaker.available("b", 20.0)


def test_who_has_just_proven_a_model_knows_better():
    """For a window nobody can tell us otherwise; a circuit that was closed on another's word is not proven."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), success_threshold=1), ["a"])
    breaker.tell("a", token(breaker, 0.0), Kind.FAILURE, 0.0)
    breaker.tell("a", token(breaker, 10.0), Kind.SUCCESS, 10.0)
    assert breaker.proven("a", 69.0)
    assert breaker.learn("a", 69.0) == ()
    heir = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), success_threshold=1), ["a"])
    heir.inherit(breaker)
    assert heir.proven("a", 69.0)
    assert not breaker.proven("a", 70.0)
    breaker.learn("a", 70.0)
    breaker.unlearn("a", 71.0, well=True)
    assert not breaker.proven("a", 72.0)


def test_each_piece_is_told_once_and_whole():
    """What a success closes is told with its label, after the probe before it was told of by a tick."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), success_threshold=2), ["a"])
    breaker.tell("a", token(breaker, 0.0), Kind.FAILURE, 0.0)
    first, second = token(breaker, 10.0), token(breaker, 10.0)
    assert list(breaker.tick(11.0)) == [News(10.0, "circuit", "a", "open", "half_open", "due")]
    assert not breaker.observe(TARGET, first, Answer(12.0, 200, [], b""), 12.0)
    told = breaker.observe(TARGET, second, Answer(13.0, 200, [], b""), 13.0)
    assert list(told) == [News(13.0, "circuit", "a", "half_open", "closed", "200")]
    assert list(breaker.tick(14.0)) == []


def test_the_times_of_news():
    """Each says when it happened: late, held by hand, a probe lost."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"], lease=30.0)
    _, (news,) = breaker.late(TARGET, token(breaker, 0.0), 5.0)
    assert news == News(5.0, "circuit", "a", "closed", "open", "slow", 15.0)
    token(breaker, 15.0)
    list(breaker.tick(16.0))
    (news,) = breaker.tick(45.0)
    assert news == News(45.0, "circuit", "a", "half_open", "open", "a probe did not come back", news.until)
    (news,) = breaker.hold("a", State.CLOSED, 46.0)
    assert news == News(46.0, "circuit", "a", "open", "closed", "by hand")


def test_a_stream_that_broke_off():
    """It has no Retry-After to heed; it is a failure all the same."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    (news,) = breaker.observe(TARGET, token(breaker, 0.0), Relayed(1.0, 200, [], Kind.FAILURE), 1.0)
    assert (news.reason, news.until) == ("200", 11.0)


def test_the_shares_are_shown():
    """`/guard/state` has both shares, to four places, and of how many attempts."""
    breaker = Breaker(Settings(minimum_requests=99), ["a"])
    for kind in (Kind.SUCCESS, Kind.SUCCESS, Kind.FAILURE):
        breaker.tell("a", token(breaker, 0.0), kind, 0.0)
    breaker.late(TARGET, token(breaker, 0.0), 1.0)
    told = breaker.state(1.0)["a"]
    assert (told["failure_rate"], told["slow_rate"], told["attempts"]) == (0.25, 0.25, 4)
    breaker.tell("a", token(breaker, 1.0), Kind.FAILURE, 1.0)
    breaker.tell("a", token(breaker, 1.0), Kind.SUCCESS, 1.0)
    assert breaker.state(1.0)["a"]["failure_rate"] == 0.3333
    assert breaker.state(1.0)["a"]["slow_rate"] == 0.1667
    breaker.hold("a", State.OPEN, 2.0)
    assert breaker.state(99.0)["a"]["due_in"] == 0.0
    assert breaker.state(2.0004)["a"]["due_in"] == 60.0


def fails(breaker: Breaker, now: float, upstream: str = "a", **more) -> list[News]:
    """What is told when an attempt fails."""
    outcome = Fault(now, "upstream_reset", "y", **more)
    return list(breaker.observe(Target(upstream), token(breaker, now, upstream), outcome, now))


def test_a_retry_after_is_a_floor_where_there_is_one():
    """An upstream that asks for no time gets no more than its circuit's; a stream that broke has none to ask for."""
    for outcome, until in (
        (Fault(1.0, "x", "y"), 1.5),
        (Fault(1.0, "x", "y", retry_after=20.0), 21.0),
        (Relayed(1.0, 200, [], Kind.FAILURE), 1.5),
        (Answer(1.0, 500, [], b"", Kind.FAILURE, retry_after=9.0), 10.0),
    ):
        breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(0.5)), ["a"])
        (news,) = breaker.observe(TARGET, token(breaker, 1.0), outcome, 1.0)
        assert news.until == until
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(0.5)), ["a"])
    (news,) = breaker.tell("a", token(breaker, 1.0), Kind.FAILURE, 1.0)
    assert (news.until, news.reason) == (1.5, "")


def test_a_probe_that_succeeds_says_that_it_was_one():
    """Its circuit stays half-open, and that it is so is told with it; the next success tells nothing."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), success_threshold=3), ["a"])
    fails(breaker, 0.0)
    for now, told in ((10.0, ["half_open"]), (11.0, []), (12.0, ["closed"])):
        news = breaker.observe(TARGET, token(breaker, now), Answer(now, 200, [], b""), now)
        assert [one.new for one in news] == told
        assert all(one.at == now for one in news)
    assert breaker.observe(TARGET, token(breaker, 13.0), Answer(13.0, 200, [], b""), 13.0) == ()


def test_a_check_beside_a_probe_that_is_out_for_long():
    """Breaker and circuit agree on who may go when: calls wait, checks need not."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10), half_open_requests=1), ["a", "b"])
    assert not breaker.waits("a", 0.0)
    fails(breaker, 0.0)
    assert (breaker.waits("a", 9.9), breaker.waits("a", 10.0), breaker.waits("b", 10.0)) == (False, True, False)
    token(breaker, 10.0)
    assert (breaker.waits("a", 19.9), breaker.waits("a", 20.0), breaker.due("a", 20.0)) == (False, True, False)
    assert isinstance(breaker.ask("a", 20.0), Refusal)
    assert isinstance(breaker.ask("a", 20.0, check=True), Permit)


def test_times_are_shown_to_a_millisecond():
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    fails(breaker, 0.0)
    assert breaker.state(1.00049)["a"]["due_in"] == 9.0
    assert breaker.state(1.0016)["a"]["due_in"] == 8.998
    assert breaker.settings.minimum_requests == 1


def test_what_others_say_is_told_whole():
    """When it was heard, and that it was heard."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    assert list(breaker.learn("a", 5.0)) == [News(5.0, "circuit", "a", "closed", "open", LEARNT, 15.0)]
    assert not breaker.proven("a", 5.0)
    assert list(breaker.unlearn("a", 7.0, well=True)) == [News(7.0, "circuit", "a", "open", "closed", LEARNT)]


def test_an_order_is_not_evidence():
    """What an operator holds open has not been seen to be broken, whatever was seen before."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    fails(breaker, 0.0)
    assert breaker.stands("a") == "upstream_reset"
    breaker.hold("a", State.OPEN, 1.0)
    assert breaker.stands("a") == ""


def test_all_that_have_not_moved_are_inherited():
    """Whatever the order in which they come."""
    names = list("abcdef")
    old, new = Breaker(Settings(), names), Breaker(Settings(), names)
    new.inherit(old, frozenset("ace"))
    assert [new.circuits[name] is old.circuits[name] for name in names] == [False, True] * 3


def test_it_is_built_of_the_configuration():
    """Upstreams by name, a lease as long as a call may take, the house's dice; what holds for one of them."""
    config = SimpleNamespace(timeouts=SimpleNamespace(total=900.0))
    parts = Parts(config, {"a": "m", "b": "n"}, 0.0, {}, dice=lambda: 0.25)
    settings = Settings(minimum_requests=1, models={"b": Override(timeout=Seconds(7))})
    breaker = SPEC.build(settings, parts)
    assert isinstance(breaker, Breaker)
    assert breaker.settings is settings
    assert list(breaker.circuits) == ["a", "b"]
    assert (float(breaker.tuned("a").timeout), float(breaker.tuned("b").timeout)) == (60.0, 7.0)
    circuit = breaker.circuits["a"]
    assert (circuit._lease, circuit._dice()) == (900.0, 0.25)
    config.timeouts.total = 1.0
    shorter = SPEC.build(settings, parts)
    assert isinstance(shorter, Breaker)
    assert shorter.circuits["a"]._lease == LEASE


def test_a_probe_is_an_experiment_and_nothing_else_is():
    """Half a minute for one; for ever for an attempt of a closed circuit, also one that was late."""
    breaker = Breaker(Settings(minimum_requests=1, timeout=Seconds(10)), ["a"])
    usual = token(breaker, 0.0)
    assert breaker.trial(usual) == inf
    fails(breaker, 0.0)
    assert breaker.trial(token(breaker, 10.0)) == 30.0
