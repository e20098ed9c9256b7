"""The metrics as text, in the language that the scraper prefers.

Here belongs what ``GET /metrics`` answers.  Not here: what is counted (metrics) or read (gauges).

`prometheus_client` has a function that chooses by ``Accept`` too.  It raises on ``version=1.x``, repeats what
the caller wrote in the answer's content type, and takes the first format it knows, whatever its weight.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

PLAIN = b"text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

_WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*")


def registry_of(*collectors: Collector) -> CollectorRegistry:
    """A registry of these *collectors* and of the process: its memory, CPU time and open files (Linux only)."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    ProcessCollector(namespace="guardproxy", registry=registry)
    return registry


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, bytes]:
    """The content type and the text of all metrics: OpenMetrics where *accept* prefers it, else Prometheus text."""
    weights = _weights(accept)
    wanted = weights.get("application/openmetrics-text", 0.0)
    if wanted > 0 and wanted >= weights.get("text/plain", 0.0):
        return OPENMETRICS, openmetrics.generate_latest(registry)
    return PLAIN, generate_latest(registry)


def _weights(accept: str) -> dict[str, float]:
    """Each media type with the best weight that it is given (RFC 9110 § 12.5.1)."""
    weights: dict[str, float] = {}
    for item in accept.lower().split(","):
        media, *parameters = item.split(";")
        found = [float(match[1]) for text in parameters if (match := _WEIGHT.fullmatch(text))]
        name = media.strip()
        weights[name] = max(weights.get(name, 0.0), found[0] if found else 1.0)
    return weights
