"""The paths that the proxy answers itself.

Here belongs who may ask what: which path is ours, on which port, from where, and under which Host.  What is answered
is in `views` and `orders`.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING, TypeVar, final

from guardproxy.core.values import Reply
from guardproxy.flow.read import error
from guardproxy.net.server import Unreadable
from guardproxy.openai.fields import value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from guardproxy.core.values import Headers
    from guardproxy.net.server import Outlet, Request

    View = Callable[[Request, str, str], Awaitable[Reply]]
    Stream = Callable[..., Awaitable[None]]
    Carrier = Callable[[Request, Outlet], Awaitable[None]]
    Order = Callable[[Request, str, str, bytes], Awaitable[Reply]]

T = TypeVar("T")

BODY = 64 << 10
"""Bytes of an order's body at the most."""
_READ = frozenset(("GET", "HEAD"))
_CHANGE = frozenset(("POST", "PUT", "DELETE"))


@final
class Own:
    """Answers own paths: *views* show, *orders* change something, *streams* go on showing, *carriers* take files.

    A key that ends in a slash stands for everything below it.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        orders: Mapping[str, Order],
        streams: Mapping[str, Stream],
        carriers: Mapping[str, Carrier],
        *,
        hosts: tuple[str, ...],
        token: str | None,
    ) -> None:
        self._views = dict(views)
        self._orders = dict(orders)
        self._streams = dict(streams)
        self._carriers = dict(carriers)
        self._hosts = frozenset(("localhost", *hosts))
        self._token = token

    def covers(self, method: str, target: str) -> bool:
        """Whether a request on the app's port is for us: our own paths, and reading the list of models."""
        path = target.partition("?")[0]
        if path.startswith("/v1/models"):
            return method in _READ and (path == "/v1/models" or path.startswith("/v1/models/"))
        return path in self._views or path == "/guard" or path.startswith("/guard/")

    async def handle(self, request: Request, outlet: Outlet, *, admin: bool = False) -> None:
        """Answer it."""
        path, _, query = request.target.partition("?")
        if path == "/guard/":  # the page; in the tables a slash at the end would stand for all that is below it
            path = "/guard"
        reply = self._stranger(request)
        if reply is None:
            if request.method == "GET" and (stream := self._streams.get(path)) is not None:
                await stream(request, outlet, admin=admin)
                return
            if request.method in _READ:
                view = _find(self._views, path)
                reply = await view(request, path, query) if view is not None else self._nothing(path)
            elif request.method in _CHANGE:
                reply = await self._change(request, outlet, path, query, admin=admin)
                if reply is None:
                    return
            else:
                reply = error(405, "method_not_allowed", f"{request.method} is not answered at {path}")
                reply.headers = [*reply.headers, (b"Allow", b"GET, HEAD, POST, PUT, DELETE")]
        outlet.reply(reply.status, reply.headers, reply.body)

    async def _change(self, request: Request, outlet: Outlet, path: str, query: str, *, admin: bool) -> Reply | None:
        asked = f"{request.method} {path}"
        order, carrier = _find(self._orders, asked), self._carriers.get(asked)
        if not admin and (order is not None or path.startswith("/guard")):
            return error(403, "forbidden", "what changes something is answered on the admin port only")
        if order is None and carrier is None:
            return self._nothing(path)
        if (refused := self._unauthorized(request)) is not None:
            return refused
        if order is None:
            if carrier is not None:
                await carrier(request, outlet)
            return None
        try:
            body = await request.body.read(BODY, 10.0)
        except Unreadable as unreadable:
            return error(unreadable.status, unreadable.code, str(unreadable))
        return await order(request, path, query, body)

    def _stranger(self, request: Request) -> Reply | None:
        """Refuse a Host that is not ours: a page that has its name rebound to this address must learn nothing."""
        host = (value(request.headers, b"host") or b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.count(":") == 1 or (host.startswith("[") and "]:" in host) else host
        name = name.strip("[]").rstrip(".")
        if name in self._hosts or not name:
            return None
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return error(403, "forbidden", f"the Host {name[:100]!r} is not one of ours; see own_hosts")
        return None

    def _unauthorized(self, request: Request) -> Reply | None:
        given = (value(request.headers, b"authorization") or b"").decode("latin-1")
        scheme, _, token = given.partition(" ")
        if self._token is not None and scheme.lower() == "bearer":
            if hmac.compare_digest(token.strip().encode(), self._token.encode()):
                return None
            return _challenge("the bearer token is wrong")
        if _from_browser(request.headers):
            return error(403, "forbidden", "a page of another origin may not change anything here")
        if request.local:
            return None
        if self._token is None:
            return error(403, "forbidden", "from elsewhere than loopback this needs a bearer token (admin_token)")
        return _challenge("this needs a bearer token (admin_token)")

    def _nothing(self, path: str) -> Reply:
        known = ", ".join(sorted(path for path in self._views))
        return error(404, "not_found", f"there is nothing at {path[:200]}; there are {known}")


def _from_browser(headers: Headers) -> bool:
    """Whether a browser says that another site's page is asking; old ones do by ``Origin`` alone, or ``Referer``."""
    site = value(headers, b"sec-fetch-site")
    if site is not None and site not in (b"same-origin", b"none"):
        return True
    page = value(headers, b"origin") or value(headers, b"referer")
    if page is None:
        return False
    return page.partition(b"://")[2].partition(b"/")[0].lower() != (value(headers, b"host") or b"").lower()


def _challenge(message: str) -> Reply:
    reply = error(401, "unauthorized", message)
    reply.headers = [*reply.headers, (b"WWW-Authenticate", b'Bearer realm="guardproxy"')]
    return reply


def _find(table: Mapping[str, T], path: str) -> T | None:
    found = table.get(path)
    if found is None:
        found = next((view for key, view in table.items() if key.endswith("/") and path.startswith(key)), None)
    return found
