"""The proxy that anybody would write first: `python -m bench.naive PORT UPSTREAM_URL`.

Here belongs nothing but aiohttp's own server and client with the header fields copied: a mark to measure against.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvloop
from aiohttp import ClientSession, TCPConnector, web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NOT_UP = {"host", "content-length", "transfer-encoding", "connection"}
_NOT_DOWN = {"content-length", "transfer-encoding", "connection", "content-encoding"}


def make(upstream: str) -> web.Application:
    """The application."""
    sessions: list[ClientSession] = []

    async def session(app: web.Application) -> AsyncIterator[None]:
        del app
        async with ClientSession(connector=TCPConnector(limit=0)) as made:
            sessions.append(made)
            yield

    async def handle(request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_UP}
        body = await request.read()
        async with sessions[0].request(
            request.method, upstream + request.path_qs, headers=headers, data=body
        ) as answer:
            down = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_DOWN}
            if answer.content_type != "text/event-stream":
                return web.Response(status=answer.status, headers=down, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=down)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    app = web.Application(client_max_size=64 << 20)
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", handle)
    return app


if __name__ == "__main__":
    web.run_app(
        make(sys.argv[2]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )
