"""A few seconds of the long run: nothing wrong, nothing mixed, nothing left."""

from __future__ import annotations

import pytest

from tests.faults.soak import soak


@pytest.mark.timeout(180)
async def test_a_short_soak():
    soaked = await soak(0.09, 40)
    assert not soaked.wrong, soaked.wrong[0]
    assert soaked.seen.ends["answered"] > 100
    assert soaked.reloads >= 1
    assert soaked.kills >= 1
    assert soaked.left_files <= 3
