"""From a configuration to everything that answers a call.

Here belongs the building: each object is made once, from its settings, and handed to those that use it.  What they
do then is theirs; when they are started and stopped is `serve`'s.
"""

from __future__ import annotations

import itertools
import random
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, cast, final

from guardproxy.config import registry
from guardproxy.core.budget import Budget
from guardproxy.core.guard import Guard, Parts
from guardproxy.core.seal import Seal
from guardproxy.core.shadow import Shadow
from guardproxy.core.store import Access
from guardproxy.flow.aim import Aim, Outfit
from guardproxy.flow.read import Reading, Route
from guardproxy.flow.route import Router
from guardproxy.flow.rules import Retry, Rules
from guardproxy.guards.breaker import Breaker
from guardproxy.guards.cache import Cache
from guardproxy.guards.health import Health
from guardproxy.guards.load import Load
from guardproxy.guards.modes import Modes
from guardproxy.guards.schema import JsonGuard
from guardproxy.net.far import LATE, Far
from guardproxy.net.perform import Bounds, Performer
from guardproxy.net.pool import Limits
from guardproxy.net.scales import Scales
from guardproxy.net.signals import Signals
from guardproxy.net.upstream import Upstream
from guardproxy.openai.keeping import OVERHEAD
from guardproxy.openai.schemas import declare

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from guardproxy.config.load import Loaded
    from guardproxy.config.settings import Config
    from guardproxy.core.values import Schema

G = TypeVar("G", bound=Guard)


@final
@dataclass(slots=True, frozen=True)
class House:
    """One configuration, built."""

    loaded: Loaded
    parts: Parts
    rules: Rules
    reading: Reading
    upstreams: dict[str, Upstream]
    performer: Performer
    scales: Scales
    far: Far | None = None
    """The store that several proxies share."""

    @property
    def config(self) -> Config:
        """The settings in force."""
        return self.loaded.config

    def guard(self, kind: type[G]) -> G | None:
        """The guard of this kind, if it is on."""
        return next((guard for guard in self.rules.guards if isinstance(guard, kind)), None)

    @property
    def breaker(self) -> Breaker | None:
        """The circuits, where they are on."""
        return self.guard(Breaker)

    @property
    def cache(self) -> Cache | None:
        """The cache, where it is on."""
        return self.guard(Cache)

    @property
    def health(self) -> Health:
        """The health of the models; it is always on."""
        return cast("Health", self.guard(Health))

    @property
    def json(self) -> JsonGuard | None:
        """The JSON guard, where it is on."""
        return self.guard(JsonGuard)

    @property
    def load(self) -> Load | None:
        """The limits on calls at once, where they are on."""
        return self.guard(Load)

    def signals(self, loop: asyncio.AbstractEventLoop) -> Signals:
        """Who asks engines for their own queues, where that is wanted."""
        load = self.load
        if load is None:
            return Signals({}, 0.0, lambda *_: None, loop)
        urls = {name: upstream.url for name, upstream in self.config.upstreams.items()}
        return Signals(urls, float(load.settings.signal_seconds), load.hear_signal, loop)

    @property
    def modes(self) -> Modes:
        """The modes; they are always on."""
        return cast("Modes", self.guard(Modes))


def read(load: Callable[[], Loaded]) -> tuple[Loaded, dict[str, Schema]]:
    """Read a configuration and make its schemas ready; touches nothing else, and may be done in a thread."""
    loaded = load()
    return loaded, _schemas(loaded.config)


def build(
    loaded: Loaded,
    loop: asyncio.AbstractEventLoop,
    wall: Callable[[], float],
    old: House | None = None,
    schemas: dict[str, Schema] | None = None,
) -> House:
    """Build what *loaded* describes, taking over from the house before what still holds; opens nothing yet.

    *schemas*: the declared ones, where they are ready.
    """
    config = loaded.config
    models = {name: upstream.model for name, upstream in config.upstreams.items()}
    parts = Parts(
        config, models, wall() - loop.time(), _schemas(config) if schemas is None else schemas, dice=random.random
    )
    for spec in registry.guards():
        settings = getattr(config, spec.key)
        if getattr(settings, "enabled", True):
            built = spec.build(settings, parts)
            gate = type(built).permit is not Guard.permit
            parts.add(Shadow(built) if gate and getattr(settings, "enabled", True) == "shadow" else built)
    if old is not None:
        moved = _moved(config, old.config)
        for heir, former in itertools.product(parts.guards, old.rules.guards):
            known = former.inner if isinstance(former, Shadow) and not isinstance(heir, Shadow) else former
            heir.inherit(known, moved)
    outfits = {
        name: Outfit(upstream.api_key, tuple(upstream.headers.items()), upstream.structured_output)
        for name, upstream in config.upstreams.items()
    }
    guard, retry = config.json_guard, config.retry
    rules = Rules(
        parts.guards,
        aim=Aim(outfits, config.downshift.field, forward=config.downshift.forward),
        dice=random.random,
        budgets={name: Budget(retry.budget, retry.min_per_second) for name in models},
        models=models,
        retry=Retry(
            attempts=retry.attempts,
            asks_again=guard.max_retries,
            again_base=guard.backoff_base,
            again_jitter=guard.jitter,
            longest=guard.max_tokens_limit,
            escalate=guard.escalate,
        ),
        epoch=parts.epoch,
        patience=_patience(parts.guards),
    )
    kept = {} if old is None else {n: up for n, up in old.upstreams.items() if n in models and _same(n, config, old)}
    upstreams = {
        name: kept[name] if name in kept and kept[name].current else _upstream(name, config, loop) for name in models
    }
    keeper = next((guard for guard in parts.guards if isinstance(guard, Cache)), None)
    if keeper is not None:
        for name in models.keys() - kept.keys():  # what another server said is not what this one would say
            keeper.purge(name)
    bounds = Bounds(response_bytes=config.limits.response_bytes)
    scales = Scales(loop) if old is None else old.scales
    scales.seconds, scales.memory = guard.judge_seconds, guard.judge_memory
    far = old.far if old is not None else _far(config, loop, parts.epoch)
    rules.far = far is not None and config.shared.cache
    performer = Performer(upstreams, config.timeouts, bounds, loop, scales, far if rules.far else None)
    return House(loaded, parts, rules, _reading(config), upstreams, performer, scales, far)


def _far(config: Config, loop: asyncio.AbstractEventLoop, epoch: float) -> Far | None:
    shared = config.shared
    if shared.url is None or shared.secret is None:
        return None
    access = Access(shared.url, max(LATE, shared.timeout), shared.ca_file)
    seal = Seal(shared.secret, shared.compress_above, config.limits.response_bytes + OVERHEAD)
    store = registry.store(shared.url).build(access)
    return Far(store, seal, loop, epoch, prefix=shared.prefix, patience=shared.timeout, streams=shared.stream_wait)


def _patience(guards: list[Guard]) -> dict[str, float]:
    """How long a stream may take to begin before its circuit is told; where that is not wanted, nobody is here."""
    breaker = next((guard for guard in guards if isinstance(guard, Breaker)), None)
    if breaker is None:
        return {}
    return {name: float(span) for name in breaker.circuits if (span := breaker.tuned(name).slow_first_token)}


def _moved(now: Config, then: Config) -> frozenset[str]:
    """The upstreams that are other servers now, or serve another model."""
    places = {name: (upstream.url, upstream.model) for name, upstream in then.upstreams.items()}
    return frozenset(n for n, up in now.upstreams.items() if places.get(n) != (up.url, up.model))


def _same(name: str, config: Config, old: House) -> bool:
    """Whether the connections of an upstream can go on."""
    now, then = config, old.config
    return (now.upstreams[name], now.timeouts.connect) == (then.upstreams.get(name), then.timeouts.connect)


def _reading(config: Config) -> Reading:
    router = Router(
        {name: (upstream.model, upstream.aliases) for name, upstream in config.upstreams.items()},
        {name: mode.upstream for name, mode in config.modes.items()},
        config.default_upstream,
    )
    routes = [
        Route(r.path or "", r.model or "", r.mode or "", r.schema or "", r.cache, r.guards) for r in config.routes
    ]
    names = [spec.name for spec in registry.guards()]
    return Reading(
        router,
        registry.dialects(),
        ids=request_ids(),
        mode_field=config.downshift.field,
        routes=routes,
        total=config.timeouts.total,
        guards=names,
    )


def request_ids() -> Callable[[], str]:
    """Ids that nobody else makes: a random beginning and a count, since asking the system for each takes 4 µs."""
    prefix, count = secrets.token_hex(6), itertools.count(1)
    return lambda: f"{prefix}{next(count):08x}"


def _upstream(name: str, config: Config, loop: asyncio.AbstractEventLoop) -> Upstream:
    upstream = config.upstreams[name]

    limits = Limits(connect=config.timeouts.connect)
    places = max(limits.pool_size, config.limits.connections)  # nobody who was let in waits for a place
    limits = replace(limits, pool_size=places)
    ca_file, client_cert = upstream.ca_file, upstream.client_cert
    return Upstream(name, upstream.url, settings=limits, ca_file=ca_file, client_cert=client_cert, clock=loop.time)


def _schemas(config: Config) -> dict[str, Schema]:
    made: dict[str, Schema] = {}
    for name, declared in config.json_guard.schemas.items():
        made[name] = declare(name, declared.schema, declared.fallback)
    return made
