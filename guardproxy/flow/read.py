"""From a request to a call.

Here belongs the reading of what a caller sent: path, header fields and body become a `Call`, or the error reply
that says why not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Call, Reply
from guardproxy.flow.route import Unknown
from guardproxy.flow.terms import FIELDS, terms
from guardproxy.openai.envelope import envelope
from guardproxy.openai.fields import upward, value
from guardproxy.openai.request import Unreadable, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.values import Headers
    from guardproxy.flow.route import Router, Wish

JSON: Headers = [(b"Content-Type", b"application/json")]
_ID = re.compile(r"[!-~]{1,128}")
_DOTS = re.compile(r"(?:^|/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:/|\\|%2f|%5c|$)", re.IGNORECASE)
"""A dot segment, also between slashes that only the next reader may take for slashes."""
_SLASHES = re.compile(r"//+")
_NO_SKIP: frozenset[str] = frozenset()


@final
@dataclass(slots=True, frozen=True)
class Route:
    """What holds for calls of some kind; the first three say which, and what is empty there matches all."""

    path: str = ""
    """A path, or its beginning where it ends in ``*``."""
    model: str = ""
    """What the caller wrote in ``model``, or the upstream that is meant by it."""
    mode: str = ""
    """The mode asked for."""
    schema: str = ""
    """The schema that answers must satisfy, where the caller names none."""
    cache: bool = True
    guards: tuple[str, ...] | None = None
    """The only guards that such calls pass; None: all."""

    def covers(self, path: str, model: str, wish: Wish) -> bool:
        """Whether a call is meant."""
        pattern = self.path
        return (
            (not pattern or (path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern))
            and (not self.model or self.model in (model, wish.upstream))
            and (not self.mode or self.mode == wish.mode)
        )


@final
@dataclass(slots=True)
class Place:
    """Where a request goes, as far as its request line tells."""

    path: str
    query: str
    prefix: str
    dialect: Dialect | None


@final
class Reading:
    """Reads requests by the names, dialects and routes of one configuration."""

    __slots__ = ("_dialects", "_field", "_guards", "_ids", "_routes", "_total", "router")

    def __init__(
        self,
        router: Router,
        dialects: Sequence[Dialect],
        *,
        ids: Callable[[], str],
        mode_field: str = "mode",
        routes: Sequence[Route] = (),
        total: float = 600.0,
        guards: Sequence[str] = (),
    ) -> None:
        self.router = router
        self._dialects = {path: dialect for dialect in dialects for path in dialect.paths}
        self._ids = ids
        self._field = mode_field
        self._routes = tuple(routes)
        self._total = total
        self._guards = frozenset(guards)

    def place(self, method: str, target: str) -> Place | Reply:
        """Read the request line: *target* is ``/path?query`` as it came."""
        path, _, query = target.partition("?")
        if not path.startswith("/"):
            return error(400, "invalid_request", f"the request target must start with a slash, not {target[:80]!r}")
        if "//" in path:
            path = _SLASHES.sub("/", path)
        if ("." in path or "%2" in path) and _DOTS.search(path):
            return error(400, "invalid_request", "the path must not contain dot segments")
        prefix, path = self.router.prefix(path)
        if method != "POST":
            return Place(path, query, prefix, None)
        bare = path.rstrip("/")
        dialect = self._dialects.get(bare)
        return Place(path if dialect is None else bare, query, prefix, dialect)

    def call(self, method: str, place: Place, headers: Headers, body: bytes, now: float) -> Call | Reply:
        """Read the rest: header fields and, for an inference path, the body."""
        dialect = place.dialect
        own = _own(headers)
        doc: dict[str, Any] = {}
        if dialect is not None:
            try:
                doc = read(body)
            except Unreadable as wrong:
                coding = value(headers, b"content-encoding")
                hint = "" if coding is None else f"; send it without Content-Encoding: {coding.decode('latin-1')[:40]}"
                return _refused(dialect, 400, wrong.code, str(wrong) + hint, wrong.param)
        mode, mode_in, model = own.get("mode", ""), "header" if own.get("mode") else "", doc.get("model") or ""
        if self._field in doc:
            asked = doc[self._field]
            if asked is not None and not isinstance(asked, str):
                return _refused(dialect, 400, "invalid_request", f"{self._field} must be a string", self._field)
            if not mode_in:
                mode, mode_in = asked or "", "field"
        try:
            wish = self.router.find(place.prefix, mode, model)
        except Unknown as unknown:
            return _refused(dialect, 404, "model_not_found", str(unknown), "model")
        if wish.named_mode and not mode:
            mode_in = "model"
        return self._compose(method, place, own, doc, body, wish, mode_in, model, headers, now)

    def ident(self, headers: Headers) -> str:
        """The id of a request that has not become a call."""
        return self._ident(_own(headers).get("id", ""))

    def _ident(self, given: str) -> str:
        return given if _ID.fullmatch(given) else self._ids()

    def _compose(  # noqa: PLR0913, PLR0917 -- the last step of `call`, which has all of these at hand
        self,
        method: str,
        place: Place,
        own: Mapping[str, str],
        doc: dict[str, Any],
        body: bytes,
        wish: Wish,
        mode_in: str,
        model: str,
        headers: Headers,
        now: float,
    ) -> Call:
        skip = frozenset(part.strip().lower() for part in own["skip"].split(",")) if "skip" in own else _NO_SKIP
        schema = own.get("schema", "")
        route = next((r for r in self._routes if r.covers(place.path, model, wish)), None) if self._routes else None
        if route is not None:
            schema = schema or route.schema
            if not route.cache:
                skip |= {"cache"}
            if route.guards is not None:
                skip |= self._guards.difference(route.guards)
        stream = place.dialect is not None and place.dialect.streams(doc)
        asked = terms(own, stream=stream)
        return Call(
            id=self._ident(own.get("id", "")),
            method=method,
            path=place.path,
            query=place.query,
            headers=upward(headers),
            body=body,
            doc=doc,
            dialect=place.dialect,
            model=model,
            mode=wish.mode,
            mode_in=mode_in,
            upstream=wish.upstream,
            stream=stream,
            fixed=own.get("downshift") == "never",
            skip=skip,
            wants_schema=schema,
            cache_control=own.get("cache-control", ""),
            deadline=now + min(self._total, asked.total),
            terms=asked,
            named_mode=wish.named_mode,
        )


def error(status: int, code: str, message: str, param: str | None = None) -> Reply:
    """A refusal of our own, in an envelope."""
    return _refused(None, status, code, message, param)


def _refused(dialect: Dialect | None, status: int, code: str, message: str, param: str | None) -> Reply:
    write = envelope if dialect is None else dialect.error
    return Reply(status, write(status, code, message, param), JSON, code=code)


_OWN = {
    b"x-llm-mode": "mode",
    b"x-request-id": "id",
    b"x-guardproxy-schema": "schema",
    b"x-guardproxy-downshift": "downshift",
    b"x-guardproxy-skip": "skip",
    b"cache-control": "cache-control",
    **FIELDS,
}


@lru_cache(maxsize=2048)
def _own_name(name: bytes) -> str | None:
    return _OWN.get(name.lower())


def _own(headers: Headers) -> dict[str, str]:
    """The fields that are meant for the proxy, by the name they have here."""
    own: dict[str, str] = {}
    for name, found in headers:
        if (key := _own_name(name)) is not None:
            text = found.decode("latin-1").strip()
            own[key] = f"{own[key]},{text}" if key in own and key in ("skip", "cache-control") else text
    if "downshift" in own:
        own["downshift"] = own["downshift"].lower()
    if "cache-control" in own:
        own["cache-control"] = own["cache-control"].lower()
    return own
