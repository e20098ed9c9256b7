"""`python -m bench.storm`: the outage, for each system in turn.

Here belong the arguments, the systems, and the order of one run.  A storm takes 250 seconds of the plan for guardproxy,
whose circuit may stay open for as long as the model was ill, and 140 for the others: nine minutes in all.
``--unit 0.25`` makes a quarter of them, with every timeout of guardproxy shortened alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from bench import peers, table
from bench.__main__ import machine
from bench.lab import MISSING, ROOT
from bench.process import Running, free_port
from bench.storm import page
from bench.storm.callers import Asked, Told, crowd
from bench.storm.script import ILL, NAMES, Models, Script, Seen, play
from bench.storm.sums import Sums, sums

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENT = ROOT / "docs/storm.md"
PICTURE = ROOT / "docs/storm.svg"
CALLERS, THOUGHT = 200, 4.0
PATIENCE = 60.0
"""Seconds of the plan that callers wait for a byte."""
SHORT = 30.0
"""Seconds of the plan for which those are watched after the recovery whose circuits do not stay open for minutes."""
PROBES = 3
"""Attempts at once that guardproxy lets through to a model whose circuit is due: `half_open_requests`, as shipped."""
SPARE = 60.0
"""Seconds after its end in which a storm is broken off."""


def guardproxy(script: Script, models: Models, folder: Path) -> tuple[str, str, Running]:
    """As it is shipped, but for its times, which are shortened as the script is, and the cache, which is off."""
    port, unit = free_port(), script.unit
    config: dict[str, Any] = {
        "listen": f"127.0.0.1:{port}",
        "admin": "127.0.0.1:0",
        "upstreams": {name: {"url": f"http://127.0.0.1:{models.ports[name]}", "model": name} for name in NAMES},
        "cache": {"enabled": False},  # every question is another one, and hits would only flatter
        "circuit_breaker": {
            "timeout": 60 * unit,
            "max_timeout": 240 * unit,
            "window": 60 * unit,
            "slow_first_token": 30 * unit,
        },
        "downshift": {"recovery_seconds": 60 * unit, "dwell_seconds": 30 * unit},
        "timeouts": {"first_token": 60 * unit},
        "health": {"interval": 30 * unit, "timeout": max(1.0, 10 * unit)},
    }
    path = folder / "guardproxy.yaml"
    path.write_text(json.dumps(config))
    run = Running([sys.executable, "-m", "guardproxy", "run", str(path)], core=0, log=folder / "log", cwd=ROOT)
    run.wait_for(port, "/readyz", 30)
    return f"http://127.0.0.1:{port}/v1/chat/completions", "creative", run


def none(_script: Script, models: Models, _folder: Path) -> tuple[str, str, None]:
    """Nothing: the callers ask the model itself."""
    return f"http://127.0.0.1:{models.ports[ILL]}/v1/chat/completions", ILL, None


def sglang_router(script: Script, models: Models, folder: Path) -> tuple[str, str, Running]:
    """One worker behind it, its own circuit breaker and retries as they are; its times shortened as the script is."""
    program = peers.find(folder.parent / "peers", "sglang-router")
    if program is None:
        raise FileNotFoundError(MISSING)
    port = free_port()
    command = [str(program), "-m", "sglang_router.launch_router"]
    options = ["--worker-urls", f"http://127.0.0.1:{models.ports[ILL]}", "--policy", "round_robin"]
    times = {"cb-timeout-duration": 60, "cb-window-duration": 120, "health-check-interval": 60}
    for name, seconds in times.items():
        options += [f"--{name}-secs", str(max(1, round(seconds * script.unit)))]
    options += ["--log-level", "error", "--prometheus-port", str(free_port()), "--host", "127.0.0.1"]
    run = Running([*command, *options, "--port", str(port)], core=0, log=folder / "log", cwd=ROOT)
    run.wait_for(port, "/v1/models", 90)
    return f"http://127.0.0.1:{port}/v1/chat/completions", ILL, run


SYSTEMS: dict[str, Callable[[Script, Models, Path], tuple[str, str, Running | None]]] = {
    "guardproxy": guardproxy,
    "no proxy": none,
    "sglang-router": sglang_router,
}


async def storm(
    script: Script, models: Models, url: str, model: str, say: Callable[[str], None]
) -> tuple[list[Told], list[Seen]]:
    """One storm over whoever listens at *url*."""
    told: list[Told] = []
    seen: list[Seen] = []
    asked = Asked(url, model, PATIENCE * script.unit, THOUGHT, {})
    async with asyncio.timeout(script.over + SPARE), aiohttp.ClientSession() as session:
        await models.order(session, {"down": False, "fault": "latency=0.25"})
        begun = asyncio.get_running_loop().time() + 0.5
        await asyncio.gather(
            play(script, models, session, begun, seen, say), crowd(CALLERS, asked, begun, script.over, told)
        )
    return told, seen


def run(script: Script, only: frozenset[str], installed: Path, say: Callable[[str], None]) -> tuple[dict, dict, dict]:  # type: ignore[type-arg] # three by name
    """A storm for each system: its figures, what happened in it, and who could not be had."""
    rows: dict[str, Sums] = {}
    storms: dict[str, tuple[list[Told], list[Seen]]] = {}
    absent: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="storm-") as home:
        (Path(home) / "peers").symlink_to(installed.absolute())
        for name, begin in SYSTEMS.items():
            if only and name not in only:
                continue
            folder = Path(home) / name.replace(" ", "-")
            folder.mkdir()
            models, system = Models(1, folder), None
            plan = script if name == "guardproxy" else replace(script, after=SHORT)
            models.start()
            try:
                url, model, system = begin(plan, models, folder)
                say(f"{name}: {plan.over:.0f} s")
                storms[name] = asyncio.run(storm(plan, models, url, model, say))
                rows[name] = sums(plan, *storms[name])
            except (OSError, TimeoutError) as error:
                absent[name] = str(error)
            finally:
                for process in (system, models.run):
                    if process is not None:
                        process.end()
    return rows, storms, absent


def main() -> int:
    """Storm, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.storm", description="an outage, system by system")
    parser.add_argument("--unit", type=float, default=1.0, help="how long a second of the plan takes")
    parser.add_argument("--only", default="", help="systems, separated by commas")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ as they are")
    parser.add_argument("--peers", type=Path, default=ROOT / peers.FOLDER)
    given = parser.parse_args()
    script = replace(Script(), unit=given.unit)
    only = frozenset(filter(None, given.only.split(",")))
    rows, storms, absent = run(script, only, given.peers, lambda text: print(text, file=sys.stderr, flush=True))
    text = page.table(rows, absent)
    verdict = page.reach(rows.get("guardproxy"), PROBES)
    print(text, verdict, sep="\n\n")
    if not given.no_write and not only:
        parts = {"storm": text, "reach": verdict, "machine": machine(), "unit": _unit(script)}
        document = DOCUMENT.read_text()
        for name, part in parts.items():
            document = table.replaced(document, name, part.rstrip() + "\n")
        DOCUMENT.write_text(document)
        PICTURE.write_text(page.picture(script, storms))
    return 0


def _unit(script: Script) -> str:
    return (
        f"Run with `--unit {script.unit:g}`: the model was dead for {script.dead * script.unit:g} s, slow for "
        f"{script.slow * script.unit:g} s (first token after {script.delay * script.unit:g} s), and guardproxy's "
        f"`circuit_breaker.timeout` was {60 * script.unit:g} s."
    )


if __name__ == "__main__":
    sys.exit(main())
