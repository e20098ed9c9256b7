"""curl, as the README has it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from rows import ASK, SCHEMA, URL, Rows, fits, sent

rows = Rows()


def curl(path: str, doc: Any = None, *more: str) -> str:
    body = [] if doc is None else ["-H", "Content-Type: application/json", "-d", json.dumps(doc)]
    done = subprocess.run(
        ["curl", "-sS", "-N", "-m", "60", *more, *body, URL + path], capture_output=True, text=True, check=True
    )
    return done.stdout


def chat(model: str, *more: str, **fields: Any) -> str:
    asked = {"model": model, "messages": [{"role": "user", "content": ASK}], "max_tokens": 20, **fields}
    return curl("/chat/completions", asked, *more)


FORMAT = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}


@rows.does("chat")
def _() -> None:
    doc = json.loads(chat("creative"))
    assert doc["choices"][0]["message"]["content"]
    assert doc["usage"]["completion_tokens"]


@rows.does("stream")
def _() -> None:
    assert chat("balanced", stream=True).endswith("data: [DONE]\n\n")


@rows.does("structured")
def _() -> None:
    fits(json.loads(chat("fast", max_tokens=300, response_format=FORMAT))["choices"][0]["message"]["content"])


@rows.does("structured stream")
def _() -> None:
    lines = chat("llama", max_tokens=300, response_format=FORMAT, stream=True).splitlines()
    docs = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    fits("".join(doc["choices"][0]["delta"].get("content") or "" for doc in docs if doc["choices"]))


@rows.does("tools")
def _() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
    doc = json.loads(chat("caller", tools=[tool], max_tokens=120))
    for call in doc["choices"][0]["message"]["tool_calls"]:
        fits(call["function"]["arguments"])


rows.lacks("async", "it is a command")


@rows.does("responses")
def _() -> None:
    asked = {"model": "mistral", "input": ASK, "max_output_tokens": 20}
    assert json.loads(curl("/responses", asked))["status"] == "completed"
    assert "event: response.completed" in curl("/responses", {**asked, "stream": True})


@rows.does("headers")
def _() -> None:
    assert "x-guardproxy-upstream: llama" in chat("creative", "-i").lower()


@rows.does("choices")
def _() -> None:
    assert len(json.loads(chat("qwen", n=2, logprobs=True))["choices"]) == 2


@rows.does("models")
def _() -> None:
    assert {"creative", "qwen"} <= {model["id"] for model in json.loads(curl("/models"))["data"]}


@rows.does("error")
def _() -> None:
    assert json.loads(chat("nobody"))["error"]["code"] == "model_not_found"


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    assert "x-should-retry: false" in chat("dead", "-i").lower()
    assert sent("dead") == before + 1


rows.tell()
