"""Through the whole proxy: what is valid passes untouched, and nothing else ever does."""

from __future__ import annotations

import json
import random

import pytest
from aiohttp import web

from tests.app.stand import NEVER
from tests.core.public import published, spoiled
from tests.core.schemas import corpus, spelled
from tests.openai.test_judge_corpus import OPEN, second, uses

SCHEMAS = 60
"""Published ones that are asked about in each shape; the corpus by hand comes on top."""


async def echo(request):
    """A model that says, whole or as events, what it was told to say."""
    doc = await request.json()
    said = doc["messages"][0]["content"]
    if not doc.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        return web.json_response({"id": "c", "object": "chat.completion", "choices": [choice]})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for start in range(0, len(said), 5):
        choice = {"index": 0, "delta": {"content": said[start : start + 5]}, "finish_reason": None}
        await response.write(b"data: " + json.dumps({"id": "c", "choices": [choice]}).encode() + b"\n\n")
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    await response.write(b"data: " + json.dumps({"id": "c", "choices": [last]}).encode() + b"\n\ndata: [DONE]\n\n")
    return response


@pytest.fixture
async def model():
    app = web.Application()
    app.router.add_post("/v1/chat/completions", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def cases(dice):
    """Schemas with documents, and whether these are valid."""
    for case in corpus():
        yield from ((case["schema"], one, True) for one in case["valid"])
        yield from ((case["schema"], one, False) for one in case["invalid"])
    for _ in range(SCHEMAS):
        schema, value = published(dice)
        yield schema, value, True
        for document in (spoiled(value, dice), spoiled(value, dice)):
            if not uses(schema, OPEN):
                yield schema, document, second(schema).is_valid(document)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("early", [False, True])
async def test_no_false_verdict(make, model, early, stream):
    """Streamed or not, read along or not: 200 with the very text where it is valid, else 502."""
    guard = {"max_retries": 0, "early_abort": early, "repair": False}
    changes = {"upstreams": {"llama": {"url": model}}, "json_guard": guard, "cache": {"enabled": False}}
    stand = await make({**changes, "circuit_breaker": {"enabled": False}})
    dice = random.Random(20_27)
    counted = {True: 0, False: 0}
    for schema, document, valid in cases(dice):
        text = spelled(document, dice)
        asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        answer = await stand.chat(text, response_format=asked, stream=stream, headers=NEVER)
        where = (schema, document, answer.text[:300])
        assert answer.status == (200 if valid else 502), where
        if valid:
            assert (answer.said if stream else answer.content) == text, where
            assert answer.headers["X-Guardproxy-Json"] == "valid", where
        else:
            assert answer.code == "invalid_model_output", where
        counted[valid] += 1
    assert min(counted.values()) > 150
