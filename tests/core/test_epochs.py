"""What a mark in the store means, and that a purge is never undone by a store that forgets."""

from __future__ import annotations

from itertools import count

import hypothesis.strategies as st
from hypothesis import given

from guardproxy.core.epochs import ALL, Epochs, Found


def epochs(start: int = 0) -> Epochs:
    chance = count(start)
    return Epochs(lambda: next(chance).to_bytes(8, "big"))


def test_each_case():
    """The table, row by row."""
    one, other = epochs(), epochs(100)
    assert one.find(ALL, None) is Found.BEHIND
    first = one.mark(ALL)
    assert one.find(ALL, first) is Found.SAME
    assert other.find(ALL, first) is Found.ADOPTED
    purged = other.purge(ALL, 5.0)
    assert one.find(ALL, purged) is Found.PURGED
    assert one.find(ALL, first) is Found.BEHIND
    assert one.find(ALL, None) is Found.BEHIND
    assert one.mark(ALL) == purged
    born, later = epochs(), epochs(7)
    names = [born.mark("llama"), later.mark("llama")]
    assert [born.find("llama", names[1]), later.find("llama", names[0])] == [Found.RENAMED] * 2  # whichever is there
    assert born.find("llama", b"nonsense") is Found.BEHIND
    assert repr(one) == "<Epochs of *>"
    assert one.name("llama") == one.mark(ALL) + one.mark("llama")


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["ask", "purge", "forget", "renew"])), max_size=20))
def test_a_purge_is_never_undone(steps):
    """Whatever the store forgets, and whoever comes anew: who has heard of a purge never goes back behind it.

    In the end all have the same mark: the latest that anybody has who is there.
    """
    proxies = [epochs(0), epochs(1000), epochs(2000)]
    store: list[bytes | None] = [None]
    made = 10_000

    def ask(proxy: Epochs) -> None:
        if proxy.find(ALL, store[0]) is Found.BEHIND:
            store[0] = proxy.mark(ALL)

    for now, (who, what) in enumerate(steps):
        before = proxies[who].mark(ALL) if what != "ask" else b""
        if what == "purge":
            store[0] = proxies[who].purge(ALL, now + 1.0)
            assert proxies[who].mark(ALL) > before
        elif what == "forget":
            store[0] = None
        elif what == "renew":
            made += 1000
            proxies[who], before = epochs(made), b""
        ask(proxies[who])
        assert proxies[who].mark(ALL)[:16] >= before[:16]
    latest = max(proxy.mark(ALL)[:16] for proxy in proxies)
    for proxy in (*proxies, *proxies):
        ask(proxy)
    assert [proxy.mark(ALL) for proxy in proxies] == [store[0]] * 3
    assert store[0] is not None
    assert store[0][:16] >= latest


def test_a_clock_that_is_behind():
    """A purge is later than the one before it all the same."""
    one = epochs()
    late = one.purge(ALL, 1e9)
    assert one.purge(ALL, 5.0) > late
