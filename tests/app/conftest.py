"""What the tests of the whole proxy share: stands that leave nothing behind, on the loop that production runs on."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.app.stand import Stand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Awaitable[Stand]]]:
    """Make stands: `await make({"cache": {"enabled": False}}, llama="hang")`.

    When the test is over everything lent must have been given back.
    """
    async with AsyncExitStack() as stack:

        async def make(changes: Mapping[str, Any] | None = None, *, bare: bool = False, **faults: str) -> Stand:
            stand = await stack.enter_async_context(Stand(changes or {}, bare, faults))
            made.append(stand)
            return stand

        made: list[Stand] = []
        yield make
        for stand in made:
            await stand.until(stand.at_rest)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left


@pytest.fixture
async def stand(make: Callable[..., Awaitable[Stand]]) -> Stand:
    """A stand with short times, else as configured by default."""
    return await make()
