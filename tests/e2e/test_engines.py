"""The proxy before real model servers that are killed, stopped, started again, and hung up on."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from guardproxy.openai.events import payloads
from tests.e2e.cast import Proxy, fetch, proxy, until
from tests.e2e.conftest import calling, upstreams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.cast import Engine

pytestmark = pytest.mark.timeout(300)

SHORT: dict[str, Any] = {
    "timeouts": {"connect": 1, "first_token": 2, "stall": 2, "total": 20},
    "circuit_breaker": {"timeout": 1, "success_threshold": 1, "minimum_requests": 3},
    "downshift": {"recovery_seconds": 0.5, "dwell_seconds": 0, "forward": False},
    "health": {"interval": 1, "timeout": 2},
    "json_guard": {"backoff_base": 0.01, "jitter": 0.01, "max_retries": 2},
    "cache": {"enabled": False},
    "retry": {"budget": 1.0},
    "drain": {"idle_seconds": 0.1},
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
ASKED = {"type": "json_schema", "json_schema": {"name": "thing", "strict": True, "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
LONG = 3500
"""Tokens that the slow model writes for some seconds."""
WRONG = 'root ::= "{\\"name\\":\\"x\\",\\"n\\":\\"much\\"}"'
FENCED = 'root ::= "Sure!\\n```json\\n{\\"name\\":\\"x\\",\\"n\\":1}\\n```"'
"""Grammars: what they say is what the model says, however it was trained."""


@pytest.fixture
def run(engines: dict[str, Engine], tmp_path: Path) -> Callable[..., Any]:
    def run(**more: Any) -> Any:
        return proxy({**SHORT, "upstreams": upstreams(engines), **more}, tmp_path)

    return run


def fits(text: str) -> bool:
    doc = json.loads(text)
    return set(doc) == {"name", "n"} and isinstance(doc["n"], int) and isinstance(doc["name"], str)


def text(doc: dict[str, Any]) -> str:
    return str(doc["choices"][0]["message"]["content"])


def stream(one: Proxy, path: str = "/v1/chat/completions", **doc: Any) -> list[Any]:
    """The events of a stream, read to its end."""
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, **doc, "stream": True}
    body = fetch(one.app + path, asked)[2].encode()
    return [json.loads(payload) for payload in payloads(body) if payload != b"[DONE]"]


def test_all_that_an_answer_can_hold(run):
    """Usage, log probabilities, several choices, streams of them: as the server gives them, through each model."""
    with run() as one:
        for name in ("qwen", "mistral", "llama"):
            status, headers, doc = one.chat(model=name, n=2, logprobs=True, top_logprobs=2)
            assert (status, headers["X-Guardproxy-Upstream"], len(doc["choices"])) == (200, name, 2)
            assert doc["usage"]["completion_tokens"] > 0
            assert doc["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
            events = stream(one, model=name, stream_options={"include_usage": True})
            assert events[-1]["usage"]["completion_tokens"] > 0
            assert any(choice["finish_reason"] for event in events for choice in event["choices"])
        assert one.metric('llm_requests_total{model="qwen"}') == 2
        status, _, _ = one.chat(model="creative")
        assert status == 200


def test_other_apis_of_the_same_server(run):
    """Responses, messages, completions and tokenize; what it cannot do it says itself."""
    with run() as one:
        status, _, told = fetch(f"{one.app}/v1/responses", {"model": "qwen", "input": "hi", "max_output_tokens": 9})
        assert (status, json.loads(told)["object"]) == (200, "response")
        asked = {"model": "mistral", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        status, headers, told = fetch(f"{one.app}/v1/messages", asked)
        assert (status, json.loads(told)["type"], headers["X-Guardproxy-Upstream"]) == (200, "message", "mistral")
        kinds = [event["type"] for event in stream(one, "/v1/messages", model="llama")]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
        status, _, told = fetch(f"{one.app}/v1/completions", {"model": "qwen", "prompt": "hi", "max_tokens": 5})
        assert (status, json.loads(told)["object"]) == (200, "text_completion")
        assert fetch(f"{one.app}/qwen/tokenize", {"content": "hello world"})[0] == 200
        status, _, told = fetch(f"{one.app}/v1/embeddings", {"model": "qwen", "input": "hi"})
        assert (status, json.loads(told)["error"]["type"]) == (501, "not_supported_error")
        models = {model["id"] for model in json.loads(fetch(f"{one.app}/v1/models")[2])["data"]}
        assert {"qwen", "mistral", "llama", "creative", "balanced", "fast"} <= models


@pytest.mark.parametrize("streams", [False, True])
def test_structured_output_that_the_server_enforces(run, streams):
    """What a grammar made valid is left as it is, whole or streamed, from each model."""
    with run() as one:
        for name in ("qwen", "mistral", "llama"):
            if streams:
                events = stream(one, model=name, response_format=ASKED, max_tokens=300)
                deltas = (choice["delta"].get("content") or "" for event in events for choice in event["choices"])
                assert fits("".join(deltas))
                continue
            status, headers, doc = one.chat(model=name, response_format=ASKED, max_tokens=300)
            assert (status, headers["X-Guardproxy-Json"], headers["X-Guardproxy-Attempts"]) == (200, "valid", "1")
            assert fits(text(doc))


def test_structured_output_that_nobody_enforces(run):
    """The server is not told of the schema: what can be mended is, what cannot is asked for again, then replaced."""
    brief = {"schema": SCHEMA, "fallback": {"name": "none", "n": 0}}
    named = {"X-Guardproxy-Schema": "brief"}
    with run(json_guard={**SHORT["json_guard"], "schemas": {"brief": brief}}) as one:
        status, headers, doc = one.chat(model="qwen", grammar=FENCED, headers=named)
        assert (status, headers["X-Guardproxy-Json"], json.loads(text(doc))) == (200, "repaired", {"name": "x", "n": 1})
        status, headers, doc = one.chat(model="mistral", grammar=WRONG, headers=named)
        assert (headers["X-Guardproxy-Json"], headers["X-Guardproxy-Attempts"]) == ("fallback", "3")
        assert json.loads(text(doc)) == {"name": "none", "n": 0}
        # of its own free will the model says noise: it is hung up on, asked again, and replaced
        status, headers, doc = one.chat(model="llama", headers=named)
        assert (status, headers["X-Guardproxy-Json"], json.loads(text(doc))["n"]) == (200, "fallback", 0)
        # llama.cpp ignores `text.format` in its own Responses API
        asked: dict[str, Any] = {"model": "qwen", "input": "hi", "max_output_tokens": 30}
        asked["text"] = {"format": {"type": "json_schema", "name": "brief", "schema": SCHEMA}}
        status, headers, told = fetch(f"{one.app}/v1/responses", asked)
        assert (status, headers["X-Guardproxy-Json"]) == (200, "fallback"), told
        assert json.loads(json.loads(told)["output"][0]["content"][0]["text"]) == {"name": "none", "n": 0}
        # and has no word for one in its messages API
        asked = {"model": "llama", "max_tokens": 30, "messages": [{"role": "user", "content": "hi"}]}
        for streams in (False, True):
            status, headers, told = fetch(f"{one.app}/v1/messages", {**asked, "stream": streams}, **named)
            assert (status, headers["X-Guardproxy-Json"]) == (200, "fallback")
            assert ("event: message_stop" in told) is streams


@pytest.mark.parametrize("streams", [False, True])
def test_tools(run, engines, streams):
    """A real call of a tool, whose arguments are held against the tool's parameters."""
    asked: dict[str, Any] = {"tools": [TOOL], "logit_bias": calling(engines["qwen"]), "max_tokens": 120}
    with run() as one:
        if streams:
            deltas = [event["choices"][0]["delta"] for event in stream(one, model="qwen", **asked) if event["choices"]]
            functions = [call["function"] for delta in deltas for call in delta.get("tool_calls", ())]
            assert functions[0]["name"] == "look"
            arguments = "".join(function.get("arguments", "") for function in functions)
        else:
            status, headers, doc = one.chat(model="qwen", **asked)
            assert (status, headers["X-Guardproxy-Json"]) == (200, "valid")
            (call,) = doc["choices"][0]["message"]["tool_calls"]
            arguments = call["function"]["arguments"]
        assert fits(arguments)


def test_a_tool_call_that_is_cut(run, engines):
    """It has no room for its arguments: asked again with more, as often as there is more."""
    asked: dict[str, Any] = {"tools": [TOOL], "logit_bias": calling(engines["qwen"]), "max_tokens": 20}
    with run() as one:
        status, headers, doc = one.chat(model="qwen", **asked)
        assert (status, headers["X-Guardproxy-Json"], headers["X-Guardproxy-Attempts"]) == (200, "retried", "2")
        (call,) = doc["choices"][0]["message"]["tool_calls"]
        assert fits(call["function"]["arguments"])


class Load:
    """Callers that ask for `creative` without a pause, until told to stop."""

    def __init__(self, one: Proxy, callers: int = 4) -> None:
        self.answers: list[tuple[int, str]] = []
        self._one = one
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(callers)
        self._callers = [self._pool.submit(self._call) for _ in range(callers)]

    def _call(self) -> None:
        while not self._over.is_set():
            status, headers, _ = self._one.chat(model="creative")
            self.answers.append((status, str(headers["X-Guardproxy-Upstream"])))

    def more(self, count: int = 20) -> list[tuple[int, str]]:
        """Wait for so many more answers; answers them."""
        start = len(self.answers)
        until(lambda: len(self.answers) >= start + count, f"{count} more answers")
        return self.answers[start:]

    def stop(self) -> None:
        self._over.set()
        for caller in self._callers:
            caller.result()
        self._pool.shutdown()


def test_a_server_is_killed_under_load_and_comes_back(run, engines):
    """No caller sees it; the circuit opens, calls move down a mode, and up again when the server is back."""
    with run() as one:
        until(one.healthy, "all models are healthy")
        load = Load(one)
        assert {upstream for _, upstream in load.more()} == {"llama"}
        engines["llama"].kill()
        until(lambda: one.circuit("llama") == "open", "the circuit of llama is open")
        assert {upstream for _, upstream in load.more()} == {"mistral"}
        assert one.metric('llm_mode_downshift_total{from="creative",to="balanced"}') == 1
        engines["llama"].start()
        until(lambda: one.circuit("llama") == "closed", "the circuit of llama is closed")
        until(lambda: {upstream for _, upstream in load.more(8)} == {"llama"}, "calls go to llama again")
        load.stop()
        assert {status for status, _ in load.answers} == {200}


def test_a_server_is_stopped_and_goes_on(run, engines):
    """It accepts, and says nothing: streams are answered by another model, and nobody waits longer than he must."""
    with run() as one:
        until(one.healthy, "all models are healthy")
        engines["llama"].signal(signal.SIGSTOP)
        try:
            started = time.monotonic()
            for _ in range(3):
                assert stream(one, model="creative")
            assert time.monotonic() - started < 40
            until(lambda: one.circuit("llama") == "open", "the circuit of llama is open")
            status, headers, _ = one.chat(model="creative")
            assert (status, headers["X-Guardproxy-Upstream"]) == (200, "mistral")
        finally:
            engines["llama"].signal(signal.SIGCONT)
        until(lambda: one.circuit("llama") == "closed", "the circuit of llama is closed")
        until(lambda: one.chat(model="creative")[1]["X-Guardproxy-Upstream"] == "llama", "calls go to llama again")


def test_a_stream_breaks_off_in_the_middle(slow, tmp_path):
    """The caller is told in the stream, which is then visibly unfinished."""
    with proxy({**SHORT, "upstreams": {"slow": {"url": slow.url}}, "modes": {}}, tmp_path) as one:
        with _begin(one) as response:
            assert response.read(10)
            slow.kill()
            with pytest.raises(http.client.IncompleteRead) as cut:
                response.read()
        assert b"upstream_stream_interrupted" in cut.value.partial
        assert b"[DONE]" not in cut.value.partial
        assert one.metric('llm_request_failures_total{model="slow"}') == 1


def test_who_hangs_up_frees_the_slot(slow, tmp_path):
    """The model stops generating for a caller who has left: its slot is free long before the answer would end."""
    with proxy({**SHORT, "upstreams": {"slow": {"url": slow.url}}, "modes": {}}, tmp_path) as one:
        with _begin(one) as response:
            assert response.read(10)
            assert slow.busy() == 1
        until(lambda: slow.busy() == 0, "the slot is free", 10)
        (written,) = re.findall(
            r"^llamacpp:tokens_predicted_total (\S+)", fetch(f"{slow.url}/metrics")[2], re.MULTILINE
        )
        assert float(written) < LONG
        assert one.circuit("slow") == "closed"


@contextlib.contextmanager
def _begin(one: Proxy) -> Iterator[http.client.HTTPResponse]:
    """Ask for a long answer, and hang up in the end."""
    connection = http.client.HTTPConnection(one.app.removeprefix("http://"), timeout=30)
    asked = {"model": "slow", "messages": [{"role": "user", "content": "hi"}], "max_tokens": LONG, "ignore_eos": True}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps({**asked, "stream": True}), headers)
    with contextlib.closing(connection), connection.getresponse() as response:
        yield response
