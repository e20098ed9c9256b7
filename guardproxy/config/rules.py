"""Which values a setting may have, beyond its type.

Here belongs one table: for each setting the bounds of its number, or the check of its text.  The decoder
holds values against it, and the published JSON Schema says the same to editors.
Not here: what two settings say about each other (`agree`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.config import registry, settings
from guardproxy.config.places import upstream_url, web_url
from guardproxy.guards import breaker, cache, health, hedge, load, modes, schema, throttle
from guardproxy.net.clocks import Timeouts
from guardproxy.openai import needs

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVED: Final = ("v1", "guard", "health", "healthz", "readyz", "metrics")
"""First steps of the proxy's own paths: no upstream may be called so."""

NAME: Final = r"[A-Za-z0-9._-]+"
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS: Final = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-connection",
        "expect",
    ]
)
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


@final
@dataclass(frozen=True, slots=True)
class Rule:
    """What a value has to be; a check raises `ValueError` in words."""

    minimum: float = -math.inf
    maximum: float = math.inf
    above: float = -math.inf
    """It has to be more than this."""
    check: Callable[[Any], object] | None = None
    """For each text: a field's own, every item of a list, every name of a mapping."""
    pattern: str = ""
    """What the check amounts to, for editors."""
    values: Callable[[Any], object] | None = None
    """For each value of a mapping whose names `check` looks at."""

    def number(self, value: float) -> None:
        """Hold a number against the bounds."""
        if not (self.minimum <= value <= self.maximum and value > self.above):
            low = f"more than {_said(self.above)}" if self.above > -math.inf else f"at least {_said(self.minimum)}"
            high = f" and at most {_said(self.maximum)}" if self.maximum < math.inf else ""
            raise ValueError(f"expected {low}{high}, got {_said(value)}")


def name(text: str) -> None:
    """A name of ours: an upstream's, a mode's, a schema's."""
    if not re.fullmatch(NAME, text) or text in (".", ".."):
        raise ValueError(f"{text!r} is no name: use letters, digits, dots, dashes and underscores")


def upstream_name(text: str) -> None:
    """An upstream's name, which is also the first step of a path."""
    name(text)
    if text in RESERVED:
        raise ValueError(f"no upstream may be called {text!r}: the path /{text} is the proxy's own")


def _filled(text: str) -> None:
    if not text.strip() or not text.isprintable():
        raise ValueError("expected text, got nothing that can be seen" if not text.strip() else "expected one line")


def _said_text(text: str) -> None:
    if not text.strip():
        raise ValueError("expected text, got nothing")


def _secret(text: str) -> None:
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected visible ASCII characters without blanks")


def _header_name(text: str) -> None:
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a header field")


def _sent_header(text: str) -> None:
    _header_name(text)
    if text.lower() in _OURS:
        raise ValueError(f"the header field {text} belongs to the connection and cannot be set")


def _header_value(text: str) -> None:
    if not text.isascii() or not text.isprintable():
        raise ValueError("expected visible ASCII characters in one line")


def _host(text: str) -> None:
    if not _HOST.fullmatch(text):
        raise ValueError(f"{text!r} is not a host name; write it without a port")


def _path(text: str) -> None:
    if not text.startswith("/") or "?" in text or "#" in text or "*" in text[:-1] or not text.isprintable():
        raise ValueError(f"expected a path that starts with /, without a query, a * only at its end, got {text!r}")


def _guard(text: str) -> None:
    known = [spec.name for spec in registry.guards()]
    if text not in known:
        raise ValueError(f"there is no guard {text!r}; there are {', '.join(known)}")


_STORES: Final = r"((redis|valkey)s?(\+cluster)?|unix)://."


def _shared(text: str) -> None:
    if not re.match(_STORES, text):
        raise ValueError("expected a URL such as redis://127.0.0.1:6379/0")


def _said(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


_COUNT: Final = Rule(minimum=1, maximum=1_000_000)
_SPAN: Final = Rule(above=0, maximum=86_400 * 366)
_WAIT: Final = Rule(minimum=0, maximum=86_400 * 366)
_SHARE: Final = Rule(above=0, maximum=1)
_NAME: Final = Rule(check=name, pattern=f"^{NAME}$")
_CIRCUIT: Final = {
    "failure_threshold": _SHARE,
    "success_threshold": _COUNT,
    "timeout": _SPAN,
    "half_open_requests": _COUNT,
    "minimum_requests": _COUNT,
    "window": _SPAN,
    "consecutive_failures": Rule(minimum=0, maximum=1_000_000),
    "slow_first_token": _WAIT,
    "slow_threshold": _SHARE,
    "max_timeout": _SPAN,
    "warmup_seconds": _WAIT,
}

RULES: Final[dict[tuple[type, str], Rule]] = {
    (settings.Upstream, "url"): Rule(check=upstream_url, pattern=r"^(https?://|unix:/|\$\{)"),
    (settings.Upstream, "aliases"): Rule(check=_filled),
    (settings.Upstream, "api_key"): Rule(check=_secret),
    (settings.Upstream, "ca_file"): Rule(check=_filled),
    (settings.Upstream, "client_cert"): Rule(check=_filled),
    (settings.Upstream, "headers"): Rule(check=_sent_header, values=_header_value),
    (settings.Upstream, "capabilities"): Rule(check=needs.check, pattern=needs.PATTERN),
    (Timeouts, "connect"): _SPAN,
    (Timeouts, "first_token"): _SPAN,
    (Timeouts, "stall"): _SPAN,
    (Timeouts, "total"): _SPAN,
    (settings.Retry, "attempts"): Rule(minimum=0, maximum=10),
    (settings.Retry, "budget"): Rule(minimum=0, maximum=1),
    (settings.Retry, "min_per_second"): Rule(minimum=0, maximum=1_000_000),
    (settings.Limits, "request_bytes"): Rule(minimum=1024, maximum=1 << 40),
    (settings.Limits, "response_bytes"): Rule(minimum=1024, maximum=1 << 40),
    (settings.Limits, "connections"): _COUNT,
    (settings.Limits, "connections_per_client"): Rule(minimum=0, maximum=1_000_000),
    (settings.Limits, "memory"): Rule(minimum=64 << 20, maximum=1 << 50),
    (settings.Limits, "header_timeout"): _SPAN,
    (settings.Limits, "body_timeout"): _SPAN,
    (settings.Drain, "seconds"): _WAIT,
    (settings.Drain, "idle_seconds"): _WAIT,
    (settings.Tracing, "endpoint"): Rule(check=web_url, pattern=r"^(https?://|\$\{)"),
    (settings.Tracing, "service"): Rule(check=_filled),
    (settings.Tracing, "sample"): Rule(minimum=0, maximum=1),
    (settings.Log, "sample"): Rule(minimum=0, maximum=1),
    (settings.Alerts, "webhook"): Rule(check=web_url, pattern=r"^(https?://|\$\{)"),
    (settings.Shared, "url"): Rule(check=_shared, pattern=rf"^({_STORES}|\$\{{)"),
    (settings.Shared, "secret"): Rule(check=_secret),
    (settings.Shared, "timeout"): _SPAN,
    (settings.Shared, "prefix"): _NAME,
    (settings.Shared, "compress_above"): Rule(minimum=0),
    (settings.Route, "path"): Rule(check=_path, pattern=r"^(/|\$\{)"),
    (settings.Route, "guards"): Rule(check=_guard),
    (settings.Config, "admin_token"): Rule(check=_secret),
    (settings.Config, "own_hosts"): Rule(check=_host),
    (settings.Config, "upstreams"): Rule(check=upstream_name, pattern=f"^(?!({'|'.join(RESERVED)})$){NAME}$"),
    (settings.Config, "modes"): _NAME,
    (modes.Settings, "field"): Rule(check=_filled),
    (modes.Settings, "recovery_seconds"): _WAIT,
    (modes.Settings, "dwell_seconds"): _WAIT,
    (modes.Settings, "canary"): Rule(minimum=0, maximum=1),
    (schema.Settings, "max_retries"): Rule(minimum=0, maximum=100),
    (schema.Settings, "max_tokens_limit"): Rule(minimum=1),
    (schema.Settings, "judge_seconds"): Rule(above=0, maximum=60),
    (schema.Settings, "judge_memory"): Rule(minimum=32 << 20, maximum=1 << 40),
    (schema.Settings, "backoff_base"): Rule(minimum=0, maximum=3600),
    (schema.Settings, "jitter"): Rule(minimum=0, maximum=3600),
    (schema.Settings, "schemas"): _NAME,
    (schema.Declared, "file"): Rule(check=_filled),
    **{(breaker.Settings, key): rule for key, rule in _CIRCUIT.items()},
    **{(breaker.Override, key): rule for key, rule in _CIRCUIT.items()},
    (throttle.Settings, "max_seconds"): _SPAN,
    (hedge.Settings, "quantile"): Rule(above=0, maximum=0.999),
    (hedge.Settings, "budget"): Rule(minimum=0, maximum=0.05),
    (hedge.Settings, "least_seconds"): _WAIT,
    (load.Settings, "floor"): _COUNT,
    (load.Settings, "ceiling"): _COUNT,
    (load.Settings, "initial"): _COUNT,
    (load.Settings, "tolerance"): Rule(above=1, maximum=1000),
    (load.Settings, "queue"): Rule(minimum=0, maximum=1_000_000),
    (load.Settings, "queue_seconds"): _SPAN,
    (load.Settings, "signal_seconds"): _WAIT,
    (cache.Settings, "max_size"): Rule(minimum=1, maximum=1 << 30),
    (cache.Settings, "max_bytes"): Rule(minimum=1, maximum=1 << 50),
    (cache.Settings, "ttl_seconds"): _SPAN,
    (cache.Settings, "ttl_jitter"): Rule(minimum=0, maximum=1),
    (cache.Settings, "cleanup_interval"): _SPAN,
    (cache.Settings, "vary"): Rule(check=_header_name),
    (cache.Settings, "stale_while_revalidate_seconds"): _WAIT,
    (cache.Settings, "stale_if_error_seconds"): _WAIT,
    (health.Settings, "interval"): _SPAN,
    (health.Settings, "timeout"): _SPAN,
    (health.Settings, "prompt"): Rule(check=_said_text),
    (health.Settings, "fresh_for"): _WAIT,
    (health.Settings, "tokens_per_day"): Rule(minimum=0),
    (health.Settings, "rise"): _COUNT,
    (health.Settings, "fall"): _COUNT,
}
"""A setting that is not here may have any value of its type."""
