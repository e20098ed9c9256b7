"""Late is who is late, not who waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from guardproxy.net.wait import Wait


async def test_what_comes_in_time():
    """Is what there is to it."""
    async with Wait(asyncio.get_running_loop(), 5.0):
        await asyncio.sleep(0.01)


async def test_what_does_not_come():
    """Is waited for no longer; the one who waited is not cancelled."""
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with Wait(asyncio.get_running_loop(), 0.05):
            await asyncio.sleep(60)
    assert 0.05 <= time.monotonic() - begun < 30
    await asyncio.sleep(0)


async def test_a_loop_that_is_late_itself():
    """Its lateness is not held against the other: what came meanwhile is heard."""
    loop = asyncio.get_running_loop()
    came = loop.create_future()

    async def busy():
        for _ in range(3):
            time.sleep(0.05)  # noqa: ASYNC251 -- that is what it is about
            await asyncio.sleep(0)
        came.set_result(None)

    task = asyncio.ensure_future(busy())
    async with Wait(loop, 0.02):
        await came
    await task


async def test_whoever_is_cancelled_is_cancelled():
    """From outside it is what it looks like."""

    async def waits():
        async with Wait(asyncio.get_running_loop(), 60.0):
            await asyncio.sleep(60)

    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_is_passed_on():
    """And the time is over with it."""
    with pytest.raises(ValueError, match="x"):
        async with Wait(asyncio.get_running_loop(), 60.0):
            raise ValueError("x")
