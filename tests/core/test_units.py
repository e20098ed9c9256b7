"""Spans and sizes as people write them."""

from __future__ import annotations

import pytest

from guardproxy.core.units import seconds, size


@pytest.mark.parametrize(
    "written, meant",
    [(30, 30.0), (0.25, 0.25), ("250ms", 0.25), ("30s", 30.0), ("1.5 m", 90.0), ("1h", 3600.0), (" 5 ", 5.0), (0, 0.0)],
)
def test_seconds(written, meant):
    """A number is seconds; text may carry a unit."""
    assert seconds(written) == meant


@pytest.mark.parametrize("written, meant", [(1024, 1024), ("64KiB", 65536), ("1 GB", 10**9), ("0.5MiB", 1 << 19)])
def test_size(written, meant):
    """A number is bytes; both families of units are known."""
    assert size(written) == meant


@pytest.mark.parametrize(
    "written", [-1, True, None, "", "5 parsecs", "s", "-5s", "1e3s", float("nan"), float("inf"), []]
)
def test_nonsense(written):
    """What is no quantity is refused in words that say what would be one."""
    with pytest.raises(ValueError, match="expected a duration such as"):
        seconds(written)
    with pytest.raises(ValueError, match="expected a size such as"):
        size(written)
