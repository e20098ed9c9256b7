"""`python -m bench.hedging`: what a second upstream for a slow stream gains, and what it costs.

Here belong two simulated upstreams whose first tokens have a long tail, callers who read streams, and the comparison of
guardproxy with `hedge` off and on.  The table stands in docs/breaker.md.  A minute and a half; ``--quick`` ten seconds.

First tokens: log-normal around 0.15 s, and one call in forty stands behind somebody's long prompt for one to four
seconds.  The same calls are drawn by the same dice for both settings, each upstream with dice of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import aiohttp
from aiohttp import web

from bench import table
from bench.__main__ import machine
from bench.lab import ROOT
from bench.process import Running, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

DOCUMENT = ROOT / "docs/breaker.md"
CALLERS, CALLS, QUICK = 25, 4000, 400
LEARNING = 200
"""Calls before those that count: the quantile is not known yet."""
MEDIAN, SPREAD, STUCK = 0.15, 0.5, 1 / 40
LONG = (1.0, 4.0)
TOKENS, PACE = 12, 0.005
BUDGET = 0.05
"""`hedge.budget` as shipped."""


@final
@dataclass(slots=True)
class Upstream:
    """One simulated model server."""

    name: str
    dice: random.Random
    port: int = 0
    calls: int = 0
    tokens: int = 0
    """Tokens that it made, those nobody read among them."""
    left: int = 0
    """Calls whose caller hung up."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """A stream, or a word for whoever checks its health."""
        if request.method != "POST":
            return web.Response(status=404)
        asked = json.loads(await request.read())
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "well"}, "finish_reason": "stop"}
            return web.json_response({"object": "chat.completion", "choices": [choice]})
        self.calls += 1
        waits = random.Random(self.dice.random())
        try:
            await asyncio.sleep(delay(waits))
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            for number in range(TOKENS):
                self.tokens += 1
                await response.write(event({"content": f"{number} "}))
                await asyncio.sleep(PACE)
            await response.write(event({}, "stop") + b"data: [DONE]\n\n")
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise
        return response


def delay(dice: random.Random) -> float:
    """Seconds until a first token."""
    return dice.uniform(*LONG) if dice.random() < STUCK else MEDIAN * dice.lognormvariate(0, SPREAD)


def event(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One chunk."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


@asynccontextmanager
async def serving(*upstreams: Upstream) -> AsyncIterator[None]:
    """Have them serve."""
    runners = []
    for one in upstreams:
        runner = web.ServerRunner(web.Server(one.answer, handler_cancellation=True), shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        one.port = runner.addresses[0][1]
        runners.append(runner)
    try:
        yield
    finally:
        for runner in runners:
            await runner.cleanup()


@final
@dataclass(slots=True)
class Came:
    """What one setting came to."""

    calls: int = 0
    failed: int = 0
    firsts: list[float] = field(default_factory=list)
    reached: int = 0
    """Calls that reached any upstream."""
    second: int = 0
    """How often a second one was asked, as the proxy counts it."""
    left: int = 0
    tokens: int = 0

    def within(self, share: float) -> float:
        """Seconds to the first token within which *share* of the calls had it."""
        ordered = sorted(self.firsts)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def extra(self) -> float:
        """Share of calls that reached an upstream besides."""
        return self.reached / self.calls - 1


async def ask(session: aiohttp.ClientSession, url: str, number: int) -> float | None:
    """Read one stream; seconds to its first token, None where it failed."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    asked = {"model": "first", "stream": True, "messages": [{"role": "user", "content": f"question {number}"}]}
    async with session.post(url, json=asked) as answer:
        if answer.status != 200:
            return None
        body = await answer.content.readany()
        first = loop.time() - begun
        body += await answer.content.read()
    return first if b"[DONE]" in body else None


async def measured(calls: int, *, hedge: bool, folder: Path) -> Came:
    """One setting."""
    upstreams = [Upstream("first", random.Random(1)), Upstream("second", random.Random(2))]
    port = free_port()
    async with serving(*upstreams):
        config = {
            "listen": f"127.0.0.1:{port}",
            "admin": "127.0.0.1:0",
            "upstreams": {one.name: {"url": f"http://127.0.0.1:{one.port}", "model": one.name} for one in upstreams},
            "modes": {"high": {"upstream": "first"}, "low": {"upstream": "second"}},
            "cache": {"enabled": False},
            "health": {"interval": 3600},
            "hedge": {"enabled": hedge, "budget": BUDGET},
        }
        path = folder / f"{hedge}.yaml"
        path.write_text(json.dumps(config))
        run = Running([sys.executable, "-m", "guardproxy", "run", str(path)], core=0, log=folder / "log", cwd=ROOT)
        try:
            await asyncio.to_thread(run.wait_for, port, "/readyz", 30.0)
            return await _asked(calls, f"http://127.0.0.1:{port}", upstreams)
        finally:
            await asyncio.to_thread(run.end)


async def _asked(calls: int, url: str, upstreams: Sequence[Upstream]) -> Came:
    came = Came()
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def crowd(numbers: range) -> list[float | None]:
            left = iter(numbers)

            async def caller() -> list[float | None]:
                return [await ask(session, f"{url}/v1/chat/completions", number) for number in left]

            return [one for some in await asyncio.gather(*(caller() for _ in range(CALLERS))) for one in some]

        async def hedges() -> int:
            text = await (await session.get(f"{url}/metrics")).text()
            lines = [line for line in text.splitlines() if line.startswith("guardproxy_hedges_total{")]
            return sum(int(float(line.rpartition(" ")[2])) for line in lines)

        await crowd(range(LEARNING))
        before = (sum(one.calls for one in upstreams), sum(one.left for one in upstreams), await hedges())
        made = sum(one.tokens for one in upstreams)
        seen = await crowd(range(LEARNING, LEARNING + calls))
        came.calls = len(seen)
        came.firsts = [one for one in seen if one is not None]
        came.failed = came.calls - len(came.firsts)
        came.second = await hedges() - before[2]
        await asyncio.sleep(0.2)
    came.reached = sum(one.calls for one in upstreams) - before[0]
    came.left = sum(one.left for one in upstreams) - before[1]
    came.tokens = sum(one.tokens for one in upstreams) - made
    return came


def shown(off: Came, on: Came) -> str:
    """The table."""
    lines = [
        "| `hedge` | first token p50 | p95 | p99 | p99.9 | calls besides | counted | tokens for nobody | failed |",
        "|---" * 9 + "|",
    ]
    for name, one in (("off", off), ("on", on)):
        times = " | ".join(f"{one.within(share) * 1000:.0f} ms" for share in (0.5, 0.95, 0.99, 0.999))
        wasted = one.tokens / ((one.calls - one.failed) * TOKENS) - 1
        lines.append(f"| {name} | {times} | {one.extra:.1%} | {one.second} | {wasted:.1%} | {one.failed} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure both, print, write; 1 where the budget was not kept or a second call was not counted."""
    parser = argparse.ArgumentParser(prog="python -m bench.hedging", description="what a second upstream gains")
    parser.add_argument("--quick", action="store_true", help="a tenth of the calls; writes nothing")
    given = parser.parse_args()
    calls = QUICK if given.quick else CALLS
    with tempfile.TemporaryDirectory(prefix="hedging-") as home:
        off = asyncio.run(measured(calls, hedge=False, folder=Path(home)))
        on = asyncio.run(measured(calls, hedge=True, folder=Path(home)))
    text = shown(off, on)
    print(text)
    kept = on.extra <= BUDGET + 5 / calls and on.second == on.reached - on.calls
    print("within the budget, each counted" if kept else "NOT within the budget, or not each counted")
    if not given.quick:
        document = table.replaced(DOCUMENT.read_text(), "hedge", text)
        DOCUMENT.write_text(table.replaced(document, "hedge-machine", machine()))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
