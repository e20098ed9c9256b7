"""What a soak has come to, for people: docs/soak.md and its picture.

Here belong the words and the drawing alone; what is measured is `soak`'s.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.soak import Soaked

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 130, 70, 40, 50
_INK, _LINE, _GRID = "#64748b", "#2563eb", "#cbd5e1"


def picture(soaked: Soaked) -> str:
    """Memory, open files and calls a second over time, one below the other."""
    samples = soaked.samples
    seconds = [one.seconds for one in samples]
    rates = [0.0]
    for before, now in pairwise(samples):
        rates.append((now.calls - before.calls) / max(now.seconds - before.seconds, 0.001))
    charts = (
        ("memory, MB", [one.rss / 1e6 for one in samples]),
        ("files and sockets", [float(one.files) for one in samples]),
        ("calls per second", rates),
    )
    height = TOP + len(charts) * (HEIGHT + GAP)
    title = f"{soaked.calls:,} calls over {soaked.connections} connections"
    frame = f'viewBox="0 0 {WIDTH} {height}" role="img" font-family="system-ui, sans-serif" font-size="13"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {frame}><title>{title}</title>']
    for number, (name, values) in enumerate(charts):
        parts.append(_chart(name, seconds, values, TOP + number * (HEIGHT + GAP)))
    return "\n".join([*parts, "</svg>\n"])


def _chart(name: str, seconds: Sequence[float], values: Sequence[float], top: float) -> str:
    most, end, width = max(*values, 1.0) * 1.1, max(seconds[-1], 1.0), WIDTH - LEFT - 20
    points = " ".join(
        f"{LEFT + width * at / end:.1f},{top + HEIGHT * (1 - value / most):.1f}"
        for at, value in zip(seconds, values, strict=True)
    )
    base = top + HEIGHT
    return "\n".join(
        [
            f'<text x="{LEFT}" y="{top - 8:.0f}" fill="{_INK}">{name}</text>',
            f'<path d="M{LEFT} {top}V{base}H{WIDTH - 20}" fill="none" stroke="{_GRID}"/>',
            f'<text x="{LEFT - 8}" y="{top + 10:.0f}" text-anchor="end" fill="{_INK}">{most:,.0f}</text>',
            f'<text x="{LEFT - 8}" y="{base:.0f}" text-anchor="end" fill="{_INK}">0</text>',
            f'<text x="{WIDTH - 20}" y="{base + 16:.0f}" text-anchor="end" fill="{_INK}">{end:.0f} s</text>',
            f'<polyline points="{points}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>',
        ]
    )


def words(soaked: Soaked, minutes: float) -> str:
    """What was done, what came of it, and what it took."""
    ends = "\n".join(f"| {end} | {count:,} |" for end, count in sorted(soaked.seen.ends.items()))
    first, last = soaked.samples[0], soaked.samples[-1]
    warm = soaked.late[0]
    troubles = ", ".join(f"{count} {kind}" for kind, count in soaked.troubles.items())
    balance = soaked.unbalanced or "every call was a hit, a miss or passed by, once"
    store = soaked.unused or f"used again after all that; {soaked.shared:,.0f} answers came from it"
    if soaked.shared < 0:
        store = "none was installed"
    per_call = soaked.cpu / max(soaked.calls, 1) * 1e6
    return f"""# A long run

The whole program under everything at once: {soaked.connections} connections, streams and whole answers, one in five
held against a schema, three in ten questions asked again and again (cache, single flight), 3 % of callers who leave,
5 % of answers wrong in a way drawn at random (cut, reset, stalled, a byte changed, doubled, another's behind it,
errors of every status, garbage), a reload and a killed model server every five seconds. A second proxy shares a Redis
with the first and takes one call in ten; that Redis is killed, and left hanging, every ten seconds. Every answer
carries the mark of its question. Written by `make soak MINUTES={minutes:g}`; CI runs the same for five minutes, and
fails where anything below is not as it should be.

| how a call ended | calls |
|---|---|
{ends}

- **Wrong, mixed or unreadable answers: {len(soaked.wrong)}** of {soaked.calls:,}.
- Meanwhile: {troubles}.
- Memory: {first.rss / 1e6:.0f} MB at the start, {warm.rss / 1e6:.0f} MB once warm, {last.rss / 1e6:.0f} MB at the end;
  {soaked.slope:+.2f} MB per 100,000 calls once warm.
  What once grew lay in circles of references; [0037](adr/0037-nothing-lies-in-a-circle.md) says how it was found.
- At rest in the end, less what there was at rest once warm: {soaked.left_files} files and sockets,
  {sum(soaked.left_tasks.values())} tasks.
- Accounts: {balance}.
- The store that two proxies share: {store}.
- Processor: {per_call:,.0f} µs per call, faults, judging and reloads included.

![memory, files and calls over time](soak.svg)
"""
