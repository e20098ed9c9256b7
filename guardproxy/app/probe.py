"""Asking every upstream whether it enforces a schema: ``guardproxy check --probe``.

Here belongs the asking, with the connections, keys and names of the configuration and none of its guards.  What is
asked and what an answer shows is `checklist.enforcing`'s.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Final

from guardproxy.app.house import build
from guardproxy.checklist.enforcing import WAYS, Finding, finding, question
from guardproxy.config import registry
from guardproxy.core.values import Answer, Call, Record, Target
from guardproxy.openai.strict import dumps

if TYPE_CHECKING:
    from guardproxy.app.house import House
    from guardproxy.config.load import Loaded

PATIENCE: Final = 60.0
"""Seconds for one question: a model may have to be loaded first."""


async def probe(loaded: Loaded) -> dict[str, dict[str, Finding]]:
    """What each upstream does with a schema, by its name and the way in which it was told of it."""
    house = build(loaded, asyncio.get_running_loop(), time.time)
    try:
        found = await asyncio.gather(*(_upstream(house, name) for name in house.upstreams))
    finally:
        for upstream in house.upstreams.values():
            await upstream.close()
        await house.scales.close()
    return dict(zip(house.upstreams, found, strict=True))


async def _upstream(house: House, name: str) -> dict[str, Finding]:
    """One way after the other: an engine that is asked four things at once may refuse three."""
    return {way: await _ask(house, name, way) for way in WAYS}


async def _ask(house: House, name: str, way: str) -> Finding:
    dialect = next(one for one in registry.dialects() if one.name == "chat")
    model = house.config.upstreams[name].model or name
    word = secrets.token_hex(4)
    doc, now = question(model, way, word), asyncio.get_running_loop().time()
    call = Call(
        id=f"probe-{word}",
        method="POST",
        path=dialect.paths[0],
        query="",
        headers=[(b"Content-Type", b"application/json"), (b"User-Agent", b"guardproxy-probe")],
        body=dumps(doc),
        doc=doc,
        dialect=dialect,
        model=model,
        upstream=name,
        deadline=now + PATIENCE,
    )
    outcome = await house.performer.ask(house.rules.aim(call, Target(name, model)), Record(now))
    if isinstance(outcome, Answer):
        return finding(dialect.examine(call, outcome), dialect, word)
    return finding(outcome, dialect, word)
