"""Other languages than chat through the whole proxy: guarded, kept, and told off in their own words."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

import pytest

from guardproxy.openai.events import payloads
from tests.app.stand import NEVER, SCHEMA, Stand, whole
from tests.dialects.conversations import REAL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
GOOD, BAD = '{"name":"rose","intensity":5}', '{"name":"rose","intensity":"much"}'


class Script:
    """A model server that gives one answer after the other, the last one for ever, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = json.loads(await reader.readexactly(int(length.partition(b":")[2])))
            if head.startswith((b"POST /v1/chat", b"GET")):  # the health check's
                writer.write(whole(json.dumps({"choices": [{"message": {"content": "well"}}]}).encode()))
            else:
                self.asked.append(body)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer if answer.startswith(b"HTTP") else whole(answer))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def response(text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    output = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}]
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m", "output": output}


def message(text: str) -> dict[str, Any]:
    return {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}}  # fmt: skip


def generated(text: str) -> dict[str, Any]:
    return {"model": "m", "response": text, "done": True, "done_reason": "stop", "eval_count": 2}


def chatted(text: str) -> dict[str, Any]:
    return {"model": "m", "message": {"role": "assistant", "content": text}, "done": True, "done_reason": "stop"}


ASKS: dict[str, tuple[dict[str, Any], Callable[[str], dict[str, Any]], str]] = {
    "/v1/responses": (
        {
            "store": False,
            "input": "a rose",
            "text": {"format": {"type": "json_schema", "name": "scent", "schema": SCHEMA}},
        },
        response,
        EVENTS,
    ),
    "/v1/messages": (
        {"max_tokens": 99, "messages": [{"role": "user", "content": "a rose"}],
         "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        message,
        EVENTS,
    ),
    "/api/generate": ({"prompt": "a rose", "format": SCHEMA}, generated, LINES),
    "/api/chat": ({"messages": [{"role": "user", "content": "a rose"}], "format": SCHEMA}, chatted, LINES),
}  # fmt: skip


def stand_in(server: Script, **more: Any) -> dict[str, Any]:
    """A configuration in which llama is this server."""
    return {"upstreams": {"llama": {"url": server.url}}, **more}


async def ask(stand: Stand, path: str, *, stream: bool, **headers: str) -> Any:
    body, _, _ = ASKS[path]
    asked = {"model": "llama", **body, "stream": stream}
    return await stand.ask("POST", path, json=asked, headers={**NEVER, **headers})


def free(path: str) -> dict[str, Any]:
    """The same call without a schema."""
    return {name: value for name, value in ASKS[path][0].items() if name not in ("text", "output_config", "format")}


def said(body: bytes, path: str, *, stream: bool) -> str:
    """What an answer says, read as a client of its language would."""
    if path == "/v1/responses":
        docs = [json.loads(payload) for payload in payloads(body)] if stream else []
        doc = docs[-1]["response"] if stream else json.loads(body)
        assert not stream or [one["type"] for one in docs][-1] == "response.completed"
        return str(doc["output"][0]["content"][0]["text"])
    if path == "/v1/messages":
        if not stream:
            return str(json.loads(body)["content"][0]["text"])
        docs = [json.loads(payload) for payload in payloads(body)]
        assert docs[-1]["type"] == "message_stop"
        return "".join(one["delta"].get("text", "") for one in docs if one["type"] == "content_block_delta")
    docs = [json.loads(line) for line in body.splitlines()]
    assert docs[-1]["done"] is True
    return "".join(one["response"] if "response" in one else one["message"]["content"] for one in docs)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASKS)
async def test_a_wrong_answer_is_asked_for_again(make: Callable[..., Awaitable[Stand]], path, stream):
    """The model is told what was wrong, in its own language, and the caller sees the right answer alone."""
    make_answer, kind = ASKS[path][1:]
    answers = [json.dumps(make_answer(text)).encode() for text in (BAD, GOOD)]
    async with Script(*answers) as server:
        stand = await make(stand_in(server))
        answer = await ask(stand, path, stream=stream)
        assert (answer.status, said(answer.body, path, stream=stream)) == (200, GOOD)
        assert (answer.headers["X-Guardproxy-Json"], answer.headers["X-Guardproxy-Attempts"]) == ("retried", "2")
        assert answer.headers["Content-Type"] == (kind if stream else "application/json")
        assert "intensity" in json.dumps(server.asked[-1])
        assert len(json.dumps(server.asked[-1])) > len(json.dumps(server.asked[0]))
        again = await ask(stand, path, stream=stream)
        assert again.headers["Cache-Status"].startswith("guardproxy; hit")
        assert again.body == answer.body
        assert len(server.asked) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASKS)
async def test_a_fence_is_taken_off(make: Callable[..., Awaitable[Stand]], path, stream):
    """JSON that is there is found without asking again."""
    make_answer = ASKS[path][1]
    async with Script(json.dumps(make_answer(f"Here:\n```json\n{GOOD}\n```")).encode()) as server:
        stand = await make(stand_in(server))
        answer = await ask(stand, path, stream=stream)
        assert (answer.status, said(answer.body, path, stream=stream)) == (200, GOOD)
        assert answer.headers["X-Guardproxy-Json"] == "repaired"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ASKS)
async def test_when_all_else_fails(make: Callable[..., Awaitable[Stand]], path, stream):
    """The declared fallback comes as an answer of the language; without one there is an error in its words."""
    body, make_answer, _ = ASKS[path]
    del body
    async with Script(json.dumps(make_answer(BAD)).encode()) as server:
        brief = {"schema": SCHEMA, "fallback": json.loads(GOOD)}
        guard = {"max_retries": 1, "schemas": {"brief": brief}}
        stand = await make(stand_in(server, json_guard=guard))
        answer = await ask(stand, path, stream=stream, **{"X-Guardproxy-Schema": "brief"})
        assert answer.headers["X-Guardproxy-Json"] == "fallback"
        assert json.loads(said(answer.body, path, stream=stream)) == json.loads(GOOD)
        answer = await ask(stand, path, stream=stream)
        error = answer.json()["error"]
        assert answer.status == 502
        assert (answer.json() if path.startswith("/api") else error)["code"] == "invalid_model_output"
        assert isinstance(error, str) is path.startswith("/api")
        assert ("type" in answer.json()) is (path == "/v1/messages")


@pytest.mark.parametrize("path", ASKS)
async def test_a_real_stream_passes_byte_for_byte(make: Callable[..., Awaitable[Stand]], path):
    """Nothing is asked of it, so nothing is touched; and it is kept where it ended of itself."""
    body: dict[str, Any] = {
        name: value for name, value in ASKS[path][0].items() if name not in ("text", "output_config", "format")
    }
    bytes_ = {
        "/v1/responses": (REAL / "llamacpp_responses.sse").read_bytes(),
        "/v1/messages": (REAL / "llamacpp_messages.sse").read_bytes(),
    }.get(path) or b"".join(
        json.dumps({**ASKS[path][1](word), "done": word == "."}).encode() + b"\n" for word in ("a", "b", ".")
    )
    async with Script(whole(bytes_, kind=ASKS[path][2])) as server:
        stand = await make(stand_in(server))
        asked = {"model": "llama", **body, "stream": True}
        first = await stand.ask("POST", path, json=asked)
        second = await stand.ask("POST", path, json=asked)
        assert first.body == second.body == bytes_
        cut = path == "/v1/messages"  # it says that it ended at max_tokens
        assert second.headers["Cache-Status"].startswith("guardproxy; fwd=miss" if cut else "guardproxy; hit")


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("path", ASKS)
async def test_what_is_kept_serves_both_kinds(make: Callable[..., Awaitable[Stand]], path, first):
    """An answer that came in one piece is told as a stream to who wants one, and the other way round."""
    make_answer = ASKS[path][1]
    async with Script(json.dumps(make_answer(GOOD)).encode()) as server:
        stand = await make(stand_in(server))
        one = await ask(stand, path, stream=first)
        other = await ask(stand, path, stream=not first)
        assert said(one.body, path, stream=first) == said(other.body, path, stream=not first) == GOOD
        assert other.headers["Cache-Status"].startswith("guardproxy; hit")
        assert other.headers["Content-Type"] == ("application/json" if first else ASKS[path][2])
        assert len(server.asked) == 1


@pytest.mark.parametrize("path", ASKS)
async def test_a_stream_that_breaks_off_says_so(make: Callable[..., Awaitable[Stand]], path):
    """In the language of the stream, which is then visibly unfinished; and it counts against the upstream."""
    make_answer, kind = ASKS[path][1:]
    start = {
        "/v1/responses": b'data: {"type":"response.output_text.delta","delta":"a"}\n\n',
        "/v1/messages": b'data: {"type":"content_block_start","index":0}\n\n',
    }.get(path, json.dumps({**make_answer("a"), "done": False}).encode() + b"\n")
    asked = free(path)
    async with Script(whole(start, kind=kind)) as server:
        stand = await make(stand_in(server))
        answer = await stand.ask("POST", path, json={"model": "llama", **asked, "stream": True}, headers=NEVER)
        assert answer.cut
        rest = answer.body.removeprefix(start)
        (payload,) = payloads(rest) if kind == EVENTS else rest.splitlines()
        told = json.loads(payload)
        error = told if kind == LINES else told["error"]
        assert error["code"] == "upstream_stream_interrupted"
        assert rest.startswith(b"event: error\n") is (kind == EVENTS)
        assert await stand.metric('llm_request_failures_total{model="llama"}') == 1


async def test_what_has_begun_is_no_answer_yet(make: Callable[..., Awaitable[Stand]]):
    """Until the model has said something, another one may be asked, unseen."""
    begun = b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
    async with Script(whole(begun, kind=EVENTS)) as dead, Script(json.dumps(response("well")).encode()) as well:
        upstreams = {"llama": {"url": dead.url}, "mistral": {"url": well.url}}
        stand = await make({"upstreams": upstreams})
        answer = await stand.ask("POST", "/v1/responses", json={"model": "creative", "input": "x", "stream": True})
        assert answer.headers["X-Guardproxy-Upstream"] == "mistral"
        assert json.loads(answer.body) == response("well")


async def test_errors_of_ours_are_in_the_callers_words(stand: Stand):
    """Ollama reads a text, Anthropic its type, everybody the code."""
    for path in ASKS:
        answer = await stand.ask("POST", path, json={"model": "nobody"})
        assert answer.status == 404
        doc = answer.json()
        assert (doc if path.startswith("/api") else doc["error"])["code"] == "model_not_found"
    answer = await stand.ask(
        "POST", "/v1/messages", json={"model": "llama"}, headers={"Cache-Control": "only-if-cached"}
    )
    assert (answer.status, answer.json()["type"], answer.json()["error"]["code"]) == (504, "error", "not_cached")
