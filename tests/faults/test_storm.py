"""Random calls, random faults: each answer belongs to its question, is whole or says why not, and accounts balance."""

from __future__ import annotations

import pytest

from tests.faults.storm import play


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm(seed):
    seen = await play(seed)
    assert seen.ends["answered"] > 10, seen


async def test_fair_weather():
    """With nothing wrong everybody who stays is answered."""
    seen = await play(0, wrong=0.0)
    assert seen.ends.keys() <= {"answered", "left"}, seen
