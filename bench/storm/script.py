"""What happens to the model, and when.

Here belong the phases, the model servers that live through them, and the watch over what reaches them.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, final

from bench.lab import ROOT
from bench.process import Running, free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

NAMES = ("qwen", "mistral", "llama")
ILL = "llama"
"""The model that dies; the other two stay well."""
WELL = "latency=0.25"
"""How long a well model takes to begin, seconds."""
WATCH = 0.1
"""Seconds between two looks at what has reached the models."""
REPORT = 100
"""Looks between two words of how far it is."""


@final
@dataclass(frozen=True, slots=True)
class Script:
    """The phases, in seconds: well, dead, slow, well again; *unit* is how long a second of the plan takes."""

    unit: float = 1.0
    before: float = 20.0
    dead: float = 60.0
    slow: float = 30.0
    after: float = 140.0
    delay: float = 45.0
    """How long a slow model takes to begin."""

    def phase(self, at: float) -> str:
        """What the model is *at* real seconds from the start."""
        return "well" if at < self.died or at >= self.well else "dead" if at < self.slowed else "slow"

    @property
    def died(self) -> float:
        """When it dies, from the start, in real seconds."""
        return self.before * self.unit

    @property
    def slowed(self) -> float:
        """When it answers again, slowly."""
        return (self.before + self.dead) * self.unit

    @property
    def well(self) -> float:
        """When it is well."""
        return (self.before + self.dead + self.slow) * self.unit

    @property
    def over(self) -> float:
        """When all is over."""
        return self.well + self.after * self.unit


@final
@dataclass(slots=True)
class Seen:
    """What has reached the models, as of some moment after the start."""

    at: float
    calls: dict[str, int]
    """By model: inference calls so far, health checks of a proxy included."""
    open: int
    """Calls that the ill one is busy with."""


@final
@dataclass(slots=True)
class Models:
    """The three simulated model servers, in one process."""

    core: int
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    run: Running | None = None

    def start(self) -> None:
        """Start them."""
        base = free_port()
        while not all(_free(base + more) for more in range(3)):
            base = free_port()
        command = [sys.executable, "-m", "guardproxy", "simulate", "--port-base", str(base), "--fault", WELL]
        self.run = Running(command, core=self.core, log=self.folder / "models.log", cwd=ROOT)
        self.ports = {name: base + place for place, name in enumerate(NAMES)}
        for port in self.ports.values():
            self.run.wait_for(port, "/simulate", 20)

    async def order(self, session: aiohttp.ClientSession, order: dict[str, Any]) -> None:
        """Have the ill one behave so."""
        async with session.post(f"http://127.0.0.1:{self.ports[ILL]}/simulate", json=order) as answer:
            assert answer.status == 200, await answer.text()

    async def look(self, session: aiohttp.ClientSession, at: float) -> Seen:
        """What has reached them so far."""
        states = {}
        for name, port in self.ports.items():
            async with session.get(f"http://127.0.0.1:{port}/simulate") as answer:
                states[name] = await answer.json()
        calls = {name: state["calls"].get("/v1/chat/completions", 0) for name, state in states.items()}
        return Seen(at, calls, states[ILL]["open"])


async def play(
    script: Script,
    models: Models,
    session: aiohttp.ClientSession,
    begun: float,
    seen: list[Seen],
    say: Callable[[str], None],
) -> None:
    """Let the ill model live through *script*, which began at *begun* (the loop's clock), and watch."""
    loop = asyncio.get_running_loop()
    orders: list[tuple[float, dict[str, Any]]] = [
        (script.died, {"down": True}),
        (script.slowed, {"down": False, "fault": f"latency={script.delay * script.unit:g}"}),
        (script.well, {"down": False, "fault": WELL}),
    ]
    for number in count():
        if (at := loop.time() - begun) >= script.over:
            return
        if number % REPORT == 0 and seen:
            say(f"  {at:.0f} of {script.over:.0f} s, {script.phase(at)}: {seen[-1].calls[ILL]} attempts reached it")
        while orders and at >= orders[0][0]:
            await models.order(session, orders.pop(0)[1])
        seen.append(await models.look(session, loop.time() - begun))
        await asyncio.sleep(WATCH)


def _free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True
