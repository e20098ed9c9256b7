"""JSON that others read otherwise, or not at all: 400 from an app, the next rung from a model, never 500."""

from __future__ import annotations

import json

import pytest

from tests.app.stand import CHAT, FALLBACK, NEVER, SCHEMA, Replay, asking, request, whole

DEEP = 100_000
ROWS = {
    "a duplicate key": b'{"name": "x", "intensity": 1, "intensity": 2}',
    "NaN": b'{"name": "x", "intensity": NaN}',
    "Infinity": b'{"name": "x", "intensity": Infinity}',
    "minus Infinity": b'{"name": "x", "intensity": -Infinity}',
    "a lone surrogate": b'{"name": "\\ud800", "intensity": 1}',
    "a lone low surrogate": b'{"name": "\\udc00 x", "intensity": 1}',
    "no UTF-8": b'{"name": "\xff\xfe", "intensity": 1}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80", "intensity": 1}',
    "too deep": b'{"name": "x", "intensity": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "deep and never closed": b'{"name": "x", "intensity": ' + b'{"a":' * DEEP,
    "a number of 5,000 digits": b'{"name": "x", "intensity": ' + b"9" * 5_000 + b"}",
    "a fraction of 5,000 digits": b'{"name": "x", "intensity": ' + b"9" * 5_000 + b".5}",
    "an exponent beyond all": b'{"name": "x", "intensity": 1e999999999}',
    "a leading zero": b'{"name": "x", "intensity": 01}',
    "a hexadecimal number": b'{"name": "x", "intensity": 0x1}',
    "a comment": b'{"name": "x", /* no */ "intensity": 1}',
    "a control character": b'{"name": "\x01", "intensity": 1}',
    "nothing": b"",
    "blanks": b" \n" * 1000,
    "two documents": b'{"name": "x", "intensity": 1}{"name": "y", "intensity": 2}',
}
MENDED = {"a comment", "a control character"}
"""What is meant by it is plain: it is mended, or not, but never passed on as it is."""
FITS = {"an exponent beyond all"}
"""A number that JSON allows: in a request it is between the app and the model."""
SPOILED = {"no UTF-8", "a surrogate in UTF-8"}
"""Here these have become replacement characters, which are as good as any."""


def strict(text):
    """Read JSON as the strictest reader does."""

    def pairs(items):
        assert len({name for name, _ in items}) == len(items)
        return dict(items)

    return json.loads(text, object_pairs_hook=pairs, parse_constant=pytest.fail)


@pytest.mark.parametrize("row", ROWS)
async def test_in_a_request(make, row):
    """400 `invalid_json`, in an envelope, before anybody is asked; and the proxy goes on."""
    stand = await make()
    body = b'{"model": "llama", "messages": [], "x": ' + ROWS[row] + b"}"
    received, end = await stand.raw(request(body))
    status, envelope = received.split(b" ", 2)[1], received.partition(b"\r\n\r\n")[2]
    if row in FITS:
        assert ROWS[row] in stand.sims["llama"].memory.requests[-1].raw  # what the model server makes of it is its own
    else:
        assert (status, json.loads(envelope)["error"]["code"], end) == (b"400", "invalid_json", "fin")
        assert stand.asked("llama") == 0
    assert (await stand.chat()).status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("row", ROWS)
async def test_in_what_a_model_says(make, row, stream):
    """It is not valid: mended where what was meant is plain, else the declared fallback; the upstream is well."""
    text = ROWS[row].decode("utf-8", "replace")
    message = {"role": "assistant", "content": text}
    if stream:
        choice = {"index": 0, "delta": message, "finish_reason": "stop"}
        bytes_ = f"data: {json.dumps({'id': 'c', 'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
        answer_bytes = whole(bytes_, kind="text/event-stream")
    else:
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer_bytes = whole(json.dumps({"id": "c", "choices": [choice]}).encode())
    async with Replay(answer_bytes) as server:
        schemas = {"scent": {"schema": SCHEMA, "fallback": FALLBACK}}
        stand = await make({"upstreams": {"llama": {"url": server.url}}, "json_guard": {"schemas": schemas}})
        answer = await stand.chat(headers={"X-Guardproxy-Schema": "scent", **NEVER}, stream=stream)
        assert answer.status == 200
        label = answer.headers["X-Guardproxy-Json"]
        said = strict(answer.said if stream else answer.content)
        if row in SPOILED:
            assert label == "valid"
        elif label == "repaired":
            assert row in MENDED
        else:
            assert (label, said) == ("fallback", FALLBACK)
        assert await stand.circuit("llama") == "closed"


@pytest.mark.parametrize("row", ROWS)
async def test_in_the_arguments_of_a_tool(make, row):
    """What is given to a tool is read as strictly as what is said."""
    function = {"name": "pick", "arguments": ROWS[row].decode("utf-8", "replace") or "3"}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    async with Replay(whole(json.dumps({"id": "c", "choices": [choice]}).encode())) as server:
        guard = {"json_guard": {"max_retries": 0}}
        stand = await make({"upstreams": {"llama": {"url": server.url}}, **guard})
        tool = {"type": "function", "function": {"name": "pick", "parameters": SCHEMA}}
        answer = await stand.chat(headers=NEVER, tools=[tool])
        if answer.status == 200:
            assert row in MENDED or row in SPOILED
            strict(answer.json()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
        else:
            assert (answer.status, answer.code) == (502, "invalid_model_output")


@pytest.mark.parametrize("row", ROWS)
async def test_in_the_answer_itself(make, row):
    """A body that is no strict JSON is no answer: 502 `upstream_protocol`."""
    body = b'{"choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}], "x": ' + ROWS[row] + b"}"
    async with Replay(whole(body)) as server:
        stand = await make({"upstreams": {"llama": {"url": server.url}}, "retry": {"attempts": 0}})
        answer = await stand.ask("POST", CHAT, json=asking(), headers=NEVER)
        if row in FITS:
            assert (answer.status, answer.body) == (200, body)
        else:
            assert (answer.status, answer.code) == (502, "upstream_protocol")
