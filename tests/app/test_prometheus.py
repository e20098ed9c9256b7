"""Prometheus itself, beside a proxy in trouble: what operators ask is answered, what should page them does.

One long test, because it is one story: all is quiet, everything breaks that an alert is for, all is quiet again; and
then there is data for whatever the manual and the dashboard ask.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.app.prometheus import Prometheus
from tests.app.stand import BRIEF, CHAT, NEVER, asking
from tests.telemetry.test_exposition import MANUAL

ROOT = Path(__file__).parents[2]
RULES = yaml.safe_load((ROOT / "config/alerts.yaml").read_text())["groups"]
ALERTS = {rule["alert"]: rule["expr"] for group in RULES for rule in group["rules"] if "alert" in rule}
RECORDS = [rule["record"] for group in RULES for rule in group["rules"] if "record" in rule]
PATIENCE = 60.0
LONG = aiohttp.ClientTimeout(total=PATIENCE)
# qwen serves the highest mode, so that its end moves the ceiling; mistral may fail as much as it likes.
SETTINGS = {
    "modes": {
        "creative": {"upstream": "qwen"},
        "balanced": {"upstream": "mistral"},
        "fast": {"upstream": "llama"},
    },
    "circuit_breaker": {
        "minimum_requests": 2,
        "timeout": 1,
        "success_threshold": 1,
        "models": {"mistral": {"minimum_requests": 100_000, "consecutive_failures": 0}},
    },
    "json_guard": {"max_retries": 1, "schemas": {"brief": BRIEF}},
    "retry": {"attempts": 1, "min_per_second": 0.1},
    "timeouts": {"first_token": 20, "stall": 20, "total": 30},
    "health": {"interval": 0.5, "fall": 1},
}


class Trouble:
    """Everything that an alert is for, over and over, until it is told to stop."""

    def __init__(self, stand) -> None:
        self._stand = stand
        self._number = 0
        self._on = True

    async def __aenter__(self):
        self._stand.sims["qwen"].down()
        self._good, self._stand.changes = self._stand.changes, {"limits": {"connections": "many"}}
        assert (await self._stand.ask("POST", "/guard/reload", admin=True)).status == 422
        makers = (self._refuse, self._fail, self._babble, self._dawdle, self._block)
        self._tasks = [asyncio.create_task(self._repeat(maker)) for maker in makers]
        return self

    async def __aexit__(self, *_):
        self._on = False
        await asyncio.gather(*self._tasks)
        await self._stand.sims["qwen"].up()
        self._stand.changes = self._good
        assert (await self._stand.ask("POST", "/guard/reload", admin=True)).status == 200

    async def _repeat(self, maker):
        while self._on:
            await maker()

    async def ask(self, model, fault, **more):
        self._number += 1
        headers = {**NEVER, "X-Simulate": fault, **more.pop("headers", {})}
        body = {**asking(f"number {self._number}"), "model": model, **more}
        return await self._stand.ask("POST", CHAT, json=body, headers=headers, timeout=LONG)

    async def _refuse(self):
        """Calls of qwen, which is down, and of mistral with a key that is wrong."""
        await self.ask("qwen", "")
        await self.ask("mistral", "status=401")
        await asyncio.sleep(0.1)

    async def _fail(self):
        """More faults than the budget has retries."""
        await self.ask("mistral", "status=500")

    async def _babble(self):
        """Prose where JSON was asked for, until the fallback."""
        await self.ask("llama", "not-json", headers={"X-Guardproxy-Schema": "brief"})
        await asyncio.sleep(0.5)

    async def _dawdle(self):
        """Answers that take more than five seconds to begin."""
        await asyncio.gather(*(self.ask("llama", "slow-first-token=5.2", stream=True) for _ in range(8)))

    async def _block(self):
        """Keep the proxy's loop, which is also this one, from turning for longer than a tick."""
        time.sleep(1.3)  # noqa: ASYNC251 -- this is the fault
        await asyncio.sleep(2.0)


def dashboard() -> list[str]:
    """Every expression of the dashboard, its variables filled in."""
    doc = json.loads((ROOT / "config/grafana-dashboard.json").read_text())
    found = [target["expr"] for panel in doc["panels"] for target in panel.get("targets", ())]
    found += [note["expr"] for note in doc["annotations"]["list"]]
    return [re.sub(r"\$(model|instance)\b", ".*", one.replace("$__rate_interval", "1m")) for one in found]


@pytest.mark.needs("prometheus")
@pytest.mark.timeout(180)
async def test_everything_that_operators_ask_and_are_told(make):
    stand = await make(SETTINGS)
    async with Prometheus.beside(stand.admin.removeprefix("http://")) as prometheus:
        await stand.until_that(prometheus.ready, PATIENCE)
        assert await prometheus.firing() <= {"LowCacheHitRate"}

        fired: set[str] = set()

        async def all_fired():
            fired.update(await prometheus.firing())
            return fired == set(ALERTS)

        async with Trouble(stand):
            try:
                await stand.until_that(all_fired, PATIENCE)
            except AssertionError:
                pytest.fail(f"did not fire: {sorted(set(ALERTS) - fired)}")
            in_trouble = {expression: await prometheus.ask(expression) for expression in ALERTS.values()}

        # The manual's expressions as they stand there; those of alerts had data while they fired.
        silent = [one for one in MANUAL.splitlines() if not (await prometheus.ask(one) or in_trouble.get(one))]
        assert silent == []
        assert [name for name in RECORDS if not await prometheus.ask(name)] == []
        assert [one for one in dashboard() if not await prometheus.ask(one)] == []

        async def quiet():
            return not await prometheus.firing()

        try:
            await stand.until_that(quiet, PATIENCE)
        except AssertionError:
            pytest.fail(f"still firing: {await prometheus.firing()}")
