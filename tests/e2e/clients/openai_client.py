"""openai-python, synchronous and asynchronous: the calls of its README."""

from __future__ import annotations

import openai
from pydantic import BaseModel, Field
from rows import ASK, KEY, SCHEMA, URL, Rows, fits, sent

MESSAGES = [{"role": "user", "content": ASK}]
client = openai.OpenAI(base_url=URL, api_key=KEY)
rows = Rows()


class Thing(BaseModel):
    name: str = Field(max_length=20)
    n: int = Field(ge=0, le=9)


@rows.does("chat")
def _() -> None:
    answer = client.chat.completions.create(model="creative", messages=MESSAGES, max_tokens=20)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens


@rows.does("stream")
def _() -> None:
    stream = client.chat.completions.create(
        model="balanced", messages=MESSAGES, max_tokens=20, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[-1].usage.completion_tokens


@rows.does("structured")
def _() -> None:
    answer = client.chat.completions.parse(model="fast", messages=MESSAGES, max_tokens=300, response_format=Thing)
    assert isinstance(answer.choices[0].message.parsed, Thing)


@rows.does("structured stream")
def _() -> None:
    with client.chat.completions.stream(
        model="llama", messages=MESSAGES, max_tokens=300, response_format=Thing
    ) as told:
        assert isinstance(told.get_final_completion().choices[0].message.parsed, Thing)


@rows.does("tools")
def _() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}}
    answer = client.chat.completions.create(model="caller", messages=MESSAGES, tools=[tool])
    for call in answer.choices[0].message.tool_calls:
        fits(call.function.arguments)


@rows.does("async")
async def _() -> None:
    async with openai.AsyncOpenAI(base_url=URL, api_key=KEY) as other:
        stream = await other.chat.completions.create(model="qwen", messages=MESSAGES, max_tokens=20, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


@rows.does("responses")
def _() -> None:
    answer = client.responses.create(model="mistral", input=ASK, max_output_tokens=20)
    assert answer.output_text
    events = list(client.responses.create(model="mistral", input=ASK, max_output_tokens=20, stream=True))
    assert events[-1].type == "response.completed"


@rows.does("headers")
def _() -> None:
    raw = client.chat.completions.with_raw_response.create(model="creative", messages=MESSAGES, max_tokens=5)
    assert raw.headers["X-Guardproxy-Upstream"] == "llama"
    assert raw.parse().choices


@rows.does("choices")
def _() -> None:
    answer = client.chat.completions.create(model="qwen", messages=MESSAGES, max_tokens=5, n=2, logprobs=True)
    assert len(answer.choices) == 2
    assert answer.choices[1].logprobs.content


@rows.does("models")
def _() -> None:
    assert {"creative", "qwen"} <= {model.id for model in client.models.list()}


@rows.does("error")
def _() -> None:
    try:
        client.chat.completions.create(model="nobody", messages=MESSAGES)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"  # noqa: PT017 -- no pytest here
    else:
        raise AssertionError("no error")


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    try:
        client.chat.completions.create(model="dead", messages=MESSAGES)
    except openai.InternalServerError as error:
        assert error.code == "upstream_unreachable"  # noqa: PT017 -- as above
        assert sent("dead") == before + 1
    else:
        raise AssertionError("no error")


rows.tell()
