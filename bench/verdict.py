"""What was wanted, what was measured, and whether it is enough.

Here belong the figures the hop is held to, as issue and readers know them; ratios within one run, wherever it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, final

from bench.growth import linear
from bench.plot import shown
from bench.table import table

if TYPE_CHECKING:
    from bench.growth import Growth
    from bench.hop import Hop

NOTHING = float("nan")


@final
@dataclass(frozen=True, slots=True)
class Aim:
    """One figure: its bound, and what it came to (nan: could not be had)."""

    what: str
    bound: float
    found: float
    unit: str
    at_least: bool = False

    @property
    def held(self) -> bool | None:
        """Whether it is kept; None where nothing was measured."""
        if isnan(self.found):
            return None
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def aims(hop: Hop, growth: Growth, start: tuple[float, int], inside: float) -> list[Aim]:
    """Every figure that was set."""
    rows = hop.rows

    def cpu(name: str, kind: str = "miss") -> float:
        return rows[name, kind].cpu if (name, kind) in rows else NOTHING

    def rate(name: str) -> float:
        return rows[name, "miss"].rate if (name, "miss") in rows else NOTHING

    direct, ours = hop.rest["direct"], hop.rest["guardproxy"]
    largest = max(size for _, size in growth.relayed)
    relayed = {name: row.rate for (name, size), row in growth.relayed.items() if size == largest}
    prompts = dict(linear(growth.prompts))
    return [
        Aim("miss, CPU beside Envoy", 0.95, cpu("guardproxy") / cpu("envoy"), "×"),
        Aim("hit, CPU beside Envoy", 0.6, cpu("guardproxy", "hit") / cpu("envoy"), "×"),
        Aim("miss, CPU beside sglang-router", 0.5, cpu("guardproxy") / cpu("sglang-router"), "×"),
        Aim("throughput beside LiteLLM", 100, rate("guardproxy") / rate("litellm"), "×", at_least=True),
        Aim("relayed event, CPU beside Envoy", 1.0, cpu("guardproxy", "stream") / cpu("envoy", "stream"), "×"),
        Aim("added p50 at 200 requests/s", 0.25, ours[0] - direct[0], "ms"),
        Aim("added p99 at 200 requests/s", 1.0, ours[1] - direct[1], "ms"),
        Aim(
            "relayed 10 MB, throughput beside nginx",
            0.5,
            relayed["guardproxy"] / relayed.get("nginx", NOTHING),
            "×",
            at_least=True,
        ),
        Aim("guarded 10 MB, CPU", 8.0, prompts[max(prompts)], "ms/MB"),
        Aim("memory of a silent stream", 30.0, growth.idle_stream / 1e3, "kB"),
        Aim("start to ready", 0.5, start[0], "s"),
        Aim("memory at rest", 50.0, start[1] / 1e6, "MB"),
        Aim("the guards' own code in a miss", 15.0, inside, "µs"),
    ]


def verdicts(found: list[Aim]) -> str:
    """A table of them."""
    words = {True: "held", False: "**missed**", None: "not measured"}
    lines = []
    for aim in found:
        wanted = f"{'≥' if aim.at_least else '≤'} {aim.bound:g} {aim.unit}"
        measured = "–" if aim.held is None else f"{shown(aim.found)} {aim.unit}"
        lines.append((aim.what, wanted, measured, words[aim.held]))
    return table(("", "wanted", "measured", ""), lines)
