"""The figures of a storm, out of what callers were told and what reached the models."""

from __future__ import annotations

import pytest

from bench.storm import page
from bench.storm.callers import Told
from bench.storm.script import Script, Seen
from bench.storm.sums import sums

SCRIPT = Script(before=10.0, dead=10.0, slow=10.0, after=30.0)
"""It dies at 10, is slow at 20, well at 30, and all is over at 60."""


def told(at: float, *, ok: bool = True, strict: bool = False) -> Told:
    return Told(at, 0.2, ok, 1, 200 if ok else 503, strict, strict and ok)


def looks(*calls: tuple[float, int]) -> list[Seen]:
    """What reached the ill model, cumulative, at some moments."""
    return [Seen(at, {"llama": number, "mistral": 0, "qwen": 0}, 0) for at, number in calls]


CALLS = [
    *(told(10.2 + n / 2) for n in range(100)),
    *(told(10.3 + n, ok=n >= 26, strict=True) for n in range(50)),
]
SEEN = looks((9.0, 100), (12.0, 105), (29.0, 108), (34.9, 108), (35.0, 110), (35.1, 111), (35.2, 116), (60.0, 130))


def test_what_a_storm_comes_to():
    """Answers, attempts, and how soon the model itself is heard again, each measured from what it says."""
    one = sums(SCRIPT, CALLS, SEEN)
    assert one.answered == 1.0
    assert one.silence == pytest.approx(0.5)
    assert one.multiplied == pytest.approx((130 - 105) / 150)
    assert one.recovery == pytest.approx(6.3)
    assert one.proven == pytest.approx(1.3)
    assert one.rush == 3


def test_the_verdict_is_measured():
    """Each promise beside its figure; a figure that misses it says so."""
    good = page.reach(sums(SCRIPT, CALLS, SEEN), 3)
    assert good.count("✓") == 4
    assert "✗" not in good
    rushed = looks((9.0, 100), (34.9, 100), (35.0, 120), (36.0, 400))
    silent = [one for one in CALLS if one.strict or not 15 < one.at < 17]
    lost = [told(20.0, ok=False)]
    bad = page.reach(sums(SCRIPT, silent + lost, rushed), 3)
    assert [line.endswith("✗ |") for line in bad.splitlines()[2:]] == [True, False, True, True]
    never = page.reach(sums(SCRIPT, [one for one in CALLS if not (one.strict and one.ok)], SEEN), 3)
    assert "not within the time" in never
    assert "not run" in page.reach(None, 3)


def test_the_phases():
    """Real seconds, in the unit of the script."""
    script = Script(unit=0.5)
    assert [script.phase(at) for at in (0.0, 10.0, 40.0, 55.0)] == ["well", "dead", "slow", "well"]


def test_the_picture_ends_where_nobody_watched():
    """A storm that was watched for less long leaves the rest of its strip empty."""
    svg = page.picture(SCRIPT, {"guardproxy": (CALLS, SEEN), "no proxy": (CALLS[:10], SEEN[:3])})
    assert svg.count("<polyline") == 2
    lines = [line for line in svg.splitlines() if line.startswith("<polyline")]
    assert len(lines[0].split()) > len(lines[1].split())
