"""A few seconds of the long run: nothing wrong, nothing mixed, nothing left."""

from __future__ import annotations

import pytest

from tests.faults.soak import soak


@pytest.mark.timeout(180)
@pytest.mark.needs("redis-server")
async def test_a_short_soak():
    soaked = await soak(0.25, 40)
    assert not soaked.flaws(), (soaked.flaws(), soaked.wrong[:1])
    assert soaked.seen.ends["answered"] > 100
    assert soaked.troubles.keys() == {"reloads", "model servers killed", "stores killed", "stores that hung"}
