"""What all connections of one server share.

Here belong the bounds, the handler, and what the front says when it has to speak for itself.  Not here: one
connection (caller) and the listening sockets (server).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.values import Headers
from guardproxy.net.head import CLOSE, compose
from guardproxy.net.inlet import Request
from guardproxy.net.outlet import Outlet

if TYPE_CHECKING:
    from guardproxy.net.caller import Caller
    from guardproxy.net.turnaway import TurnedAway

Handler = Callable[[Request, Outlet], Coroutine[Any, Any, None] | None]
"""Answers one request, at once, in a coroutine, or through whoever takes `Outlet.charge` of its answer.

A coroutine is cancelled where the caller leaves before the end of his answer."""
Envelope = Callable[[int, str, str], tuple[Headers, bytes]]
"""Renders what the front itself refuses, from status, code and message; called once for each, so that it can tell."""
Hook = Callable[[BaseException, Request | None], None]
"""Told of what a handler let escape; None where there was no request yet."""


@final
@dataclass(slots=True, frozen=True)
class ServerLimits:
    """What the front grants a caller."""

    connections: int = 4096
    """Connections at once, loopback included; those beyond are answered 503 and closed."""
    per_client: int = 512
    """Connections at once from one address, loopback and unix sockets exempt; 0: any number."""
    header_timeout: float = 10.0
    """Seconds from the first byte of a head, or from connecting, until the head is complete."""
    body_timeout: float = 60.0
    """Seconds that a streamed request body may pause, and that a caller who is being sent more may read nothing."""
    keepalive: float = 75.0
    """Seconds a connection may rest between requests."""
    head_bytes: int = 32 * 1024
    """Bytes of a whole head."""
    line_bytes: int = 16 * 1024
    """Bytes of the request target, and of one header field."""
    fields: int = 128
    """Header fields of one request."""
    body_buffer: int = 64 * 1024
    """Bytes of a body read ahead of whoever reads it; twice that and one read is the most held."""


@final
class Front:
    """The handler, the bounds and the condition of one server."""

    __slots__ = (
        "_error",
        "_hook",
        "callers",
        "crowd",
        "draining",
        "gentle",
        "handler",
        "leaving",
        "settings",
        "stopping",
        "turned_away",
    )

    def __init__(self, handler: Handler, settings: ServerLimits, error: Envelope, on_error: Hook | None) -> None:
        self.handler = handler
        self.settings = settings
        self._error = error
        self._hook = on_error
        self.callers: set[Caller] = set()
        self.crowd: dict[str, int] = {}
        """How many of them come from which address; loopback is not counted."""
        self.leaving: set[TurnedAway] = set()
        """Connections over the bound, on their way out."""
        self.turned_away = 0
        """How many there have been of them."""
        self.draining = False
        """Whether every answer is the last on its connection."""
        self.gentle = False
        """Whether the connections of callers on this machine stay while it drains."""
        self.stopping = False
        """Whether handlers still at work are being cancelled."""

    def enter(self, caller: Caller, host: str) -> bool:
        """Let *caller* in, who comes from *host* (nothing: this machine); False where there are too many."""
        settings = self.settings
        if len(self.callers) >= settings.connections:
            return False
        if host:
            count = self.crowd.get(host, 0)
            if 0 < settings.per_client <= count:
                return False
            self.crowd[host] = count + 1
        self.callers.add(caller)
        return True

    def leave(self, caller: Caller, host: str) -> None:
        """Forget *caller*, if he has been let in."""
        if caller in self.callers:
            self.callers.discard(caller)
            if host:
                left = self.crowd.pop(host) - 1
                if left:
                    self.crowd[host] = left

    def overloaded(self) -> bytes:
        """Render the answer to a connection over the bound."""
        headers, body = self._error(503, "overloaded", "too many connections")
        return compose(503, headers, b"Content-Length: %d\r\n%b" % (len(body), CLOSE)) + body

    def refuse(self, outlet: Outlet, status: int, code: str, text: str) -> None:
        """Answer with an envelope, where nothing has been sent; else leave a visible cut."""
        if outlet.over:
            return
        if not outlet.begun:
            try:
                headers, body = self._error(status, code, text)
                outlet.reply(status, headers, body)
            except Exception as error:  # noqa: BLE001 - without an envelope there is still the cut
                self.tell(error, None)
        outlet.abort()

    def fail(self, error: BaseException, request: Request | None, outlet: Outlet) -> None:
        """The handler broke: the operator hears why, the caller only that it did."""
        self.tell(error, request)
        self.refuse(outlet, 500, "internal_error", "internal error")

    def interrupt(self, outlet: Outlet) -> None:
        """The grace is over and the handler has not finished."""
        outlet.closing = True
        self.refuse(outlet, 503, "shutting_down", "the proxy is shutting down")

    def tell(self, error: BaseException, request: Request | None) -> None:
        """Call the hook, whose own faults are nobody's."""
        if self._hook is not None:
            with contextlib.suppress(Exception):
                self._hook(error, request)
