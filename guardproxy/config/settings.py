"""The whole configuration, as values.

Here belong the settings of the proxy itself, each with its unit and default.  The settings of a guard stand
beside that guard and are only gathered here.  Not here: how they are written in a file (`decode`), which
values are allowed (`rules`), which contradict each other (`agree`).

The text under each field is its documentation: docs/configuration.md and the published JSON Schema are made
of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final

from guardproxy.config.places import Address
from guardproxy.core.units import Bytes, Seconds
from guardproxy.guards.breaker import Settings as CircuitBreaker
from guardproxy.guards.cache import Settings as Cache
from guardproxy.guards.health import Settings as Health
from guardproxy.guards.hedge import Settings as Hedge
from guardproxy.guards.load import Settings as Load
from guardproxy.guards.modes import Mode
from guardproxy.guards.modes import Settings as Downshift
from guardproxy.guards.schema import Settings as JsonGuard
from guardproxy.guards.throttle import Settings as Throttle
from guardproxy.net.clocks import Timeouts

_LISTEN: Final = Address("127.0.0.1", 8000)
_ADMIN: Final = Address("127.0.0.1", 9090)

Enforced: TypeAlias = Literal["response_format", "structured_outputs", "guided_json", "format", "prompt", "none"]
"""The ways in which engines take a schema."""

SECRETS: Final = frozenset(("api_key", "admin_token", "headers", "webhook"))
"""Settings whose values are never shown."""


def secret(path: tuple[str | int, ...]) -> bool:
    """Whether the value at *path* is not to be shown; a shared store's URL holds its password."""
    return bool(SECRETS.intersection(path)) or path[:2] == ("shared", "url")


@final
@dataclass(frozen=True, slots=True)
class Upstream:
    """A model server (``upstreams.NAME``); the name is the one in metrics and in the path ``/NAME/v1/…``."""

    url: str
    """Where it is: ``http://HOST:PORT`` or https, with or without ``/v1``, or ``unix:/path/of/socket``."""
    model: str = ""
    """The model id that it serves, which replaces what the caller wrote; empty: what he wrote stays."""
    aliases: tuple[str, ...] = ()
    """Further names that callers may write in ``model``."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as ``Authorization: Bearer …`` in place of the caller's; null: the caller's goes through."""
    ca_file: str | None = None
    """Certificates to trust (PEM), relative to the configuration's folder; null: the system's."""
    client_cert: str | None = None
    """Our certificate and its key in one file (PEM), relative to the configuration's folder; null: none."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Header fields set on every request to it."""
    capabilities: tuple[str, ...] = ()
    """What it can do: ``text``, ``tools``, ``schema``, ``vision``, ``context=N`` tokens; none: everything.

    No call is moved to a mode whose upstream cannot serve it."""
    structured_output: Enforced = "none"
    """How its engine is told of the schema that an answer has to satisfy, besides what the caller wrote: in which
    field, or in the conversation (``prompt``, for engines that enforce nothing); `guardproxy check --probe` says."""
    early_abort: bool = True
    """Whether it is asked to stream answers that have to be JSON, so that it can be hung up on (`json_guard`)."""


@final
@dataclass(frozen=True, slots=True)
class Retry:
    """Attempts that the caller does not see (``retry``)."""

    attempts: int = 2
    """Attempts after the first, at other upstreams first; 0: none."""
    budget: float = 0.2
    """Retries per call on average, so that an outage is not multiplied; 0.2 is one in five."""
    min_per_second: float = 1
    """Retries a second that are allowed whatever the budget says, so that a quiet proxy may retry too."""


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken in (``limits``)."""

    request_bytes: Bytes = Bytes(64 << 20)
    """The largest request body; more is answered with 413."""
    response_bytes: Bytes = Bytes(64 << 20)
    """The largest answer that is held in memory; one that came compressed, unasked, may unpack to 64 MiB."""
    connections: int = 4096
    """Connections of callers at once."""
    connections_per_client: int = 512
    """Of these, from one address at the most; loopback is exempt, 0 is any number."""
    header_timeout: Seconds = Seconds(10)
    """Seconds in which the header of a request has to come."""
    body_timeout: Seconds = Seconds(60)
    """Seconds in which the body of a request has to come; and that a caller may read nothing of what he is sent."""
    memory: Bytes | None = None
    """Memory the process may take: near it the cache shrinks, then calls are refused; null: what cgroups grant."""


@final
@dataclass(frozen=True, slots=True)
class Tls:
    """TLS on a port (``tls`` for the app's, ``admin_tls`` for the operators'); the files are read again on reload."""

    certificate: str | None = None
    """Our certificate and those that vouch for it (PEM), relative to the configuration's folder; null: no TLS."""
    key: str | None = None
    """Its key (PEM, not encrypted); null: it is in the same file."""
    client_ca: str | None = None
    """Only callers with a certificate signed by one of these (PEM) are served; null: everybody is."""


@final
@dataclass(frozen=True, slots=True)
class Drain:
    """How the proxy ends (``drain``)."""

    seconds: Seconds = Seconds(25)
    """Seconds after SIGTERM at the most; the pod's terminationGracePeriodSeconds has to be longer."""
    idle_seconds: Seconds = Seconds(2)
    """Seconds without a request from loopback after which it ends sooner."""


@final
@dataclass(frozen=True, slots=True)
class Alerts:
    """Who is told when something changes (``alerts``)."""

    webhook: str | None = field(default=None, repr=False)
    """The URL that news are posted to; null: nobody is told, metrics and the log aside."""


@final
@dataclass(frozen=True, slots=True)
class Shared:
    """What several proxies have in common (``shared``)."""

    url: str | None = field(default=None, repr=False)
    """A Redis or Valkey, as ``redis://HOST:6379/0`` or ``redis+cluster://…``; null: every proxy for itself."""
    secret: str | None = field(default=None, repr=False)
    """What all these proxies know and nobody else: whoever does not know it cannot forge an answer in the store."""
    timeout: Seconds = Seconds(0.005)
    """Seconds that a call waits for the store; where it took longer none waits until the store is proven to be well."""
    ca_file: str | None = None
    """The authorities that the certificate of a ``rediss://`` store may be signed by; null: the system's."""
    prefix: str = "guardproxy"
    """How the names in the store begin: proxies with another one share nothing."""
    compress_above: Bytes = Bytes(1024)
    """Answers larger than this are compressed."""
    stream_wait: Seconds = Seconds(30)
    """Seconds that the caller of a stream waits for the same answer, asked for through another proxy; 0: not at all."""
    cache: bool = True
    """Whether kept answers are shared."""
    state: bool = False
    """Whether they tell each other of circuits, of the mode ceiling, and of what an operator holds by hand."""


@final
@dataclass(frozen=True, slots=True)
class Route:
    """What is different for some calls (an item of ``routes``): those that fit `path`, `model` and `mode`."""

    path: str | None = None
    """The path, as the app calls it without an upstream's name; a ``*`` at its end stands for any rest; null: any."""
    model: str | None = None
    """What the caller wrote in ``model``, or the name of the upstream that is meant by it; null: anything."""
    mode: str | None = None
    """The mode asked for, or that of the upstream asked for; null: any."""
    schema: str | None = None
    """The declared schema of calls that name none."""
    cache: bool = True
    """Whether their answers are kept."""
    guards: tuple[str, ...] | None = None
    """The only guards that they pass, of ``modes``, ``json``, ``cache``, ``health``, ``throttle``,
    ``breaker``; null: all."""


@final
@dataclass(frozen=True, slots=True)
class Log:
    """What is written about what happens (``log``)."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least weighty message that is still written."""
    format: Literal["auto", "json", "human"] = "auto"
    """``auto``: for people where it goes to a terminal, JSON elsewhere."""
    sample: float = 1.0
    """The part of calls answered as asked that is written, evenly spread; whatever went wrong is always written."""


@final
@dataclass(frozen=True, slots=True)
class Tracing:
    """Spans of calls and attempts (``tracing``); needs the extra ``otel``.

    A caller's ``traceparent`` goes upstream in any case, and is in the log.
    """

    endpoint: str | None = None
    """Where spans go, by OTLP over HTTP, as ``http://127.0.0.1:4318/v1/traces``; null: nowhere."""
    service: str = "guardproxy"
    """The name of the service in traces."""
    sample: float = 1.0
    """The part of calls without a ``traceparent`` that are traced; with one, the caller has decided."""


@final
@dataclass(frozen=True, slots=True)
class Debug:
    """For finding a fault, never in production (``debug``)."""

    bodies: bool = False
    """Whether ``/guard/requests/ID`` shows, to loopback alone, how the bodies of a call begin."""


def _upstreams() -> dict[str, Upstream]:
    return {
        "qwen": Upstream("http://127.0.0.1:18001", "Qwen/Qwen2.5-7B-Instruct", ("qwen2.5",)),
        "mistral": Upstream("http://127.0.0.1:18002", "mistralai/Mistral-7B-Instruct-v0.3"),
        "llama": Upstream("http://127.0.0.1:18003", "meta-llama/Meta-Llama-3-8B-Instruct"),
    }


def _modes() -> dict[str, Mode]:
    return {
        "creative": Mode("llama", {"temperature": 1.0}),
        "balanced": Mode("mistral", {"temperature": 0.7}),
        "fast": Mode("qwen", {"temperature": 0.3}, {"max_tokens": 512}),
    }


@final
@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set."""

    listen: Address = _LISTEN
    """The app's port, as ``HOST:PORT``; it belongs to the app alone, so keep it on loopback."""
    admin: Address = _ADMIN
    """Health, metrics, the live page and all that changes something; proxies nothing."""
    tls: Tls = field(default_factory=Tls)
    """TLS on the app's port."""
    admin_tls: Tls = field(default_factory=Tls)
    """TLS on the operators' port."""
    admin_token: str | None = field(default=None, repr=False)
    """What callers from elsewhere than loopback have to bring to change something; null: only loopback may."""
    own_hosts: tuple[str, ...] = ()
    """Names, besides IP addresses and localhost, under which the proxy's own paths may be reached."""
    upstreams: dict[str, Upstream] = field(default_factory=_upstreams)
    """Model servers by name."""
    default_upstream: str | None = None
    """The upstream of calls that name none that is known; null: they are answered with 404."""
    modes: dict[str, Mode] = field(default_factory=_modes)
    """Modes by name, highest first: a downshift moves down this list."""
    downshift: Downshift = field(default_factory=Downshift)
    """How calls are moved between modes."""
    json_guard: JsonGuard = field(default_factory=JsonGuard)
    """How answers that have to be JSON are judged."""
    circuit_breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    """When a failing upstream is left alone."""
    throttle: Throttle = field(default_factory=Throttle)
    """How an upstream is treated that asks for less."""
    load: Load = field(default_factory=Load)
    """How many calls an upstream is sent at once."""
    hedge: Hedge = field(default_factory=Hedge)
    """When a second upstream is asked for the same stream."""
    cache: Cache = field(default_factory=Cache)
    """Which answers are given again."""
    health: Health = field(default_factory=Health)
    """How models are proven."""
    timeouts: Timeouts = field(default_factory=Timeouts)
    """How long an upstream may take."""
    retry: Retry = Retry()
    """Attempts that the caller does not see."""
    limits: Limits = Limits()
    """How much is taken in."""
    drain: Drain = Drain()
    """How the proxy ends."""
    alerts: Alerts = Alerts()
    """Who is told when something changes."""
    shared: Shared = Shared()
    """What several proxies have in common."""
    routes: tuple[Route, ...] = ()
    """What is different for some calls; the first that fits counts."""
    log: Log = Log()
    """What is written about what happens."""
    tracing: Tracing = Tracing()
    """Spans of calls and attempts."""
    debug: Debug = Debug()
    """For finding a fault."""
