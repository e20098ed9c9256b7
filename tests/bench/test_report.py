"""Tables, verdicts and the picture say what was measured."""

import math
from xml.etree import ElementTree as ET

import pytest

from bench import plot, table
from bench.growth import Growth, lookup
from bench.hop import Hop
from bench.inside import Inside, stages
from bench.lab import Row, median
from bench.verdict import Aim, aims, verdicts


def row(cpu, rate=1000.0):
    return Row(cpu=cpu, kernel=0.25, rate=rate, p50=1.0, p99=2.0, rss=40_000_000, busy=0.9)


@pytest.fixture
def hop():
    rows = {("direct", "miss"): row(10), ("envoy", "miss"): row(80), ("guardproxy", "miss"): row(100)}
    rows |= {("guardproxy", "hit"): row(40), ("guardproxy", "stream"): row(30), ("envoy", "stream"): row(30)}
    return Hop(rows=rows, rest={"direct": (0.1, 0.2), "guardproxy": (0.3, 0.9)}, absent={"nginx": "not installed"})


@pytest.fixture
def growth():
    relayed = {(name, size): row(50.0) for name in ("direct", "guardproxy", "nginx") for size in (1_000, 10_000_000)}
    return Growth(relayed, {1_000: row(5_000.0), 10_000_000: row(40_000.0)}, {1: row(50)}, {100: (0.3, 1.2)}, 17_000)


def test_systems_stand_by_their_cost(hop):
    text = table.hop_table(hop)
    assert text.index("**guardproxy**, hit") < text.index("| envoy |") < text.index("**guardproxy**, miss")
    assert "| 1.25 |" in text
    assert "nginx (not installed)" in text


def test_what_is_added_is_a_difference(hop):
    assert "| guardproxy | 0.30 | 0.90 | +0.20 | +0.70 |" in table.rest_table(hop)


def test_verdicts_are_by_the_bound_and_silent_where_nothing_was_measured(hop, growth):
    found = {aim.what: aim for aim in aims(hop, growth, (0.4, 52_000_000), 14.0)}
    assert found["miss, CPU beside Envoy"].held is False
    assert found["hit, CPU beside Envoy"].held is True
    assert found["throughput beside LiteLLM"].held is None
    assert found["guarded 10 MB, CPU"].found == pytest.approx(4.0)
    text = verdicts([*found.values(), Aim("nothing", 1.0, math.nan, "s")])
    assert "| nothing | ≤ 1 s | – | not measured |" in text
    assert "| start to ready | ≤ 0.5 s | 0.40 s | held |" in text


def test_growth_is_told_by_size(growth):
    text = table.growth_tables(growth)
    assert "| 10,000,000 | 10,000 | 10,000 | 10,000 |" in text
    assert "17 kB" in text


def test_a_part_of_a_document_is_replaced_and_a_missing_one_is_an_error():
    document = "a\n<!-- bench: hop -->\nold\n<!-- /bench -->\nb\n"
    assert table.replaced(document, "hop", "new\n") == "a\n<!-- bench: hop -->\nnew\n<!-- /bench -->\nb\n"
    with pytest.raises(ValueError, match="no part"):
        table.replaced(document, "rest", "new\n")


def test_the_picture_is_well_formed_and_longer_where_it_costs_more():
    picture = ET.fromstring(plot.bars("a < b", "µs", [("x & y", 5.0, True), ("z", 5_000.0, False)]))  # noqa: S314 -- we wrote it
    first, second = picture.iter("{http://www.w3.org/2000/svg}rect")
    assert float(first.attrib["width"]) < float(second.attrib["width"])


def test_the_middle_of_rows():
    assert median([row(1), row(5), row(3)]).cpu == 3


def test_a_kept_answer_is_found_fast_in_a_large_cache():
    found, kept = lookup(2_000, samples=500)
    assert 0 < found < 100
    assert 0 < kept < 100


async def test_stages_add_up_to_a_call():
    found = stages(100)
    assert set(found) == {"miss", "hit", "event"}
    assert all(micros > 0 for part in found.values() for micros in part.values())


def test_a_second_call_is_a_hit():
    import uvloop  # noqa: PLC0415 -- only here

    loop = uvloop.new_event_loop()
    try:
        inside = Inside(loop)
        body = inside.bodies(1, unique=False)[0]
        assert inside.miss(body).cache_event == "miss"
        assert inside.hit(body).cache_event == "hit"
    finally:
        loop.close()
