"""The inference paths of a simulated server: a request is read, its manners are found, and it is answered in them.

Here belongs the sequence of an answer, and what requests are refused. Here do not belong contents (`composing`), field
names (`shapes`), transports (`wire`) and counting (`orders`, `visits`).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from guardproxy.simulator import engines, ollama, shapes, wire
from guardproxy.simulator.composing import Said, Speaker, compose, prompt_tokens
from guardproxy.simulator.fits import CannotSatisfyError

if TYPE_CHECKING:
    from aiohttp import web

    from guardproxy.simulator.manners import Manners
    from guardproxy.simulator.visits import Visit

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
INFERENCE: Final = frozenset({CHAT, COMPLETIONS, EMBEDDINGS}) | ollama.PATHS
_DIMENSIONS: Final = 8
# An answer a request may ask for: choices, and numbers of a vector.
_MOST_CHOICES: Final = 128
_MOST_DIMENSIONS: Final = 4096


class RefusedError(Exception):
    """A request that is answered with an error: `status` and `body`, the envelope."""

    def __init__(
        self, message: str, status: int = 400, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = shapes.error(message, kind, status, param)


async def answer(request: web.BaseRequest, visit: Visit, manners: Manners, who: Speaker) -> web.StreamResponse:
    """Answer a request in these manners, as `who`, whose mode and echo are found here."""
    headers = {"X-Request-Id": visit.headers.get("X-Request-Id") or f"req-{secrets.token_hex(8)}"}
    await asyncio.sleep(manners.latency)
    if manners.reset_before:
        return wire.reset_visit(request, visit)
    if manners.hang:
        return await wire.silence()
    if manners.garbage:
        return wire.garble(request, visit)
    try:
        _refuse_on_order(manners)
        if visit.path not in INFERENCE or (visit.path in ollama.PATHS and not who.engine.knows_ollama):
            return await wire.send_whole(request, *_other(visit, who.model), headers, manners, visit)
        if visit.path in ollama.PATHS:
            return await _ollama(request, visit, manners, headers, who)
        body = _checked(visit, manners, who)
        if visit.path != EMBEDDINGS:
            said = _said(body, visit, manners, who, headers["X-Request-Id"])
            frame = _frame(visit, body, said, who.model)
            return await _completion(request, visit, manners, headers, frame, said, who.engine)
        whole, status, kind = orjson.dumps(_embeddings(body, who.model)), 200, "application/json"
    except RefusedError as refused:
        if manners.retry_after is not None:
            headers["Retry-After"] = manners.retry_after
        status = refused.status
        whole, kind = engines.refusal(who.engine, refused.body, status)
    if who.engine.old:
        return await wire.send_old(request, [whole], status, kind, visit)
    return await wire.send_whole(request, whole, status, headers, manners, visit, kind)


async def _ollama(
    request: web.BaseRequest, visit: Visit, manners: Manners, headers: dict[str, str], who: Speaker
) -> web.StreamResponse:
    if not isinstance(visit.body, dict):
        raise RefusedError("the body is not a JSON object")
    body = ollama.translated(visit.body)
    (said,) = _said(body, visit, manners, who, headers["X-Request-Id"])
    frame = _frame(visit, body, [said], who.model)
    if visit.body.get("stream") is not False:
        return await wire.send_lines(request, ollama.lines(visit.path, frame, said), headers, visit)
    return await wire.send_whole(request, ollama.whole(visit.path, frame, said), 200, headers, manners, visit)


def _said(body: dict[str, Any], visit: Visit, manners: Manners, who: Speaker, request_id: str) -> list[Said]:
    mode = body.get("mode") or visit.headers.get("X-LLM-Mode")
    echo = request_id if manners.echo_id else None
    speaker = replace(who, mode=None if mode is None else str(mode), echo=echo)
    try:
        return compose(body, speaker, manners, count=_choices(body))
    except CannotSatisfyError as problem:
        raise RefusedError(f"the simulator cannot satisfy this schema: {problem}", param="response_format") from problem


async def _completion(
    request: web.BaseRequest,
    visit: Visit,
    manners: Manners,
    headers: dict[str, str],
    frame: shapes.Frame,
    said: list[Said],
    engine: engines.Engine,
) -> web.StreamResponse:
    shown = [] if manners.empty else said
    if visit.body.get("stream"):
        options = visit.body.get("stream_options")
        with_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        events = shapes.events(frame, shown, with_usage=with_usage)
        if engine is not engines.OPENAI:
            events = engines.told(engine, events, frame.usage)
        if engine.old:
            parts = [*(one.data for one in events), shapes.DONE]
            return await wire.send_old(request, parts, 200, "text/event-stream", visit)
        return await wire.send_stream(request, events, headers, manners, visit, engine)
    if manners.stall is not None or manners.comments is not None:
        return await wire.silence()
    pieces = sum(len(choice.tokens) for choice in said)
    await asyncio.sleep(manners.slow_first_token + manners.token_delay * max(0, pieces - 1))
    body, status = shapes.completion(frame, shown), 200
    if manners.error_event is not None:
        body, status = shapes.error("The engine died while it answered", "InternalServerError", 500), 500
    if engine.old:
        return await wire.send_old(request, [orjson.dumps(body)], status, "application/json", visit)
    return await wire.send_whole(request, orjson.dumps(body), status, headers, manners, visit)


def _refuse_on_order(manners: Manners) -> None:
    if manners.loading:
        refused = RefusedError("Loading model", 503)
        refused.body = shapes.loading()
        raise refused
    if manners.status is not None:
        kind = {429: "RateLimitError", 503: "ServiceUnavailableError"}.get(manners.status, "InternalServerError")
        raise RefusedError(f"simulated status {manners.status}", manners.status, kind)
    if manners.error_200 is not None:
        refused = RefusedError("an error in an answer that says 200", 200)
        refused.body = shapes.error("an error in an answer that says 200", "InternalServerError", manners.error_200)
        raise refused


def _other(visit: Visit, model: str) -> tuple[bytes, int]:
    """What is answered on paths that are no inference."""
    if visit.path in {"/v1/models", "/health"} and visit.method not in {"GET", "HEAD"}:
        return b'{"detail":"Method Not Allowed"}', 405
    if visit.path == "/v1/models":
        return orjson.dumps(shapes.models(model, int(time.time()))), 200
    return (b"{}", 200) if visit.path == "/health" else (b'{"detail":"Not Found"}', 404)


def _checked(visit: Visit, manners: Manners, who: Speaker) -> dict[str, Any]:
    """The body, if it is one that a server would answer; raises `RefusedError`."""
    body = visit.body
    if visit.method != "POST":
        raise RefusedError("Method Not Allowed", 405, "MethodNotAllowedError")
    if not isinstance(body, dict):
        raise RefusedError("the body is not a JSON object")
    if manners.strict_model and body.get("model") not in {who.name, who.model}:
        raise RefusedError(f"The model `{body.get('model')}` does not exist.", 404, "NotFoundError", "model")
    field = {CHAT: "messages", COMPLETIONS: "prompt"}.get(visit.path, "input")
    said = body.get(field)
    if visit.path == CHAT:
        if not isinstance(said, list) or not said or not all(isinstance(message, dict) for message in said):
            raise RefusedError("messages must be a list of objects, and not empty", param="messages")
    elif not isinstance(said, str | list) or not said:
        raise RefusedError(f"{field} must be a text or a list, and not empty", param=field)
    for number, most in (("n", _MOST_CHOICES), ("dimensions", _MOST_DIMENSIONS), ("max_tokens", None)):
        _check_number(body, number, most)
    _check_number(body, "max_completion_tokens", None)
    stops = body.get("stop")
    if not (
        stops is None or isinstance(stops, str) or (isinstance(stops, list) and all(isinstance(s, str) for s in stops))
    ):
        raise RefusedError("stop must be a text or a list of texts", param="stop")
    return body


def _check_number(body: dict[str, Any], name: str, most: int | None) -> None:
    value = body.get(name)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1 or (most is not None and value > most):
        raise RefusedError(
            f"{name} must be an integer of at least 1" + (f" and at most {most}" if most else ""), param=name
        )


def _choices(body: dict[str, Any]) -> int:
    """How many choices: n, for each of the prompts where there are several."""
    prompts = body.get("prompt")
    several = isinstance(prompts, list) and not isinstance(prompts[0], int)
    count = (body.get("n") or 1) * (len(prompts) if several and prompts else 1)
    if count > _MOST_CHOICES:
        raise RefusedError(f"at most {_MOST_CHOICES} choices", param="n")
    return int(count)


def _frame(visit: Visit, body: dict[str, Any], said: list[Said], model: str) -> shapes.Frame:
    chat = visit.path == CHAT
    return shapes.Frame(
        chat=chat,
        id=("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12),
        created=int(time.time()),
        model=model,
        usage=shapes.usage(prompt_tokens(body), said),
    )


def _embeddings(body: dict[str, Any], model: str) -> dict[str, Any]:
    texts = body["input"]
    # A text, or the token ids of one, is one input; lists of them are several.
    several = isinstance(texts, list) and not isinstance(texts[0], int)
    as_base64 = body.get("encoding_format") == "base64"
    dimensions = body.get("dimensions") or _DIMENSIONS
    inputs = texts if several else [texts]
    return shapes.embeddings(inputs, model, prompt_tokens(body), dimensions, as_base64=as_base64)
