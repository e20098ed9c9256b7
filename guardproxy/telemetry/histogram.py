"""How often a value came out how large.

Here belongs the counting in buckets and how that is shown to Prometheus.  Which values are counted, and in which
buckets, is metrics'.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, final

from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client.metrics_core import HistogramMetricFamily


@final
class Histogram:
    """Values counted in buckets; each of *bounds* belongs to the bucket below it."""

    __slots__ = ("_bounds", "_counts", "_like", "_sum", "_written")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._written = [floatToGoString(bound) for bound in (*bounds, float("inf"))]
        self._counts = [0] * (len(bounds) + 1)
        self._like: dict[int, Exemplar] = {}
        self._sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """A *value* was seen so many *times*."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def like(self, value: float, trace: str, at: float) -> None:
        """A call of this *trace*, which ended *at* this time of day, is an example of its bucket."""
        self._like[bisect_left(self._bounds, value)] = Exemplar({"trace_id": trace}, value, at)

    def counts(self) -> list[int]:
        """How many values fell into each bucket; those above the last bound come last."""
        return list(self._counts)

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Write itself into *family*, with these *labels*."""
        buckets: list[tuple[str, float, Any]] = []
        below, like = 0, self._like.get
        for place, (bound, count) in enumerate(zip(self._written, self._counts, strict=True)):
            below += count
            buckets.append((bound, float(below), like(place)))
        family.add_metric(labels, buckets, self._sum)
