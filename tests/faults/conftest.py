"""What the tests of the list share: the loop that production runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop

from tests.net.raw import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def certs(tmp_path_factory, needs):
    """`ca`, `server` (for localhost and 127.0.0.1), `other` (for elsewhere), `old` (expired), `client`."""
    needs("openssl")
    return certificates(tmp_path_factory.mktemp("certs"))
