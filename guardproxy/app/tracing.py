"""Whether calls are traced.

Here belongs the choice: where tracing is off nothing of OpenTelemetry is imported, which takes 15 MB and a third of a
second.  What a span says is `telemetry.spans`'.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from guardproxy.config.settings import Config
    from guardproxy.telemetry.spans import Spans


def spans(config: Config) -> Spans | None:
    """What makes spans, where somebody wants them."""
    tracing = config.tracing
    if tracing.endpoint is None:
        return None
    from guardproxy.telemetry.spans import Spans  # noqa: PLC0415 -- see above

    return Spans(tracing.endpoint, tracing.service, tracing.sample, _servers(config))


def _servers(config: Config) -> dict[str, tuple[str, int]]:
    """The address and port of each upstream."""
    found = {}
    for name, upstream in config.upstreams.items():
        parts = urlsplit(upstream.url)
        found[name] = (parts.hostname or parts.path, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0))
    return found
