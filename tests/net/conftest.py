"""What the tests of the sockets share: the client's own run under both loops."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from guardproxy.net.upstream import Limits, Upstream
from tests.net.raw import Clock, certificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

CLIENT = ("test_address", "test_connection", "test_exchange", "test_pool", "test_upstream")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.stem in CLIENT or item.path.stem.startswith("test_server"):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def reach(clock: Clock) -> AsyncIterator[Callable[..., Upstream]]:
    """Make upstreams; when the test is over none may hold a place."""
    made: list[Upstream] = []

    def make(url: str, *, ca_file: str | None = None, client_cert: Any = None, **limits: Any) -> Upstream:
        settings = replace(Limits(connect=1.0), **limits)
        upstream = Upstream("qwen", url, settings=settings, ca_file=ca_file, client_cert=client_cert, clock=clock)
        made.append(upstream)
        return upstream

    yield make
    for upstream in made:
        await upstream.close()
        await asyncio.sleep(0.01)
        assert repr(upstream) == "<Upstream qwen: closed, open 0, idle 0, waiting 0>"
        assert not upstream._pool.all
        assert not upstream._tasks
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not others


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory, needs: Callable[..., None]) -> Path:
    """`ca`, `server` (for model.test and 127.0.0.1), `other` (for elsewhere.test), `old` (expired), `client`."""
    needs("openssl")
    return certificates(tmp_path_factory.mktemp("certs"))
