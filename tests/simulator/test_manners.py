"""The vocabulary of orders, and when an order is due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.simulator import MannerError, Manners, table
from guardproxy.simulator.orders import Orders, conversation_of


def test_an_order_is_read_with_its_values():
    """Names are spelled with hyphens, values after an equals sign, spaces do not matter."""
    manners = Manners.parse(" latency=0.5 , reset-before,status=429, retry-after=7 ,cut=0")
    assert manners == Manners(latency=0.5, reset_before=True, status=429, retry_after="7", cut=0)
    assert manners.names == ("latency", "reset-before", "cut", "status", "retry-after")


def test_an_empty_order_is_good_manners():
    """Nothing ordered is the well-behaved server."""
    assert Manners.parse("") == Manners() == Manners.parse(" , ")
    assert Manners().names == ()


def test_error_200_has_a_default_code():
    """`error-200` alone means an inner code of 500."""
    assert Manners.parse("error-200").error_200 == 500
    assert Manners.parse("error-200=429").error_200 == 429


@pytest.mark.parametrize(
    "line, says",
    [
        ("statsu=503", "did you mean status"),
        ("nonsense", "latency, slow-first-token"),
        ("status", "status=CODE"),
        ("status=", "status=CODE"),
        ("status=99", "300 to 599"),
        ("latency=-1", "waits S seconds"),
        ("latency=nan", "waits S seconds"),
        ("comments=0", "every S seconds"),
        ("cut=x", "after N content events"),
        ("times=0", "first K requests"),
        ("rate=1.5", "share of requests"),
        ("hang=1", "takes no value"),
        ("hang,hang", "ordered twice"),
        ("retry-after=3", "status=CODE or loading"),
    ],
)
def test_an_order_nobody_can_follow_says_what_is_right(line, says):
    """Whoever mistypes an order learns the right names or the meaning of the value from the message alone."""
    with pytest.raises(MannerError, match=says):
        Manners.parse(line)


@pytest.mark.parametrize("written, says", table())
def test_every_manner_of_the_table_can_be_ordered(written, says):
    """The table is what help and documentation print; each row must be true."""
    samples = {"S": "2", "N": "3", "CODE": "503", "SHARE": "0.5", "K": "2"}
    name, _, wants = written.replace("[=CODE]", "").partition("=")
    line = f"{name}={samples[wants]}" if wants else name
    line += ",loading" if name == "retry-after" else ""
    assert line.partition("=")[0].partition(",")[0] in Manners.parse(line).names
    assert says


@given(
    st.builds(
        Manners,
        latency=st.sampled_from([0.0, 0.25, 3.0]),
        stall=st.none() | st.integers(0, 9),
        hang=st.booleans(),
        error_200=st.none() | st.integers(300, 599),
        comments=st.none() | st.sampled_from([0.01, 0.5]),
        rate=st.none() | st.sampled_from([0.1, 1.0]),
    )
)
def test_what_an_order_prints_reads_back_as_itself(manners):
    """The state that `GET /simulate` shows can be posted again."""
    assert Manners.parse(str(manners)) == manners


def test_of_two_orders_the_later_wins_where_they_collide():
    """And what only one says stays."""
    both = Manners(status=500, latency=1.0).over(Manners(status=429, hang=True))
    assert both == Manners(status=500, latency=1.0, hang=True)


def test_times_limits_an_order_to_its_first_requests():
    """After `times` requests the server behaves again."""
    orders = Orders([Manners(status=503, times=2)])
    assert [orders.due(Manners(), b"").status for _ in range(4)] == [503, 503, None, None]


@pytest.mark.parametrize("rate, due", [(0.25, 25), (0.3, 30), (1.0, 100), (0.01, 1)])
def test_rate_is_an_exact_and_evenly_spread_share(rate, due):
    """No dice: of a hundred requests exactly that share is hit, and a test may know which."""
    orders = Orders([Manners(hang=True, rate=rate)])
    hit = [orders.due(Manners(), b"").hang for _ in range(100)]
    assert sum(hit) == due
    if rate == 0.25:
        assert hit[:8] == [False, False, False, True] * 2


def test_rate_and_times_limit_together():
    """The share first, then the first K of it."""
    orders = Orders([Manners(hang=True, rate=0.5, times=1)])
    assert [orders.due(Manners(), b"").hang for _ in range(6)] == [False, True, False, False, False, False]


def test_right_on_counts_each_conversation_and_starts_anew():
    """Bad until the N-th try, then right, then bad again; others are counted apart, delays stay."""
    orders = Orders([Manners(half_json=True, latency=0.5, right_on=3)])
    mine = [orders.due(Manners(), b"mine") for _ in range(4)]
    assert [manners.half_json for manners in mine] == [True, True, False, True]
    assert mine[2].latency == 0.5
    assert orders.due(Manners(), b"other").half_json


def test_a_conversation_is_its_model_and_first_user_message():
    """A re-ask appends messages and turns the temperature down: it is the same conversation."""
    first = {"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "rose"}]}
    again = {**first, "messages": [*first["messages"], {"role": "user", "content": "JSON!"}], "temperature": 0}
    assert conversation_of(first) == conversation_of(again)
    assert conversation_of(first) != conversation_of({**first, "model": "n"})
    assert conversation_of({"prompt": "a"}) != conversation_of({"prompt": "b"})
    assert conversation_of([1]) == conversation_of(None) == b""
