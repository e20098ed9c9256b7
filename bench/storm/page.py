"""The storm as a table and as a picture.

Here belongs writing it down; the figures are `sums`'.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.storm.callers import Told
    from bench.storm.script import Script, Seen
    from bench.storm.sums import Sums

WIDTH, HIGH, LEFT, TOP, GAP = 860, 110, 110, 70, 44
_INK, _GRID = "#64748b", "#cbd5e1"
_COLOURS = {"answered by the model asked for": "#2563eb", "by another": "#38bdf8", "not answered": "#dc2626"}
_REACHED = "#64748b"
_TYPE = 'font-family="system-ui, sans-serif" font-size="12" role="img"'
_HEAD = (
    "| | answered while it was ill | to strict callers | attempts per call | reached the dead model | "
    "tries of a caller | 99 % within | strict callers served again after | at once when asked again | longest silence |"
)


def table(rows: Mapping[str, Sums], absent: Mapping[str, str]) -> str:
    """One row for each system."""
    lines = [_HEAD, "|---" * 10 + "|"]
    for name, one in rows.items():
        shown = f"**{name}**" if name == "guardproxy" else name
        recovery = "not within the time"
        if one.recovery is not None:
            recovery = f"{one.recovery:.1f} s, {one.proven:.1f} s after it was asked first"
        lines.append(
            f"| {shown} | {one.answered:.1%} | {one.answered_strictly:.1%} | {one.multiplied:.2f} | {one.wasted:,} | "
            f"{one.tries:.2f} | {one.slowest:.1f} s | {recovery} | {one.rush} | {one.silence:.1f} s |"
        )
    if absent:
        lines += ["", "Absent: " + ", ".join(f"{name} ({why})" for name, why in absent.items()) + "."]
    return "\n".join(lines)


def reach(one: Sums | None, probes: int) -> str:
    """What was to be reached, what was measured, and whether that is it; *probes* may reach a half-open upstream."""
    lines = ["| to be reached | measured | |", "|---|---|---|"]
    if one is None:
        return "\n".join([*lines, "| – | not run | ✗ |"])
    again = one.recovery is not None
    rows = [
        ("at most 1.1 attempts for each call (without any retry: 1)", f"{one.multiplied:.2f}", one.multiplied <= 1.1),
        (
            "callers are served by the model at most 2 s after it is well and its circuit is due",
            f"{one.proven:.1f} s" if again else "not within the time",
            again and one.proven <= 2.0,
        ),
        (f"at most {probes} attempts at once when it is due", str(one.rush), 0 < one.rush <= probes),
        (
            "answers never stop: at most 1 s between two, and none is lost",
            f"{one.silence:.1f} s, {one.answered:.2%} answered",
            one.silence <= 1.0 and one.answered >= 1.0,
        ),
    ]
    return "\n".join([*lines, *(f"| {what} | {came} | {'✓' if held else '✗'} |" for what, came, held in rows)])


def picture(script: Script, storms: Mapping[str, tuple[Sequence[Told], Sequence[Seen]]]) -> str:
    """One strip for each system: calls that ended in each second, and what reached the model that was ill."""
    bottom = TOP + len(storms) * (HIGH + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 6}" {_TYPE}>',
        "<title>An outage, second by second</title>",
        f'<text x="8" y="22" font-size="16" font-weight="600" fill="{_INK}">An outage, second by second</text>',
    ]
    x = 8.0
    for text, colour in {**_COLOURS, "attempts that reached it": _REACHED}.items():
        parts.append(f'<rect x="{x}" y="34" width="11" height="11" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="44" fill="{_INK}">{text}</text>')
        x += 30 + 7.2 * len(text)
    bins = {name: _bins(script, *storm) for name, storm in storms.items()}
    most = max(1.0, *(max(*map(sum, bars), *line) for bars, line in bins.values()))
    for place, (name, (bars, line)) in enumerate(bins.items()):
        parts += _strip(script, name, bars, line, most, TOP + place * (HIGH + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _bins(script: Script, told: Sequence[Told], seen: Sequence[Seen]) -> tuple[list[tuple[int, int, int]], list[int]]:
    many = int(script.over) + 1
    bars = [(0, 0, 0)] * many
    for one in told:
        own, other, none = bars[place := min(many - 1, int(one.at))]
        bars[place] = (own + (one.ok and one.own), other + (one.ok and not one.own), none + (not one.ok))
    line = [0] * min(many, int(seen[-1].at) + 1 if seen else 1)
    for earlier, later in pairwise(seen):
        line[min(len(line) - 1, int(later.at))] += later.calls["llama"] - earlier.calls["llama"]
    return bars, line


def _strip(
    script: Script, name: str, bars: Sequence[tuple[int, int, int]], line: Sequence[int], most: float, top: int
) -> list[str]:
    wide = (WIDTH - LEFT - 10) / len(bars)
    base = top + HIGH
    parts = [
        f'<text x="{LEFT - 8}" y="{top + HIGH / 2}" text-anchor="end" fill="{_INK}">{escape(name)}</text>',
        f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end" fill="{_GRID}">{most:.0f} / s</text>',
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 10}" y2="{base}" stroke="{_GRID}"/>',
    ]
    for at, what in ((script.died, "dead"), (script.slowed, "slow"), (script.well, "well")):
        x = LEFT + at * wide
        parts.append(
            f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{base + 4}" stroke="{_INK}" stroke-dasharray="3 3"/>'
        )
        parts.append(f'<text x="{x + 3:.1f}" y="{base + 16}" fill="{_INK}">{what}</text>')
    for second, counts in enumerate(bars):
        y = float(base)
        for count, colour in zip(counts, _COLOURS.values(), strict=True):
            high = HIGH * count / most
            if high:
                y -= high
                x = LEFT + second * wide
                parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.2f}" height="{high:.1f}" fill="{colour}"/>')
    points = " ".join(f"{LEFT + (s + 0.5) * wide:.1f},{base - HIGH * n / most:.1f}" for s, n in enumerate(line))
    parts.append(f'<polyline points="{points}" fill="none" stroke="{_REACHED}" stroke-width="1.3"/>')
    return parts
