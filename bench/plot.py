"""A picture of one figure per system, as SVG.

Here belongs drawing: horizontal bars on a logarithmic scale, in colours that can be read on light and on dark.
"""

from __future__ import annotations

from html import escape
from math import ceil, floor, log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, BAR, GAP, LEFT, RIGHT, TOP = 760, 22, 8, 190, 90, 64
_TYPE = 'font-family="system-ui, sans-serif" font-size="13" role="img"'
_OURS, _THEIRS, _INK, _GRID = "#2563eb", "#94a3b8", "#64748b", "#cbd5e1"


def bars(title: str, unit: str, figures: Sequence[tuple[str, float, bool]]) -> str:
    """Draw *figures*: name, value above 0, and whether it is ours."""
    lowest = floor(log10(min(value for _, value, _ in figures)))
    highest = max(ceil(log10(max(value for _, value, _ in figures))), lowest + 1)
    span = WIDTH - LEFT - RIGHT
    bottom = TOP + len(figures) * (BAR + GAP)

    def across(value: float) -> float:
        return LEFT + span * (log10(value) - lowest) / (highest - lowest)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 34}" {_TYPE}>',
        f"<title>{escape(title)}</title>",
        f'<text x="8" y="24" font-size="16" font-weight="600" fill="{_INK}">{escape(title)}</text>',
        f'<text x="8" y="44" fill="{_INK}">{escape(unit)}, logarithmic: less is better</text>',
    ]
    for power in range(lowest, highest + 1):
        x = across(10.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{_INK}">{10.0**power:,g}</text>')
    for number, (name, value, ours) in enumerate(figures):
        y, end, colour = TOP + number * (BAR + GAP), across(value), _OURS if ours else _THEIRS
        size = f'width="{max(1.0, end - LEFT):.1f}" height="{BAR}"'
        parts += [
            f'<rect x="{LEFT}" y="{y}" {size} rx="3" fill="{colour}"/>',
            f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end" fill="{_INK}">{escape(name)}</text>',
            f'<text x="{end + 6:.1f}" y="{y + 16}" fill="{_INK}">{shown(value)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def shown(value: float) -> str:
    """A figure with no more digits than it is worth."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
