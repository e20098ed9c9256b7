"""A real Prometheus beside a stand: it scrapes the proxy, evaluates rules, and answers expressions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
WINDOW = "4s"
"""What five minutes, and ten, are in the rules that a test waits for."""


def hurried(rules: str) -> str:
    """The same rules with short windows: nothing else is changed, neither expressions nor thresholds."""
    return re.sub(r"\bfor: \d+[mh]\b", "for: 500ms", re.sub(r"\[\d+[mh]\]", f"[{WINDOW}]", rules))


class Prometheus:
    """Asks a running Prometheus."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def ask(self, expression: str) -> list[dict[str, Any]]:
        """What an expression has as its result now; it must be one that Prometheus understands."""
        doc = await self._get("query", query=expression)
        assert doc["status"] == "success", (expression, doc)
        return list(doc["data"]["result"])

    async def firing(self) -> set[str]:
        """The alerts that fire."""
        groups = (await self._get("rules", type="alert"))["data"]["groups"]
        assert all(rule["health"] != "err" for group in groups for rule in group["rules"]), groups
        return {rule["name"] for group in groups for rule in group["rules"] if rule["state"] == "firing"}

    async def ready(self) -> bool:
        """Whether it has looked at the proxy twice: a rate needs two."""
        try:
            return bool(await self.ask("count_over_time(up[1m]) >= 2 and up == 1"))
        except aiohttp.ClientError:
            return False

    async def _get(self, what: str, **query: str) -> dict[str, Any]:
        async with self._session.get(f"{self._url}/api/v1/{what}", params=query) as response:
            return dict(await response.json())

    @classmethod
    @contextlib.asynccontextmanager
    async def beside(cls, target: str) -> AsyncIterator[Self]:
        """Start one that scrapes *target* four times a second, with the rules of config/alerts.yaml, hurried."""
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            (place / "rules.yaml").write_text(hurried((ROOT / "config/alerts.yaml").read_text()))
            often = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
            jobs = [{"job_name": "guardproxy", "static_configs": [{"targets": [target]}]}]
            config = {"global": often, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
            (place / "prometheus.yaml").write_text(json.dumps(config))
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            process = await asyncio.create_subprocess_exec(
                *("prometheus", f"--config.file={place / 'prometheus.yaml'}", f"--storage.tsdb.path={place / 'data'}"),
                *(f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h", "--log.level=warn"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                    yield cls(f"http://127.0.0.1:{port}", session)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
