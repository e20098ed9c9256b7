"""langchain-openai: `ChatOpenAI`."""

from __future__ import annotations

import openai
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field
from rows import ASK, KEY, URL, Rows, sent

rows = Rows()


class Thing(BaseModel):
    """A thing."""

    name: str = Field(max_length=20)
    n: int = Field(ge=0, le=9)


def model(name: str, tokens: int = 20) -> ChatOpenAI:
    return ChatOpenAI(model=name, base_url=URL, api_key=KEY, max_tokens=tokens)


@rows.does("chat")
def _() -> None:
    answer = model("creative").invoke(ASK)
    assert answer.content
    assert answer.usage_metadata["output_tokens"]


@rows.does("stream")
def _() -> None:
    assert "".join(chunk.content for chunk in model("balanced").stream(ASK))


@rows.does("structured")
def _() -> None:
    assert isinstance(model("fast", 300).with_structured_output(Thing, method="json_schema").invoke(ASK), Thing)


@rows.does("structured stream")
def _() -> None:
    *_, last = model("llama", 300).with_structured_output(Thing, method="json_schema").stream(ASK)
    assert isinstance(last, Thing)


@rows.does("tools")
def _() -> None:
    @tool
    def look(name: str, n: int) -> str:
        """Look."""
        return f"{name} {n}"

    for call in model("caller", 120).bind_tools([look]).invoke(ASK).tool_calls:
        assert isinstance(call["args"]["n"], int)


@rows.does("async")
async def _() -> None:
    assert "".join([chunk.content async for chunk in model("qwen").astream(ASK)])


@rows.does("responses")
def _() -> None:
    other = ChatOpenAI(model="mistral", base_url=URL, api_key=KEY, use_responses_api=True, max_tokens=20)
    assert other.invoke(ASK).content


@rows.does("headers")
def _() -> None:
    one = ChatOpenAI(model="creative", base_url=URL, api_key=KEY, max_tokens=5, include_response_headers=True)
    headers = {name.lower(): value for name, value in one.invoke(ASK).response_metadata["headers"].items()}
    assert headers["x-guardproxy-upstream"] == "llama"


@rows.does("choices")
def _() -> None:
    answer = ChatOpenAI(model="qwen", base_url=URL, api_key=KEY, max_tokens=5, logprobs=True, n=2).generate(
        [[HumanMessage(ASK)]]
    )
    assert len(answer.generations[0]) == 2


rows.lacks("models", "it has no call for the list")


@rows.does("error")
def _() -> None:
    try:
        model("nobody").invoke(ASK)
    except openai.NotFoundError as error:
        assert error.code == "model_not_found"  # noqa: PT017 -- no pytest here
    else:
        raise AssertionError("no error")


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    try:
        model("dead").invoke(ASK)
    except openai.InternalServerError:
        assert sent("dead") == before + 1
    else:
        raise AssertionError("no error")


rows.tell()
