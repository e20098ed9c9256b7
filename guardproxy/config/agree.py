"""What settings say about each other.

Here belong contradictions, which are problems, and what is allowed but rarely meant, which is a warning.
Not here: what is wrong with one setting alone (`decode`, `rules`), what is wrong with files (`files`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlsplit

from guardproxy.config.decode import nearest
from guardproxy.config.tree import Node, Path, Problems, Spot, spot_of, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from guardproxy.config.places import Address
    from guardproxy.config.settings import Config, Route

SMALLEST_CACHE: Final = 64 << 10
"""Bytes: less does not hold one ordinary answer with its headers."""

_TAKEN: Final = ("model", "messages", "prompt", "input", "stream", "tools", "response_format")
"""Fields of a request that mean something else than a mode."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def agree(config: Config, root: Node, problems: Problems) -> None:
    """Note every contradiction in *config*, which may be incomplete where other problems were found."""
    check = _Check(config, root, problems)
    check.listeners()
    check.names()
    check.references()
    check.amounts()
    check.sharing()
    check.extras()


@final
class _Check:
    """The contradictions of one configuration."""

    def __init__(self, config: Config, root: Node, problems: Problems) -> None:
        self._config, self._root, self._problems = config, root, problems
        self._owners: dict[str, str] = {}
        self._upstreams = self._names_of("upstreams", config.upstreams)
        self._modes = self._names_of("modes", config.modes)
        self._schemas = self._names_of("schemas", config.json_guard.schemas, "json_guard")

    def _names_of(self, section: str, decoded: Iterable[str], *around: str) -> tuple[str, ...] | None:
        """The names in a section, those whose values are wrong as well; None where it is no section at all."""
        node = self._root
        for step in (*around, section):
            if step not in node.data:
                return tuple(decoded)
            node = node.data[step]
            if not isinstance(node.data, dict):
                return () if node.data is None else None
        return tuple(node.data)

    def _add(self, path: Path, message: str, *, key: bool = False) -> None:
        self._problems.add(self._key(path) if key else spot_of(self._root, path), path, message)

    def _key(self, path: Path) -> Spot:
        around = self._root
        for step in path[:-1]:
            if not isinstance(around.data, dict) or step not in around.data:
                return spot_of(self._root, path)
            around = around.data[step]
        return around.keys.get(str(path[-1]), around.spot)

    def listeners(self) -> None:
        """The two ports, and upstreams that are the proxy itself."""
        config = self._config
        if config.listen.clashes(config.admin):
            self._add(("admin",), f"is the same address as `listen` ({config.listen})")
        for name, upstream in config.upstreams.items():
            for which, address in (("listen", config.listen), ("admin", config.admin)):
                if _is_own(upstream.url, address):
                    self._add(("upstreams", name, "url"), f"is this proxy itself (`{which}` is {address})")

    def names(self) -> None:
        """No name may mean two things: what a caller writes in ``model`` has to lead to one place."""
        config = self._config
        if self._upstreams == ():
            self._add(("upstreams",), "at least one upstream is needed")
        self._owners = {name: name for name in config.upstreams}
        for name, upstream in config.upstreams.items():
            spelled: list[tuple[Path, str]] = [(("upstreams", name, "model"), upstream.model)]
            spelled += [(("upstreams", name, "aliases", i), alias) for i, alias in enumerate(upstream.aliases)]
            for path, word in spelled:
                owner = self._owners.setdefault(word, name) if word else name
                if owner != name:
                    self._add(path, f"{word!r} means the upstream {owner!r} already")
        for name in config.modes:
            if name in self._owners:
                self._add(("modes", name), f"{name!r} means the upstream {self._owners[name]!r} already", key=True)

    def references(self) -> None:
        """Whatever names something has to name something that is there."""
        config = self._config
        for name, mode in config.modes.items():
            if mode.upstream:
                self._known(("modes", name, "upstream"), "upstream", mode.upstream, self._upstreams)
        for name in config.circuit_breaker.models:
            self._known(("circuit_breaker", "models", name), "upstream", name, self._upstreams, key=True)
        if config.default_upstream is not None:
            self._known(("default_upstream",), "upstream", config.default_upstream, self._upstreams)
        modes = None if self._modes is None else tuple(config.modes)
        known = None if self._upstreams is None or modes is None else (*self._upstreams, *self._owners, *modes)
        for i, route in enumerate(config.routes):
            if not any(written(self._root, ("routes", i, key)) for key in ("path", "model", "mode")):
                self._add(("routes", i), "a route needs `path`, `model` or `mode`, to say which calls it is for")
            if route.model is not None:
                self._known(("routes", i, "model"), "model", route.model, known)
            if route.mode is not None:
                self._known(("routes", i, "mode"), "mode", route.mode, modes)
            if route.schema is not None:
                self._known(("routes", i, "schema"), "schema", route.schema, self._schemas)

    def _known(self, path: Path, what: str, name: str, known: Iterable[str] | None, *, key: bool = False) -> None:
        known = None if known is None else tuple(dict.fromkeys(known))
        if known is not None and name not in known:
            hint = nearest(name, known) or (f"; there are {', '.join(known)}" if known else "; there are none")
            self._add(path, f"there is no {what} {name!r}{hint}", key=key)

    def sharing(self) -> None:
        """Nobody may believe what lies in a store that anybody may write to."""
        shared = self._config.shared
        if shared.url is not None and shared.secret is None:
            self._add(
                ("shared", "url"), "needs `secret` beside it: a text that all these proxies know, and nobody else"
            )

    def extras(self) -> None:
        """What is asked for has to be installed."""
        if self._config.tracing.endpoint is not None and find_spec("opentelemetry.sdk") is None:
            self._add(("tracing", "endpoint"), "needs the extra otel: pip install 'guardproxy[otel]'")

    def amounts(self) -> None:
        """Numbers that leave no room for what they are for."""
        config = self._config
        if config.cache.enabled and config.cache.max_bytes < SMALLEST_CACHE:
            self._add(
                ("cache", "max_bytes"), "cannot hold one answer; give it 64KiB at least, or set cache.enabled: false"
            )
        if config.downshift.field in _TAKEN:
            self._add(("downshift", "field"), f"{config.downshift.field!r} is a field that means something else")


def warnings(config: Config) -> Iterator[str]:
    """What is allowed, and rarely meant."""
    keyless: dict[str, str] = {}
    for name, upstream in config.upstreams.items():
        if upstream.api_key is None and not any(header.lower() == "authorization" for header in upstream.headers):
            keyless.setdefault(_host(upstream.url), name)
    if len(keyless) > 1:
        listed = ", ".join(f"{name} ({host})" for host, name in keyless.items())
        yield f"upstreams: a caller's key goes to different hosts, {listed}: give each an api_key"
    if config.listen.host not in _LOOPBACK and not config.listen.host.startswith("127."):
        yield f"listen: {config.listen} can be reached from other machines; the port belongs to the app alone"
    times = config.timeouts
    for name, value in (("connect", times.connect), ("first_token", times.first_token), ("stall", times.stall)):
        if value > times.total:
            yield f"timeouts.{name}: {value:g} s never pass, as timeouts.total is {times.total:g} s"
    if config.drain.idle_seconds > config.drain.seconds:
        yield "drain.idle_seconds: longer than drain.seconds, so nobody waits that long"
    for i, route in enumerate(config.routes):
        for j, earlier in enumerate(config.routes[:i]):
            if _covers(earlier, route):
                yield f"routes[{i}]: never counts, as routes[{j}] fits all of its calls"
                break


def _covers(earlier: Route, later: Route) -> bool:
    """Whether each call that fits *later* fits *earlier*."""
    if earlier.model not in (None, later.model) or earlier.mode not in (None, later.mode):
        return False
    if earlier.path in (None, later.path):
        return True
    path = earlier.path or ""
    return later.path is not None and path.endswith("*") and later.path.startswith(path[:-1])


def _host(url: str) -> str:
    if url.startswith("unix:"):
        return "this machine"
    host = urlsplit(url).hostname or ""
    return "this machine" if host in _LOOPBACK else host


def _is_own(url: str, address: Address) -> bool:
    if not url.startswith(("http://", "https://")) or address.port == 0:
        return False
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    own = (address.host, *_LOOPBACK) if address.host in ("", "0.0.0.0", "::", *_LOOPBACK) else (address.host,)  # noqa: S104
    return port == address.port and parts.hostname in own
