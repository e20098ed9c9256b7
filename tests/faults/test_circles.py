"""What is over is gone at once: Python looks for circles of garbage seldom here, and what lies in one waits until then.

A call, a connection, or a configuration that has been replaced with all that its cache held, is memory that is not
there for anybody else (`guardproxy.app.serve.YOUNG` says how seldom).
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest

from guardproxy.flow.rules import Rules
from tests.app.stand import merged
from tests.faults.storm import CHANGES, Model, Seen, call
from tests.faults.trial import NEVER, Trial
from tests.faults.wire import asking

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def circles() -> Iterator[Counter[str]]:
    """Whatever of ours was only to be had by looking for circles, by its kind."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found.update(type(one).__qualname__ for one in gc.garbage if type(one).__module__.startswith("guardproxy."))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


MORE = {
    "hedge": {"enabled": True, "quantile": 0.3, "least_seconds": 0.001},
    "load": {"enabled": True, "floor": 1, "initial": 4, "ceiling": 4},
    "cache": {"stale_while_revalidate_seconds": 5},
}
"""What is off otherwise: two asked for one answer, calls that wait in line, calls that nobody waits for."""


@pytest.mark.parametrize("more", [{}, MORE], ids=["as always", "and more"])
@pytest.mark.parametrize("seed", range(2))
async def test_calls_and_connections(seed, more):
    """Whatever becomes of calls and of those who make them, what they took is free as soon as they are over."""
    dice, seen = Random(seed), Seen()
    async with Trial(merged(CHANGES, more)) as trial:
        for model in trial.models.values():
            model.play = Model(Random(dice.random()), 0.3)
        with circles() as found:
            numbers = iter(range(150))

            async def caller() -> None:
                for number in numbers:
                    await call(trial, dice, number, seen)

            await asyncio.gather(*(caller() for _ in range(12)))
            for model in trial.models.values():
                model.play = Model(Random(0), 0.0)
            await trial.balanced()
        assert not found, (seed, found)


async def test_refused_and_ended():
    """A connection that is refused, and a check that a reload ends, are no more than a fault."""
    async with Trial({"health": {"interval": 0.1, "timeout": 30}}) as trial:
        trial.llama.raw.down()
        for task in list(trial.llama.raw.tasks):
            task.cancel()
        with circles() as found:
            for number in range(5):
                assert (await trial.ask(asking(str(number)), NEVER)).status == 502
            blocked = await asyncio.start_server(lambda *_: None, "127.0.0.1", trial.llama.raw.port)
            for number in range(3):
                await trial.until(lambda: "llama" in trial.proxy.prober._running)
                trial.changes = {**trial.changes, "cache": {"ttl_seconds": 100 + number}}
                assert await trial.proxy.reload() == []
                await trial.until(lambda: not trial.proxy._leaving)
        assert not found, found
        assert sum(type(one) is Rules for one in gc.get_objects()) == 1
        blocked.close()


async def test_configurations():
    """A configuration that has been replaced is gone once its calls are, with what its cache held."""
    async with Trial() as trial:
        for number in range(5):
            await trial.ask(asking(str(number)), NEVER)
        with circles() as found:
            for number in range(3):
                trial.changes = {"cache": {"ttl_seconds": 100 + number}}
                assert await trial.proxy.reload() == []
                assert (await trial.ask(asking("0"), NEVER)).fields["cache-status"].startswith("guardproxy; hit")
            await trial.until(lambda: not trial.proxy._leaving)
            await trial.until(lambda: all(pulse.last for pulse in trial.proxy.house.health.pulses.values()))
            await trial.until(lambda: not trial.proxy.prober._running)
        assert not found, found
        assert sum(type(one) is Rules for one in gc.get_objects()) == 1
