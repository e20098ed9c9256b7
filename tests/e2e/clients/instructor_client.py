"""instructor: models of pydantic out of an OpenAI client."""

from __future__ import annotations

import instructor
import openai
from pydantic import BaseModel, Field
from rows import ASK, KEY, URL, Rows, sent

MESSAGES = [{"role": "user", "content": ASK}]
rows = Rows()


class Thing(BaseModel):
    """A thing."""

    name: str = Field(max_length=20)
    n: int = Field(ge=0, le=9)


def client(mode: instructor.Mode = instructor.Mode.JSON_SCHEMA) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=URL, api_key=KEY), mode=mode)


for row in ("chat", "stream", "choices", "headers", "models"):
    rows.lacks(row, "it asks for structured answers alone; the rest is the OpenAI client's")
rows.lacks("responses", "it asks for tools there, and the model's API enforces none")


@rows.does("structured")
def _() -> None:
    thing, raw = client().chat.completions.create_with_completion(
        model="fast", messages=MESSAGES, max_tokens=300, response_model=Thing
    )
    assert isinstance(thing, Thing)
    assert raw.usage.completion_tokens


@rows.does("structured stream")
def _() -> None:
    parts = client().chat.completions.create_partial(
        model="llama", messages=MESSAGES, max_tokens=300, response_model=Thing
    )
    *_, last = parts
    Thing.model_validate(last.model_dump())


@rows.does("tools")
def _() -> None:
    one = client(instructor.Mode.TOOLS)
    thing = one.chat.completions.create(
        model="caller", messages=MESSAGES, max_tokens=120, response_model=Thing, max_retries=0
    )
    assert isinstance(thing, Thing)


@rows.does("async")
async def _() -> None:
    one = instructor.from_openai(openai.AsyncOpenAI(base_url=URL, api_key=KEY), mode=instructor.Mode.JSON_SCHEMA)
    thing = await one.chat.completions.create(model="qwen", messages=MESSAGES, max_tokens=300, response_model=Thing)
    assert isinstance(thing, Thing)


@rows.does("error")
def _() -> None:
    try:
        client().chat.completions.create(model="nobody", messages=MESSAGES, response_model=Thing, max_retries=0)
    except Exception as error:  # noqa: BLE001 -- which class wraps it differs between its versions
        assert "model_not_found" in str(error) or "there is no model" in str(error)  # noqa: PT017 -- no pytest here
    else:
        raise AssertionError("no error")


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    try:
        client().chat.completions.create(model="dead", messages=MESSAGES, response_model=Thing, max_retries=0)
    except Exception:  # noqa: BLE001 -- as above
        assert sent("dead") == before + 1
    else:
        raise AssertionError("no error")


rows.tell()
