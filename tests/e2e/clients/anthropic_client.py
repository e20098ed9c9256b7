"""anthropic-python, on the messages API that the model servers have too."""

from __future__ import annotations

import anthropic
from rows import ASK, BASE, KEY, Rows, sent

MESSAGES = [{"role": "user", "content": ASK}]
client = anthropic.Anthropic(base_url=BASE, api_key=KEY)
rows = Rows()


@rows.does("chat")
def _() -> None:
    answer = client.messages.create(model="creative", messages=MESSAGES, max_tokens=20)
    assert answer.content[0].text
    assert answer.usage.output_tokens


@rows.does("stream")
def _() -> None:
    with client.messages.stream(model="balanced", messages=MESSAGES, max_tokens=20) as told:
        assert "".join(told.text_stream)
        assert told.get_final_message().stop_reason


@rows.does("async")
async def _() -> None:
    async with anthropic.AsyncAnthropic(base_url=BASE, api_key=KEY) as other:
        assert (await other.messages.create(model="qwen", messages=MESSAGES, max_tokens=20)).content


@rows.does("headers")
def _() -> None:
    raw = client.messages.with_raw_response.create(model="creative", messages=MESSAGES, max_tokens=5)
    assert raw.headers["X-Guardproxy-Upstream"] == "llama"


for row in ("structured", "structured stream", "tools"):
    rows.lacks(row, "llama.cpp's messages API enforces neither schemas nor tools")
rows.lacks("choices", "the API has one")
rows.lacks("responses", "another API")
rows.lacks("models", "the list is OpenAI's")


@rows.does("error")
def _() -> None:
    try:
        client.messages.create(model="nobody", messages=MESSAGES, max_tokens=20)
    except anthropic.NotFoundError as error:
        assert error.body["error"]["code"] == "model_not_found"  # noqa: PT017 -- no pytest here
    else:
        raise AssertionError("no error")


@rows.does("gives up")
def _() -> None:
    before = sent("dead")
    try:
        client.messages.create(model="dead", messages=MESSAGES, max_tokens=20)
    except anthropic.InternalServerError:
        assert sent("dead") == before + 1
    else:
        raise AssertionError("no error")


rows.tell()
