"""The LiteLLM SDK: `completion` with an OpenAI-compatible base URL."""

from __future__ import annotations

from typing import Any

import litellm
from pydantic import BaseModel, Field
from rows import ASK, KEY, SCHEMA, URL, Rows, fits, sent

MESSAGES = [{"role": "user", "content": ASK}]
rows = Rows()


class Thing(BaseModel):
    name: str = Field(max_length=20)
    n: int = Field(ge=0, le=9)


def ask(model: str, **more: Any) -> Any:
    asked: dict[str, Any] = {"max_tokens": 20, **more}
    return litellm.completion(model=f"openai/{model}", messages=MESSAGES, api_base=URL, api_key=KEY, **asked)


@rows.does("chat")
def _() -> None:
    answer = ask("creative")
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens


@rows.does("stream")
def _() -> None:
    assert "".join(chunk.choices[0].delta.content or "" for chunk in ask("balanced", stream=True) if chunk.choices)


@rows.does("structured")
def _() -> None:
    fits(ask("fast", max_tokens=300, response_format=Thing).choices[0].message.content)


@rows.does("structured stream")
def _() -> None:
    chunks = ask("llama", max_tokens=300, response_format=Thing, stream=True)
    fits("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))


@rows.does("tools")
def _() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
    for call in ask("caller", tools=[tool], max_tokens=120).choices[0].message.tool_calls:
        fits(call.function.arguments)


@rows.does("async")
async def _() -> None:
    stream = await litellm.acompletion(
        model="openai/qwen", messages=MESSAGES, api_base=URL, api_key=KEY, max_tokens=20, stream=True
    )
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@rows.does("responses")
def _() -> None:
    answer = litellm.responses(model="openai/mistral", input=ASK, api_base=URL, api_key=KEY, max_output_tokens=20)
    assert answer.output


@rows.does("headers")
def _() -> None:
    headers = ask("creative")._hidden_params["additional_headers"]
    assert headers["llm_provider-x-guardproxy-upstream"] == "llama"


@rows.does("choices")
def _() -> None:
    answer = ask("qwen", n=2, logprobs=True)
    assert len(answer.choices) == 2


rows.lacks("models", "it has no call for the list")


@rows.does("error")
def _() -> None:
    try:
        ask("nobody")
    except litellm.NotFoundError as error:
        assert "there is no model" in str(error)  # noqa: PT017 -- no pytest here
    else:
        raise AssertionError("no error")


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    try:
        ask("dead")
    except (litellm.InternalServerError, litellm.BadGatewayError):
        assert sent("dead") == before + 1
    else:
        raise AssertionError("no error")


rows.tell()
