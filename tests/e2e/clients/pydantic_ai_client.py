"""pydantic-ai: agents with an OpenAI-compatible provider."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from rows import ASK, KEY, URL, Rows, sent

rows = Rows()
provider = OpenAIProvider(base_url=URL, api_key=KEY)


class Thing(BaseModel):
    """A thing."""

    name: str = Field(max_length=20)
    n: int = Field(ge=0, le=9)


def agent(name: str, output: Any = str, tokens: int = 20) -> Agent[None, Any]:
    return Agent(OpenAIChatModel(name, provider=provider), output_type=output, model_settings={"max_tokens": tokens})


@rows.does("chat")
def _() -> None:
    answer = agent("creative").run_sync(ASK)
    assert answer.output
    assert answer.usage.output_tokens if not callable(answer.usage) else answer.usage().output_tokens


@rows.does("stream")
async def _() -> None:
    async with agent("balanced").run_stream(ASK) as answer:
        assert [text async for text in answer.stream_text()][-1]


@rows.does("structured")
def _() -> None:
    assert isinstance(agent("fast", NativeOutput(Thing), 300).run_sync(ASK).output, Thing)


@rows.does("structured stream")
async def _() -> None:
    async with agent("llama", NativeOutput(Thing), 300).run_stream(ASK) as answer:
        assert isinstance([thing async for thing in answer.stream_output()][-1], Thing)


@rows.does("tools")
def _() -> None:
    assert isinstance(agent("caller", ToolOutput(Thing), 120).run_sync(ASK).output, Thing)


@rows.does("async")
async def _() -> None:
    assert (await agent("qwen").run(ASK)).output


@rows.does("responses")
def _() -> None:
    model = OpenAIResponsesModel("mistral", provider=provider)
    assert Agent(model, model_settings={"max_tokens": 20}).run_sync(ASK).output


rows.lacks("headers", "it does not show them")
rows.lacks("choices", "it takes one")
rows.lacks("models", "it has no call for the list")


@rows.does("error")
def _() -> None:
    try:
        agent("nobody").run_sync(ASK)
    except ModelHTTPError as error:
        assert error.status_code == 404  # noqa: PT017 -- no pytest here
    else:
        raise AssertionError("no error")


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    try:
        agent("dead").run_sync(ASK)
    except ModelHTTPError:
        assert sent("dead") == before + 1
    else:
        raise AssertionError("no error")


rows.tell()
