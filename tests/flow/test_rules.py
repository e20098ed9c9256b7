"""Who speaks when: the dispatch of moments to guards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from guardproxy.core.budget import Budget
from guardproxy.core.guard import Guard
from guardproxy.core.steps import Ready
from guardproxy.core.values import Answer, Call, News, Record, Refusal, Reply, Target, Verdict
from guardproxy.flow.aim import Aim
from guardproxy.flow.rules import Rules
from tests.flow.playbook import House, broke

TARGET = Target("llama")


class Silent(Guard):
    """Overrides nothing."""

    name = "silent"


class Talker(Guard):
    """Speaks at every moment, and notes that it did."""

    def __init__(self, name: str, book: list[str], **answers: object) -> None:
        self.name = name
        self.book = book
        self.answers = answers

    def say(self, moment: str, otherwise: object = None) -> object:
        self.book.append(f"{self.name} {moment}")
        return self.answers.get(moment, otherwise)

    def admit(self, call, record, now):
        return self.say("admit", call)

    def permit(self, target, now):
        return self.say("permit", self.name)

    def observe(self, target, token, outcome, now):
        assert token == self.name
        return self.say("observe" if outcome is not None else "give back")

    def hear(self, news, now):
        return self.say(f"hear {news.what}")

    def judge(self, call, answer):
        return self.say("judge")

    def rescue(self, call, record, now):
        return self.say("rescue")

    def settle(self, call, reply, record, now):
        self.say("settle")

    def tick(self, now):
        return self.say("tick", ())


def rules(*guards: Guard) -> Rules:
    return Rules(guards, aim=Aim({}), dice=lambda: 0.0, budgets={"llama": Budget(0.2, 1.0)})


def call(**more) -> Call:
    got = House().read()
    assert isinstance(got, Call)
    return replace(got, **more)


def test_a_silent_guard_costs_nothing():
    """A moment that nobody overrides is not even looked at."""
    one = rules(Silent())
    assert not any(getattr(one, name) for name in one.__slots__ if name.startswith("_"))
    given = call()
    assert one.admit(given, Record(0.0), 0.0) is given
    assert one.permit(TARGET, 0.0) == one.insist(TARGET, 0.0) == []
    assert one.judge(given, Answer(0.0, 200, [], b"")) is None
    assert one.rescue(given, Record(0.0), 0.0) is None
    assert one.tick(0.0) == []
    assert one.available("llama", 0.0)


def test_the_order_in_which_guards_speak():
    """At every moment in the order given; to rescue a call the last one speaks first."""
    book: list[str] = []
    one = rules(Talker("a", book), Silent(), Talker("b", book))
    given = call()
    one.admit(given, Record(0.0), 0.0)
    tokens = one.permit(TARGET, 0.0)
    assert tokens == ["a", "b"]
    one.observe(TARGET, ["a", "b"], broke(1.0), 1.0)
    one.judge(given, Answer(0.0, 200, [], b""))
    one.rescue(given, Record(0.0), 0.0)
    one.settle(given, Reply(200, b""), Record(0.0), 0.0)
    one.tick(0.0)
    assert [line.split(maxsplit=1)[1] for line in book[::2]] == [line.split(maxsplit=1)[1] for line in book[1::2]]
    assert [line[0] for line in book] == [*"abababab", *"ba", *"abab"]


def test_the_first_reply_ends_it():
    """Once a guard answers, those behind it are not asked."""
    book: list[str] = []
    reply = Reply(200, b"x")
    assert rules(Talker("a", book, admit=reply), Talker("b", book)).admit(call(), Record(0.0), 0.0) is reply
    assert book == ["a admit"]


def test_who_has_something_made_ready_is_asked_again():
    """And those behind him then, but nobody who has been asked before."""
    book: list[str] = []
    given = call()
    waits = Ready(given, b"?", lambda: True, lambda _: None, 9.0)
    middle = Talker("b", book, admit=waits)
    one = rules(Talker("a", book), middle, Talker("c", book))
    assert one.admit(given, Record(0.0), 0.0) is waits
    middle.answers.clear()
    assert one.admit(waits.call, Record(0.0), 1.0, waits) is given
    assert book == ["a admit", "b admit", "b admit", "c admit"]


def test_the_first_verdict_counts():
    """Guards that have nothing to say about an answer leave it to the next."""
    book: list[str] = []
    verdict = Verdict("valid")
    one = rules(Talker("a", book), Talker("b", book, judge=verdict), Talker("c", book, judge=Verdict("no")))
    assert one.judge(call(), Answer(0.0, 200, [], b"")) is verdict
    assert book == ["a judge", "b judge"]


def test_skipped_guards_are_silent():
    """At every moment of the call, gates included; a guard that is needed is not skipped."""
    book: list[str] = []

    class Needed(Talker):
        needed = True

    one = rules(Talker("a", book), Needed("b", book))
    skip = frozenset(("a", "b"))
    given = call(skip=skip)
    one.admit(given, Record(0.0), 0.0)
    assert book == ["b admit"]
    book.clear()
    for ask in (one.permit, one.insist):
        tokens = ask(TARGET, 0.0, frozenset("a"))
        assert isinstance(tokens, list)
        one.observe(TARGET, tokens, broke(1.0), 1.0)
    assert book == ["b permit", "b observe"] * 2
    book.clear()
    assert one.judge(given, Answer(0.0, 200, [], b"")) is None
    assert one.rescue(given, Record(0.0), 0.0) is None
    one.settle(given, Reply(200, b""), Record(0.0), 0.0)
    assert book == []


@pytest.mark.parametrize("soft", [False, True])
def test_a_refusal_gives_back(soft):
    """What was permitted before the refusal is given back; those behind it are not asked at all."""
    book: list[str] = []
    no = Refusal("no", 5.0, soft=soft)
    one = rules(Talker("a", book), Talker("b", book, permit=no), Talker("c", book))
    assert one.permit(TARGET, 0.0) is no
    assert book == ["a permit", "b permit", "a give back"]
    book.clear()
    tokens = one.insist(TARGET, 0.0)
    if soft:
        assert isinstance(tokens, list)
        one.observe(TARGET, tokens, None, 1.0)
        assert book == ["a permit", "b permit", "c permit", "a give back", "c give back"]
    else:
        assert tokens is no
        assert book == ["a permit", "b permit", "a give back"]


def test_news_of_news():
    """What follows from news is heard too, by everybody, once, in order; it ends."""

    class Echo(Guard):
        def __init__(self, what: str, then: str) -> None:
            self.what, self.then = what, then

        def hear(self, news, now):
            return News(now, self.then, "s", "a", "b") if news.what == self.what else None

    one = rules(Echo("1", "2"), Echo("2", "3"), Echo("1", "4"))
    assert [news.what for news in one.spread([News(0.0, "1", "s", "a", "b")], 0.0)] == ["1", "2", "4", "3"]
    assert rules(Talker("a", [], tick=[News(0.0, "1", "s", "a", "b")]), Echo("1", "2")).tick(0.0)[1].what == "2"
