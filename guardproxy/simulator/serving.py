"""Several simulated servers that run until they are told to stop: the three of a first look, or those asked for.

Here belongs starting and stopping them together and saying where they are. Here does not belong argv (`main`).
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from guardproxy.simulator.server import Simulator

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

PORT_BASE: Final = 18001
# As many requests as `GET /simulate` shows: nobody reads the others, and a request may hold images.
REMEMBER: Final = 20
MODELS: Final = {
    "qwen": "Qwen/Qwen2.5-7B-Instruct",
    "mistral": "mistralai/Mistral-7B-Instruct-v0.3",
    "llama": "meta-llama/Meta-Llama-3-8B-Instruct",
}


def three(
    port_base: int = PORT_BASE, *, host: str = "127.0.0.1", faults: Sequence[str] = (), engine: str = "openai"
) -> list[Simulator]:
    """The three of a first look, qwen, mistral and llama, on consecutive ports, or on free ones where the base is 0."""
    return [
        Simulator(name, model, host, port_base and port_base + number, faults=faults, remember=REMEMBER, engine=engine)
        for number, (name, model) in enumerate(MODELS.items())
    ]


async def serve(
    simulators: Sequence[Simulator], until: asyncio.Event, announce: Callable[[str], object] | None = None
) -> None:
    """Start these servers, announce each with a line, and stop them when `until` is set.

    Raises `OSError` where a port is taken; those already started are stopped then, too.
    """
    async with AsyncExitStack() as stack:
        for simulator in simulators:
            await stack.enter_async_context(simulator)
        for simulator in simulators:
            if announce is not None:
                announce(line_of(simulator))
        await until.wait()


def line_of(simulator: Simulator) -> str:
    """The line that announces a server; its words are name, URL, model and pid, in this order."""
    return f"{simulator.name:<8} {simulator.url}  {simulator.model}  pid={os.getpid()}"
