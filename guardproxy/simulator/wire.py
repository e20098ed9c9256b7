"""How an answer gets onto the wire, and how that goes wrong on order: resets, cuts, silence, bytes that are not HTTP.

Here belongs everything that touches a transport or takes time. Here does not belong what is answered (`shapes`).

An HTTP library keeps its users from misbehaving, so here its transport is used behind its back: once it is closed or
reset, the library notices that the connection has gone and ends the request quietly.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING, NoReturn

from aiohttp import web

from guardproxy.simulator.engines import OPENAI, Engine, broken
from guardproxy.simulator.shapes import DONE, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from guardproxy.simulator.manners import Manners
    from guardproxy.simulator.visits import Visit

_GARBAGE = b"\x16\x03\x01 this is not HTTP \x00\xff\xfe\r\n\r\n"
# A reset overtakes bytes that are still queued; so long (seconds) they get to arrive first.
_HEAD_START = 0.01


def reset(transport: asyncio.Transport | None) -> None:
    """Reset a connection: the peer gets RST, not an orderly end; what is still queued is lost."""
    if transport is None or transport.is_closing():
        return
    known = transport.get_extra_info("socket")
    if known is not None:
        # Through a duplicate, for not every event loop lets its sockets be touched; the option is the connection's.
        with socket.socket(fileno=os.dup(known.fileno())) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def reset_visit(request: web.BaseRequest, visit: Visit) -> web.StreamResponse:
    """Reset before any byte."""
    visit.became("reset")
    reset(request.transport)
    return web.Response()


def garble(request: web.BaseRequest, visit: Visit) -> web.StreamResponse:
    """Answer something that is not HTTP, and close."""
    visit.became("garbage")
    if request.transport is not None:
        request.transport.write(_GARBAGE)
        request.transport.close()
    return web.Response()


async def silence() -> web.StreamResponse:
    """Never return; who waits must hang up, which cancels this."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets this event")


async def send_old(
    request: web.BaseRequest, parts: Iterable[bytes], status: int, kind: str, visit: Visit
) -> web.StreamResponse:
    """Send an answer in HTTP/1.0, which ends where the connection does."""
    visit.status = status
    if request.transport is not None:
        request.transport.write(f"HTTP/1.0 {status} X\r\nContent-Type: {kind}\r\n\r\n".encode())
        for part in parts:
            request.transport.write(part)
        request.transport.close()
    visit.became("answered")
    return web.Response()


async def send_lines(
    request: web.BaseRequest, lines: Iterable[bytes], headers: Mapping[str, str], visit: Visit
) -> web.StreamResponse:
    """Send NDJSON, line by line."""
    response = web.StreamResponse(headers=headers)
    response.content_type = "application/x-ndjson"
    visit.status = 200
    await response.prepare(request)
    for line in lines:
        await response.write(line)
    await response.write_eof()
    visit.became("answered")
    return response


async def send_whole(
    request: web.BaseRequest,
    body: bytes,
    status: int,
    headers: Mapping[str, str],
    manners: Manners,
    visit: Visit,
    kind: str = "application/json",
) -> web.StreamResponse:
    """Send an answer that is not streamed; half of it or none where it is to be cut or reset."""
    visit.status = status
    if not manners.reset_after and manners.reset_mid is None and manners.cut is None:
        visit.became("answered")
        return web.Response(body=body, status=status, headers=headers, content_type=kind)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = kind
    response.content_length = len(body)
    await response.prepare(request)
    if not manners.reset_after:
        await response.write(body[: len(body) // 2])
    if manners.cut is not None:
        return _cut(request, visit, response)
    return await _reset_late(request, visit, response)


async def send_stream(
    request: web.BaseRequest,
    events: Iterable[Event],
    headers: Mapping[str, str],
    manners: Manners,
    visit: Visit,
    engine: Engine = OPENAI,
) -> web.StreamResponse:
    """Send server-sent events one by one, each in a chunk of its own, as far as the manners let it come."""
    response = web.StreamResponse(headers={"Cache-Control": "no-cache", **headers})
    response.content_type = "text/event-stream"
    response.charset = "utf-8"
    visit.status = 200
    await response.prepare(request)
    if manners.reset_after:
        return await _reset_late(request, visit, response)
    if manners.comments is not None:
        await _only_comments(response, manners.comments)
    late = manners.slow_first_token
    for item in events:
        late = await _turn(item, manners, late)
        if item.kind != "role":
            if visit.events == manners.stall:
                await silence()
            if visit.events == manners.cut:
                return _cut(request, visit, response)
            if visit.events == manners.reset_mid:
                return await _reset_late(request, visit, response)
            if visit.events == manners.error_event:
                await response.write(broken(engine))
                break
        if item.kind == "content":
            if visit.events and manners.token_delay:
                await asyncio.sleep(manners.token_delay)
            visit.events += 1
        await response.write(item.data)
    if engine.done and not manners.no_done:
        await response.write(DONE)
    await response.write_eof()
    visit.became("answered")
    return response


async def _turn(item: Event, manners: Manners, late: float) -> float:
    """Be *late* with the first event, or only with the first word; how late the next one has to be."""
    if not late or (item.kind == "role" and manners.early_role):
        return late
    await asyncio.sleep(late)
    return 0.0


async def _only_comments(response: web.StreamResponse, seconds: float) -> NoReturn:
    while True:
        await response.write(b": ping\n\n")
        await asyncio.sleep(seconds)


def _cut(request: web.BaseRequest, visit: Visit, response: web.StreamResponse) -> web.StreamResponse:
    """End the connection in an orderly way, the answer in none: FIN, but no terminal chunk and no rest of the body."""
    visit.became("cut")
    if request.transport is not None:
        request.transport.close()
    return response


async def _reset_late(request: web.BaseRequest, visit: Visit, response: web.StreamResponse) -> web.StreamResponse:
    visit.became("reset")
    await asyncio.sleep(_HEAD_START)
    reset(request.transport)
    return response
