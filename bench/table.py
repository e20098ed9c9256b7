"""Figures as Markdown: the tables, and their place in a document.

Here belongs how figures are written; which of them are good enough is `verdict`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.growth import linear
from bench.plot import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bench.growth import Growth
    from bench.hop import Hop
    from bench.lab import Row


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures."""
    rows = list(rows)
    assert all(len(row) == len(head) for row in rows), "a row that is no row of this table"
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def replaced(document: str, name: str, text: str) -> str:
    """*document* with *text* between the marks of part *name*; raises `ValueError` where it has no such part."""
    begin, end = f"<!-- bench: {name} -->\n", "<!-- /bench -->"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document has no part {name!r}")
    return f"{before}{begin}{text}{end}{after}"


def hop_table(hop: Hop) -> str:
    """Whole answers and streams, one line a system and kind; the dearest last."""
    envoy = hop.rows.get(("envoy", "miss"))
    lines = []
    for (name, kind), one in sorted(hop.rows.items(), key=lambda item: item[1].cpu):
        if kind == "stream":
            continue
        label = (
            "the model server itself" if name == "direct" else f"**{name}**, {kind}" if name == "guardproxy" else name
        )
        ratio = f"{one.cpu / envoy.cpu:.2f}" if envoy and name != "direct" else ""
        stream = hop.rows.get((name, "stream")) if kind == "miss" else None
        least, most = hop.spread.get((name, kind), (one.cpu, one.cpu))
        spread = f"{shown(least)}–{shown(most)}"
        lines.append(
            (label, shown(one.cpu), spread, *_of(one), ratio, shown(stream.cpu) if stream and stream.cpu else "")
        )
    head = (
        "",
        "CPU µs",
        "least–most",
        "in kernel",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "RSS MB",
        "core",
        "× Envoy",
        "CPU µs per event",
    )
    text = table(head, lines)
    missing = [f"{name} ({why})" for name, why in hop.absent.items()]
    return text + (f"\nAbsent: {', '.join(missing)}.\n" if missing else "")


def _of(one: Row) -> tuple[str, ...]:
    kernel, busy = f"{one.kernel:.0%}", f"{one.busy:.0%}"
    return kernel, f"{one.rate:,.0f}", shown(one.p50), shown(one.p99), f"{one.rss / 1e6:.0f}", busy


def rest_table(hop: Hop) -> str:
    """What a call takes at 200 a second, and what each system adds to it."""
    p50, p99 = hop.rest["direct"]
    lines = [
        (name, f"{mine:.2f}", f"{worst:.2f}", f"{mine - p50:+.2f}", f"{worst - p99:+.2f}")
        for name, (mine, worst) in hop.rest.items()
    ]
    return table(("", "p50 ms", "p99 ms", "added p50", "added p99"), lines)


def stage_table(stages: dict[str, float], whole: Row) -> str:
    """Stages of one thing, in order, the kernel's share, and what is left of the *whole* as measured from outside."""
    kernel = whole.cpu * whole.kernel
    rest = whole.cpu - kernel - sum(stages.values())
    lines = [
        *stages.items(),
        ("kernel: reading, writing, waiting", kernel),
        ("the rest: event loop, aiohttp's parser, connections, and all of the above on cold caches", max(0.0, rest)),
        ("**measured from outside**", whole.cpu),
    ]
    return table(("", "µs"), [(name, f"{micros:.1f}") for name, micros in lines])


def growth_tables(growth: Growth) -> str:
    """All series."""
    names = sorted({name for name, _ in growth.relayed})
    sizes = sorted({size for _, size in growth.relayed})
    head = ["bytes", *(f"{name}: MB/s" for name in names), "guardproxy: CPU ms per MB", "guarded prompt: CPU ms per MB"]
    relayed = dict(linear({size: growth.relayed["guardproxy", size] for size in sizes}))
    prompts = dict(linear(growth.prompts))
    lines = []
    for size in sizes:
        rates = [f"{growth.relayed[name, size].rate * size / 1e6:,.0f}" for name in names]
        lines.append((f"{size:,}", *rates, shown(relayed[size]), shown(prompts[size])))
    streams = [(f"{n:,}", shown(row.cpu), f"{row.rate:,.0f}", f"{row.busy:.0%}") for n, row in growth.streams.items()]
    lookups = [(f"{n:,}", f"{found:.2f}", f"{kept:.2f}") for n, (found, kept) in growth.lookups.items()]
    return "\n".join(
        [
            table(head, lines),
            table(("streams of 20 events/s", "CPU µs per event", "events/s", "core"), streams),
            table(("kept answers", "lookup µs", "keep one more µs"), lookups),
            f"An open, silent stream takes {growth.idle_stream / 1e3:.0f} kB.\n",
        ]
    )
