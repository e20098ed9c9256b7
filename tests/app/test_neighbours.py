"""What proxies that share a store make of each other's words: three of them, in a time that is a number."""

from __future__ import annotations

from collections import deque
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from guardproxy.app.neighbours import Neighbours
from guardproxy.core.hearsay import ORDER_LEASE, Hearsay, Word
from guardproxy.core.units import Seconds
from guardproxy.core.values import Kind
from guardproxy.guards import breaker
from guardproxy.guards.breaker import State
from guardproxy.net.post import BEAT
from tests.flow.playbook import House

TUNED = breaker.Settings(
    minimum_requests=3, consecutive_failures=3, success_threshold=2, timeout=Seconds(20), max_timeout=Seconds(20)
)
MODELS = ["llama", "mistral"]
"""The models of the two upper modes."""
PEERS = st.integers(0, 2)


class Store:
    """What all have in common: the last words, and the time."""

    def __init__(self) -> None:
        self.time = 1e9
        self.words: dict[str, Word] = {}


class Peer:
    """One proxy: its guards, its words, and a clock of its own."""

    def __init__(self, name: str, store: Store, skew: float) -> None:
        self.store, self.skew = store, skew
        self.house = House(circuit=TUNED)
        self.hearsay = Hearsay(name)
        self.away = False
        self.inbox: deque[Word] = deque()
        self.peers: list[Peer] = []
        self.said = 0
        self.neighbours = Neighbours(
            self.hearsay,
            lambda: self.house,  # type: ignore[arg-type, return-value]
            send=self.send,
            tell=self.tell,
            clock=self.now,
            theirs=lambda: store.time,
        )

    def now(self) -> float:
        return self.store.time + self.skew

    def send(self, word: Word, new: bool) -> None:
        self.said += new
        if self.away:
            return
        there = self.store.words.get(word.subject)
        if there is None or not there.later(word):
            self.store.words[word.subject] = word
            if new:
                for peer in self.peers:
                    if not peer.away:
                        peer.inbox.append(word)
        else:
            self.hear(there)

    def hear(self, word: Word) -> None:
        if self.hearsay.hear(word, self.store.time):
            self.neighbours.heard(word)

    def tell(self, news: Any) -> None:
        self.neighbours.told(news)

    def beat(self) -> None:
        if self.away:
            self.neighbours.beat(None)
            return
        words = dict(self.store.words)
        for word in words.values():
            self.hear(word)
        known = [word for word in self.hearsay if (there := words.get(word.subject)) is None or word.later(there)]
        self.neighbours.beat({word.subject for word in known})

    def tick(self) -> None:
        self.tell(self.house.rules.tick(self.now()))

    def attempt(self, upstream: str, kind: Kind) -> bool:
        """One attempt, if the circuit lets it: as a call or a health check would make it."""
        guard, now = self.house.breaker, self.now()
        permit = guard.ask(upstream, now)
        if isinstance(permit, breaker.Permit):
            self.tell(self.house.rules.spread(guard.tell(upstream, permit, kind, now, kind.value), now))
            return True
        return False

    def order(self, mode: str | None) -> None:
        news = self.house.modes.hold(mode, self.now())
        self.tell([news] if news else [])
        self.neighbours.ordered(None, mode)

    def order_circuit(self, upstream: str, state: State | None) -> None:
        self.tell(self.house.rules.spread(self.house.breaker.hold(upstream, state, self.now()), self.now()))
        self.neighbours.ordered(upstream, None if state is None else state.value)

    @property
    def ceiling(self) -> Any:
        return self.house.modes.ceiling


class World:
    """Three of them."""

    def __init__(self) -> None:
        self.store = Store()
        self.peers = [Peer(f"peer{number}", self.store, skew) for number, skew in enumerate((0.0, -1e9, 12345.0))]
        self.number = len(self.peers)
        self.meet()

    def meet(self) -> None:
        for peer in self.peers:
            peer.peers = [other for other in self.peers if other is not peer]

    def deliver(self) -> None:
        while any(peer.inbox for peer in self.peers):
            for peer in self.peers:
                while peer.inbox:
                    peer.hear(peer.inbox.popleft())

    def wait(self, seconds: float, *, quick: bool = True) -> None:
        """Time passes: ticks and beats come as they are due; messages too, where they are *quick*."""
        until = self.store.time + seconds
        while self.store.time < until:
            self.store.time += min(BEAT, until - self.store.time)
            for peer in self.peers:
                peer.tick()
                peer.beat()
            if quick:
                self.deliver()

    def replace(self, number: int) -> None:
        """A proxy dies, and another comes in its place."""
        self.peers[number] = Peer(f"peer{self.number}", self.store, self.peers[number].skew)
        self.number += 1
        self.meet()


class Machine(RuleBasedStateMachine):
    """Anything may happen to three proxies; in the end they agree, and each has kept to what it has seen itself."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.ordered: str | None = None
        self.lost = False
        """Whether an order may have been lost: given where nobody heard of it, or by nobody who is still there."""

    @rule(peer=PEERS, upstream=st.sampled_from(MODELS), kind=st.sampled_from([Kind.SUCCESS, Kind.FAILURE]))
    def attempts(self, peer, upstream, kind):
        for _ in range(3):
            self.world.peers[peer].attempt(upstream, kind)

    @rule(seconds=st.sampled_from([1.0, 9.0, 25.0, 65.0]), quick=st.booleans())
    def wait(self, seconds, quick):
        self.world.wait(seconds, quick=quick)

    @rule()
    def deliver(self):
        self.world.deliver()

    @rule(peer=PEERS)
    def messages_are_lost(self, peer):
        self.world.peers[peer].inbox.clear()

    @rule(peer=PEERS, mode=st.sampled_from(["balanced", "fast", None]))
    def order(self, peer, mode):
        self.world.store.time += 0.001
        self.world.peers[peer].order(mode)
        self.ordered = mode
        self.lost = self.world.peers[peer].away

    @rule(peer=PEERS)
    def the_store_is_away(self, peer):
        self.world.peers[peer].away = True

    @rule(peer=PEERS)
    def the_store_is_back(self, peer):
        self.world.peers[peer].away = False

    @rule()
    def the_store_forgets(self):
        self.world.store.words.clear()

    @rule(peer=PEERS)
    def dies(self, peer):
        self.lost = True
        self.world.replace(peer)

    @precondition(lambda self: not self.lost)
    @rule()
    def orders_reach_all(self):
        """Once everybody can hear again all obey the last order, be it to let go."""
        for peer in self.world.peers:
            peer.away = False
        self.world.wait(3 * BEAT)
        held = {peer.ceiling.held for peer in self.world.peers}
        assert held == {None if self.ordered is None else self.world.peers[0].house.modes.names.index(self.ordered)}

    @rule()
    def all_agree_in_the_end(self):
        """Nobody has anything new to say where nothing happens; and where all models are well all are at the top."""
        world = self.world
        for peer in world.peers:
            peer.away = False
        world.wait(300.0)
        spoken = [peer.said for peer in world.peers]
        world.wait(ORDER_LEASE)
        assert [peer.said for peer in world.peers] == spoken
        assert len({peer.ceiling.held for peer in world.peers}) == 1
        self.order(0, None)
        for _ in range(4):
            for peer in world.peers:
                for upstream in MODELS:
                    peer.attempt(upstream, Kind.SUCCESS)
            world.wait(25.0)
        world.wait(300.0)
        for peer in world.peers:
            assert {circuit.state for circuit in peer.house.breaker.circuits.values()} == {State.CLOSED}
            assert (peer.ceiling.own, peer.ceiling.heard, peer.ceiling.seen) == (0, None, 0)

    @invariant()
    def what_was_seen_is_stronger(self):
        """Where others put the ceiling is said to nobody, and never counts against a model that is proven here."""
        for peer in self.world.peers:
            assert peer.ceiling.seen <= peer.ceiling.own
            word = peer.hearsay.on("ceiling")
            if word is not None and peer.hearsay.mine("ceiling") and word.says:
                assert peer.house.modes.names.index(word.says) <= peer.ceiling.own


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestMachine = Machine.TestCase


def broken(peer: Peer, upstream: str = "llama") -> None:
    for _ in range(3):
        peer.attempt(upstream, Kind.FAILURE)


def test_a_circuit_opens_and_closes_in_all():
    """One opens: those that know no better open; it closes again: they close, without an attempt of their own."""
    world = World()
    one, other, third = world.peers
    for _ in range(3):
        third.attempt("llama", Kind.SUCCESS)
    broken(one)
    world.deliver()
    states = [peer.house.breaker.circuits["llama"].state for peer in world.peers]
    assert states == [State.OPEN, State.OPEN, State.CLOSED]
    assert [peer.ceiling.at for peer in world.peers] == [1, 1, 0]
    world.store.time += 21.0
    assert one.attempt("llama", Kind.SUCCESS)
    assert one.attempt("llama", Kind.SUCCESS)
    world.deliver()
    assert other.house.breaker.circuits["llama"].state is State.CLOSED
    world.wait(100.0)
    assert [peer.ceiling.at for peer in world.peers] == [0, 0, 0]
    assert third.said == other.said == 0


def test_what_one_has_opened_itself_it_closes_itself():
    """Another's closing only lets it try at once."""
    world = World()
    one, other, _ = world.peers
    for peer in (one, other):
        broken(peer)
    world.store.time += 5.0
    other.house.breaker.circuits["llama"].until += 1000.0
    world.store.time += 16.0
    for _ in range(2):
        one.attempt("llama", Kind.SUCCESS)
    assert not other.attempt("llama", Kind.FAILURE)
    world.deliver()
    assert other.house.breaker.circuits["llama"].state is State.OPEN
    assert other.attempt("llama", Kind.FAILURE)
    world.deliver()
    assert other.house.breaker.circuits["llama"].state is State.OPEN
    assert one.house.breaker.circuits["llama"].state is State.CLOSED  # it has just proven it


def test_a_ceiling_is_shared_without_a_circuit():
    """Also where it fell for another reason; it rises there when it rises here."""
    world = World()
    one, other, _ = world.peers
    one.ceiling.falls_ill("llama", "throttle", "throttled")
    one.tick()
    world.deliver()
    assert (other.ceiling.at, other.ceiling.reason, other.ceiling.own) == (1, "throttled", 0)
    assert other.house.modes.state(other.now())["heard"] == "balanced"
    one.ceiling.gets_well("llama", "throttle", one.now())
    world.wait(70.0)
    assert [peer.ceiling.at for peer in world.peers] == [0, 0, 0]


def test_what_nobody_stands_by_ends():
    """The one that said it dies: what it said is undone, and circuits may be proven."""
    world = World()
    one, other, third = world.peers
    broken(one)
    one.ceiling.falls_ill("llama", "throttle", "throttled")
    world.deliver()
    other.house.breaker.circuits["llama"].until += 1000.0
    third.ceiling.heard = None
    world.replace(0)
    world.wait(60.0)
    assert other.ceiling.heard is None
    assert other.attempt("llama", Kind.SUCCESS)


def test_orders_outlive_whom_they_were_given_to():
    """And are obeyed by newcomers; whoever lets go lets go for all."""
    world = World()
    one, other, _ = world.peers
    one.order("fast")
    one.order_circuit("qwen", State.OPEN)
    world.deliver()
    world.replace(0)
    world.wait(2 * ORDER_LEASE)
    assert [peer.ceiling.at for peer in world.peers] == [2, 2, 2]
    assert [peer.house.breaker.circuits["qwen"].held for peer in world.peers] == [State.OPEN] * 3
    other.order(None)
    other.order_circuit("qwen", None)
    world.deliver()
    assert [peer.ceiling.held for peer in world.peers] == [None] * 3
    assert [peer.house.breaker.circuits["qwen"].held for peer in world.peers] == [None] * 3


def test_alone():
    """Without the store each keeps its own orders, and ends those of others when their time is over."""
    world = World()
    one, other, _ = world.peers
    one.order("fast")
    world.deliver()
    for peer in world.peers:
        peer.away = True
    world.wait(ORDER_LEASE + 2 * BEAT)
    assert (one.ceiling.at, other.ceiling.at) == (2, 0)


def test_words_that_mean_nothing_here():
    """Modes and models that are not in this proxy's configuration, and states that nobody knows."""
    world = World()
    peer = world.peers[0]
    for subject, says in (
        ("ceiling", "other"), ("held ceiling", "other"), ("circuit other", "open"), ("held circuit other", "open"),
        ("circuit llama", "ajar"), ("held circuit llama", "ajar"), ("else", "x"),
    ):  # fmt: skip
        peer.hear(Word(subject, says, "", world.store.time, "x", world.store.time))
    peer.beat()
    assert (peer.ceiling.at, peer.ceiling.held) == (0, None)
    assert {circuit.state for circuit in peer.house.breaker.circuits.values()} == {State.CLOSED}
    broken(peer)
    assert peer.ceiling.at == 1
