"""JSON that is none, means two things, or does not satisfy its schema: rows 67 to 77."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.faults.trial import NEVER, Trial, moved, says, turns
from tests.faults.wire import (
    DONE,
    LAST,
    STREAM,
    asking,
    chunk,
    completion,
    piece,
    whole,
)  # fmt: skip
from tests.net.raw import serve

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["name", "n"],
    "additionalProperties": False,
}
RIGHT = '{"name": "rose", "n": 1}'
FALLBACK = {"name": "quiet", "n": 0}
DECLARED = {"json_guard": {"schemas": {"scent": {"schema": SCHEMA, "fallback": FALLBACK}}}}
BAD_JSON = {
    "nothing": b"",
    "half": b'{"model": "llama", "messages": [',
    "text": b"hello",
    "100,000 deep": b'{"model":"llama","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": b'{"model":"\xff"}',
    "a comma too many": b'{"model":"llama",}',
}
TWO_WAYS = {
    "NaN": b'{"model":"llama","temperature":NaN}',
    "Infinity": b'{"model":"llama","temperature":-Infinity}',
    "equal keys": b'{"model":"llama","model":"qwen"}',
    "equal keys inside": b'{"model":"llama","x":{"a":1,"\\u0061":2}}',
    "a lone surrogate": b'{"model":"llama","user":"\\ud800"}',
}


def wants(schema, **more):
    return asking(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, **more)


@pytest.mark.row(67)
@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
async def test_a_body_that_is_no_json(body):
    """400 in an envelope, never a 500; nobody is asked."""
    async with Trial() as trial:
        async with trial.accounts(told={'guardproxy_errors_total{code="invalid_json"}': 1}):
            seen = await trial.ask(body)
        assert (seen.status, seen.error["code"]) == (400, "invalid_json")


@pytest.mark.row(68)
@pytest.mark.parametrize("body", TWO_WAYS.values(), ids=TWO_WAYS)
async def test_a_body_that_means_two_things(body):
    """What two readers could take differently is refused where it is read, and passes untouched where it is not."""
    async with Trial() as trial:
        async with trial.accounts():
            seen = await trial.ask(body)
        assert (seen.status, seen.error["code"]) == (400, "invalid_json")
        async with trial.accounts(llama=1):
            assert (await trial.ask(body, path="/llama/v1/other")).status == 200
        assert trial.llama.calls[-1].partition(b"\r\n\r\n")[2] in (body, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


@pytest.mark.row(68)
async def test_a_number_of_5000_digits():
    """A number beyond every reader's range is refused where it is read, and passes where it is not."""
    digits = b"7" * 5000
    body = json.dumps(asking(seed=0)).encode().replace(b'"seed": 0', b'"seed": ' + digits)
    async with Trial() as trial:
        async with trial.accounts():
            assert (await trial.ask(body)).error["code"] == "invalid_json"
        async with trial.accounts(llama=1):
            assert (await trial.ask(body, path="/llama/v1/other")).status == 200
        assert digits in trial.llama.calls[0]


SPOILT = {
    "NaN": '{"name": "rose", "n": NaN}',
    "equal keys": '{"name": "rose", "n": 1, "n": 2}',
    "a lone surrogate": '{"name": "\\ud800", "n": 1}',
    "100,000 deep": "[" * 100_000,
    "5000 digits": '{"name": "rose", "n": 1' + "0" * 5000 + ".5}",
    "half": '{"name": "ro',
    "another type": '{"name": "rose", "n": "many"}',
    "a key too many": '{"name": "rose", "n": 1, "x": 1}',
}


@pytest.mark.row(69)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", SPOILT.values(), ids=SPOILT)
async def test_a_model_that_says_such_things(text, *, stream):
    """It is asked again, told what was wrong; the circuit has nothing against it, the quality count has."""
    async with Trial() as trial:
        good, bad = completion(RIGHT), completion(text)
        answers = [whole(bad), whole(good)]
        if stream:
            answers = [STREAM + chunk(piece(said), piece("", "stop"), DONE) + LAST for said in (text, RIGHT)]
        trial.llama.play = turns(*(says(answer, then="keep") for answer in answers))
        told = {'llm_json_parse_failures_total{model="llama"}': 1, 'llm_requests_total{model="llama"}': 1}
        async with trial.accounts("SS", llama=2, kept=1, told=told):
            seen = await trial.ask(wants(SCHEMA, stream=stream), NEVER)
        assert (seen.status, seen.fields["x-guardproxy-json"]) == (200, "retried"), seen.wire[:500]
        assert not seen.cut
        if stream:
            said = [json.loads(data)["choices"] for data in seen.datas if data != b"[DONE]"]
            assert "".join(c[0]["delta"].get("content") or "" for c in said if c) == RIGHT
        else:
            assert seen.body == good


BAD_SCHEMAS = [
    (70, {"type": "objekt"}, "invalid_schema"),
    (70, {"$schema": 99, "type": "object"}, "invalid_schema"),
    (70, {"$schema": "https://json-schema.org/draft/2099-01/schema", "type": "object"}, "invalid_schema"),
    (70, {"$schema": "http://json-schema.org/draft-99/schema#", "type": "object"}, "invalid_schema"),
    (70, {"type": "object", "properties": 7}, "invalid_schema"),
    (70, {"pattern": "("}, "invalid_schema"),
    (72, {"$ref": "#"}, None),
    (72, {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, None),
    (
        72,
        {"$defs": {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(120)} | {"120": {}}, "$ref": "#/$defs/0"},
        "schema_too_deep",
    ),
]


@pytest.mark.parametrize("schema, code", [pytest.param(s, c, marks=pytest.mark.row(row)) for row, s, c in BAD_SCHEMAS])
async def test_a_schema_that_is_none(schema, code):
    """400 before anybody is asked; one that refers to itself for ever says nothing, and is refused as well."""
    async with Trial() as trial:
        async with trial.accounts():
            seen = await trial.ask(wants(schema), NEVER)
        assert seen.status == 400, seen.wire[:500]
        assert seen.error["code"] in ((code,) if code else ("invalid_schema", "schema_too_deep"))


@pytest.mark.row(73)
@pytest.mark.parametrize("key", ["$ref", "$schema", "$dynamicRef"])
@pytest.mark.parametrize("where", ["http", "file"])
async def test_a_schema_from_elsewhere(key, where, tmp_path):
    """A schema that refers outside itself is refused, and nothing outside is ever touched."""
    touched = []

    async def script(peer):
        touched.append(await peer.request())

    outside = tmp_path / "schema.json"
    outside.write_text('{"type": "object"}')
    async with serve(script) as raw, Trial() as trial:
        url = f"{raw.url}/schema.json" if where == "http" else outside.as_uri()
        schema = {key: url, "type": "object", "$defs": {"x": {"$ref": f"{url}#/x"}}, "properties": {"a": {"$ref": url}}}
        async with trial.accounts():
            seen = await trial.ask(wants(schema), NEVER)
        assert (seen.status, seen.error["code"]) == (400, "invalid_schema")
    assert not touched


@pytest.mark.row(73)
async def test_a_schema_with_a_name():
    """An `$id` is a name, not an address: nothing is fetched from there, and references to it stay inside."""
    touched = []

    async def script(peer):
        touched.append(await peer.request())

    async with serve(script) as raw, Trial() as trial:
        properties = {"name": {"type": "string"}, "n": {"$ref": "#/$defs/n"}}
        schema = {"$id": f"{raw.url}/x.json", **SCHEMA, "properties": properties, "$defs": {"n": {"type": "integer"}}}
        trial.llama.play = says(whole(completion(RIGHT)))
        async with trial.accounts("S", llama=1, kept=1):
            assert (await trial.ask(wants(schema), NEVER)).fields["x-guardproxy-json"] == "valid"
    assert not touched


def bush(depth: int) -> dict:
    """A schema whose errors double with every level."""
    schema: dict = {"type": "integer"}
    for _ in range(depth):
        schema = {"anyOf": [schema, {"type": "array", "items": schema}]}
    return schema


@pytest.mark.row(71)
@pytest.mark.parametrize(
    "schema, text",
    [
        ({"type": "string", "pattern": "^(a+)+$"}, json.dumps("a" * 40 + "!")),
        ({"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"}, json.dumps("a" * 5000)),
        (bush(9), json.dumps("x")),
        (bush(14), json.dumps("x")),
    ],
    ids=["ReDoS", "ReDoS-2", "anyOf", "anyOf-more"],
)  # fmt: skip
async def test_a_schema_that_takes_for_ever(schema, text):
    """Bounded in time, and meanwhile others are served."""
    async with Trial({"json_guard": {"max_retries": 1}}) as trial:
        trial.llama.play = says(whole(completion(text)), then="keep")
        started, before = time.monotonic(), await trial.books()
        call = asyncio.ensure_future(trial.ask(wants(schema), NEVER))
        longest = 0.0
        while not call.done():
            at = time.monotonic()
            assert (await trial.get("/healthz")).status == 200
            longest = max(longest, time.monotonic() - at)
        seen = await call
        assert seen.status in (400, 502), seen.wire[:300]
        assert seen.error["code"] in ("invalid_schema", "schema_too_deep", "invalid_model_output")
        after, asked = await trial.books(), len(trial.llama.calls)
        assert asked == (0 if seen.status == 400 else 2)  # refused before anybody is asked, or asked again once
        bad, all_ = (after.windows["llama"][n] - before.windows["llama"][n] for n in (0, 1))
        assert (bad, all_) == (0, asked)  # that nobody can judge it is no fault of the model's
        code = seen.error["code"]
        assert moved(before, after)[f'guardproxy_errors_total{{code="{code}"}}'] == 1
        assert longest < 10, longest  # a machine may be slow and busy; for ever is longer
        assert time.monotonic() - started < 10


@pytest.mark.row(74)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("most", [0, 2])
async def test_a_model_that_is_never_right(most, *, stream):
    """Exactly `max_retries` + 1 calls, then the declared fallback, else 502; the circuit has nothing against it."""
    for declared in (True, False):
        async with Trial(
            {"json_guard": {**(DECLARED["json_guard"] if declared else {}), "max_retries": most}}
        ) as trial:
            trial.llama.play = says(whole(completion("{}")), then="keep")
            told = {'llm_json_parse_failures_total{model="llama"}': most + 1}
            told |= {'llm_json_fallback_used_total{model="llama"}': int(declared)}
            async with trial.accounts("S" * (most + 1), llama=most + 1, told=told):
                fields = ("X-Guardproxy-Schema: scent",) if declared else ()
                body = asking(stream=stream) if declared else wants(SCHEMA, stream=stream)
                seen = await trial.ask(body, NEVER, *fields)
            if declared:
                assert (seen.status, seen.fields["x-guardproxy-json"]) == (200, "fallback")
                assert b"quiet" in seen.body
            else:
                assert (seen.status, seen.error["code"]) == (502, "invalid_model_output")
                assert seen.fields["x-should-retry"] == "false"


@pytest.mark.row(75)
@pytest.mark.parametrize(
    "text", [f"```json\n{RIGHT}\n```", f"Sure! Here it is: {RIGHT} I hope it helps.", f"{RIGHT}\n\nAnything else?"]
)
async def test_json_with_something_around_it(text):
    """Taken out of what stands around it, and the header says so."""
    async with Trial() as trial:
        trial.llama.play = says(whole(completion(text)), then="keep")
        told = {'llm_json_parse_failures_total{model="llama"}': 1, 'guardproxy_json_total{result="repaired"}': 1}
        async with trial.accounts("S", llama=1, kept=1, told=told):
            seen = await trial.ask(wants(SCHEMA), NEVER)
        assert seen.fields["x-guardproxy-json"] == "repaired"
        assert json.loads(json.loads(seen.body)["choices"][0]["message"]["content"]) == json.loads(RIGHT)


@pytest.mark.row(76)
async def test_a_stream_that_must_be_right():
    """Held until it has been judged, with comments meanwhile; then it is a stream."""
    async with Trial() as trial:
        trial.proxy.house.performer.roads.bounds = type(trial.proxy.house.performer.roads.bounds)(hold_comment=0.1)

        async def play(peer):
            await peer.send(STREAM + chunk(piece(RIGHT[:10])))
            await asyncio.sleep(0.5)
            await peer.send(chunk(piece(RIGHT[10:]), piece("", "stop"), DONE) + LAST)
            return True

        trial.llama.play = play
        async with trial.accounts("S", llama=1, kept=1):
            seen = await trial.ask(wants(SCHEMA, stream=True), NEVER)
        assert seen.body.startswith(b": ")
        before, _, after = seen.body.partition(b"data: ")
        assert b"rose" not in before
        assert after.endswith(DONE)
        assert not seen.cut


@pytest.mark.row(77)
async def test_one_choice_of_two_is_wrong():
    """The whole answer is asked for again: choices of different answers are never mixed."""
    both = {
        "choices": [json.loads(completion(text))["choices"][0] | {"index": n} for n, text in enumerate((RIGHT, "{}"))]
    }
    good = {"choices": [json.loads(completion('{"name":"b","n":2}'))["choices"][0] | {"index": n} for n in (0, 1)]}
    async with Trial() as trial:
        trial.llama.play = turns(*(says(whole(json.dumps(doc).encode()), then="keep") for doc in (both, good)))
        async with trial.accounts("SS", llama=2, kept=1):
            seen = await trial.ask(wants(SCHEMA, n=2), NEVER)
        assert json.loads(seen.body) == good
        assert seen.fields["x-guardproxy-json"] == "retried"
