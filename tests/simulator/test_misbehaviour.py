"""Every manner, seen over a real socket."""

from __future__ import annotations

import asyncio
import json
import time

import aiohttp
import pytest

from guardproxy.simulator.spoiling import with_wrong_type
from tests.simulator.conftest import content_of, events_of
from tests.simulator.test_instance import BRIEF, satisfies

OBJECT = {"response_format": {"type": "json_object"}}
WANTED = {"response_format": {"type": "json_schema", "json_schema": {"schema": BRIEF}}}


async def since(awaitable):
    start = time.monotonic()
    return await awaitable, time.monotonic() - start


async def test_reset_before_is_a_reset_without_a_byte(raw, sim):
    """RST, not FIN, and nothing before it; also where a stream was asked for."""
    for stream in (False, True):
        assert await raw(manners="reset-before", stream=stream) == (b"", "rst")
    assert sim.requests[-1].fate == "reset"


@pytest.mark.parametrize("stream", [False, True])
async def test_reset_after_sends_the_headers_only(raw, stream):
    """The client has a status of 200 in its hands when the connection is reset."""
    received, end = await raw(manners="reset-after", stream=stream)
    assert end == "rst"
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\n")


async def test_reset_mid_loses_the_rest_of_a_stream(raw):
    """RST after N content events."""
    received, end = await raw(manners="reset-mid=2", stream=True)
    assert end == "rst"
    assert received.count(b'"content":') == 3  # the role chunk has an empty one


@pytest.mark.parametrize("count", [0, 3])
async def test_cut_ends_a_stream_cleanly_with_no_end(raw, count):
    """An orderly FIN after N content events: neither [DONE] nor the terminal chunk nor a finish reason."""
    received, end = await raw(manners=f"cut={count}", stream=True)
    assert end == "fin"
    assert received.count(b'"content":') == count + 1
    assert not received.endswith(b"0\r\n\r\n")
    assert b"[DONE]" not in received
    assert b'"finish_reason":"stop"' not in received


async def test_cut_leaves_half_of_a_whole_answer(raw):
    """The full Content-Length is promised and half of it kept."""
    received, end = await raw(manners="cut=1")
    head, _, body = received.partition(b"\r\n\r\n")
    promised = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    assert end == "fin"
    assert len(body) == promised // 2


async def test_stall_goes_silent_with_the_connection_open(raw, sim):
    """N content events come, then nothing, and the server notices when the client leaves."""
    received, end = await raw(manners="stall=2", stream=True, patience=0.15)
    assert end == "open"
    assert received.count(b'"content":') == 3
    await sim.idle()
    assert sim.requests[-1].events == 2
    assert sim.requests[-1].cancelled


@pytest.mark.parametrize(
    "manners, stream", [("hang", False), ("hang", True), ("stall=1", False), ("comments=1", False)]
)
async def test_a_hanging_server_says_nothing(raw, sim, manners, stream):
    """Accepted, and no byte; without a stream a stall and comments are the same."""
    assert await raw(manners=manners, stream=stream, patience=0.1) == (b"", "open")
    await sim.idle()
    assert sim.requests[-1].fate == "cancelled"


async def test_comments_are_all_that_comes(raw):
    """Bytes keep coming, events never do."""
    received, end = await raw(manners="comments=0.02", stream=True, patience=0.2)
    assert end == "open"
    assert received.count(b": ping\n\n") >= 3
    assert b"data:" not in received


async def test_garbage_is_not_http(raw):
    """Bytes, then an orderly end."""
    received, end = await raw(manners="garbage")
    assert end == "fin"
    assert received
    assert not received.startswith(b"HTTP/")


async def test_latency_comes_before_anything(ask):
    """The status line, too, waits."""
    answer, seconds = await since(ask(manners="latency=0.15"))
    assert answer.status == 200
    assert seconds >= 0.15


async def test_slow_first_token_has_its_headers_at_once(client):
    """The headers of a stream come at once, the first event later; without a stream all comes later."""
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    start = time.monotonic()
    async with client.session.post(
        f"{client.url}/v1/chat/completions", json=body, headers={"X-Simulate": "slow-first-token=0.3"}
    ) as answer:
        headers = time.monotonic() - start
        await answer.content.readany()
        first = time.monotonic() - start
    assert headers < 0.3 <= first


async def test_token_delay_paces_an_answer(ask):
    """Between content events; an answer not streamed takes as long in sum."""
    for stream in (False, True):
        _, seconds = await since(ask(manners="token-delay=0.03", max_tokens=5, stream=stream))
        assert 0.12 <= seconds < 1


@pytest.mark.parametrize("code", [429, 500, 503, 529])
async def test_status_answers_an_envelope_with_that_status(ask, code):
    """Retry-After is sent where ordered."""
    answer = await ask(manners=f"status={code},retry-after=3")
    assert answer.status == answer.json()["error"]["code"] == code
    assert answer.headers["retry-after"] == "3"
    assert "retry-after" not in (await ask(manners=f"status={code}")).headers


async def test_half_json_is_no_json(ask):
    """It ends in the middle although finish_reason is stop."""
    answer = await ask(manners="half-json", **OBJECT)
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    with pytest.raises(json.JSONDecodeError):
        json.loads(content_of(answer))


@pytest.mark.parametrize(
    "schema", [{"type": "integer"}, {"const": "x"}, {"type": "boolean"}, {"type": "null"}, {"const": []}]
)
async def test_half_json_is_no_json_for_scalars_either(ask, schema):
    """Half of 12 would be 1, which is JSON."""
    answer = await ask(manners="half-json", response_format={"type": "json_schema", "json_schema": {"schema": schema}})
    with pytest.raises(json.JSONDecodeError):
        json.loads(content_of(answer))


async def test_fences_and_prose_wrap_what_is_right(ask):
    """What stands inside is the valid object."""
    fenced = content_of(await ask(manners="fenced-json", **WANTED))
    assert fenced.startswith("```json\n")
    assert satisfies(json.loads(fenced.removeprefix("```json\n").removesuffix("\n```")), BRIEF)
    wrapped = content_of(await ask(manners="prose-json", **WANTED))
    assert wrapped.startswith("Sure!")
    assert satisfies(json.loads(wrapped[wrapped.index("{") :]), BRIEF)


async def test_wrong_type_is_json_that_violates_the_schema(ask):
    """Of the schema asked for; of the brief where none was."""
    for body in (WANTED, OBJECT):
        assert not satisfies(json.loads(content_of(await ask(manners="wrong-type", **body))), BRIEF)


@pytest.mark.parametrize(
    "value, schema",
    [
        (7, {"type": "integer"}),
        ({}, {"type": "object"}),
        ([1], {"type": "array"}),
        ({"a": 1, "b": "x"}, {"properties": {"b": {"type": "string"}}}),
        ({"a": None}, {"properties": {"a": {"anyOf": [{"type": "null"}, {"type": "string"}]}}}),
    ],
)
def test_whatever_can_be_violated_is_violated(value, schema):
    """A property's type if possible, else that of the whole."""
    assert not satisfies(with_wrong_type(value, schema), schema)


async def test_not_json_is_prose(ask):
    """Where JSON was asked for; prose is not made worse by JSON manners."""
    assert "{" not in content_of(await ask(manners="not-json", **OBJECT))
    assert content_of(await ask(manners="half-json")) == content_of(await ask())


async def test_json_manners_spoil_tool_arguments(ask):
    """They are JSON that a model writes, too."""
    tool = {"type": "function", "function": {"name": "mix", "parameters": BRIEF}}
    answer = (await ask(manners="half-json", tools=[tool], tool_choice="required")).json()
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])


async def test_right_on_heals_a_conversation_that_is_asked_again(client, sim):
    """Re-asks append messages; the N-th is right, and other conversations are counted apart."""
    sim.faults = "not-json,right-on=3"
    messages = [{"role": "user", "content": "a brief in JSON"}]
    right = []
    for _ in range(4):
        text = content_of(await client.post("/v1/chat/completions", json={"model": "m", "messages": messages}))
        right.append(text.startswith("{"))
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "JSON only!"}]
    assert right == [False, False, True, False]


async def test_error_200_is_an_error_that_says_200(ask):
    """An envelope where choices should be, for streams as well."""
    for stream in (False, True):
        answer = await ask(manners="error-200=429", stream=stream)
        assert answer.status == 200
        assert answer.json()["error"]["code"] == 429


async def test_error_event_comes_mid_stream_and_done_follows(ask):
    """As vLLM does it: 200, some content, an error event, [DONE]. Without a stream it is a 500."""
    *_, last, error, done = events_of((await ask(manners="error-event=2", stream=True)).text)
    assert last["choices"][0]["delta"]["content"]
    assert error["error"]["code"] == 500
    assert done == "[DONE]"
    assert (await ask(manners="error-event=2")).status == 500


async def test_no_done_leaves_only_done_out(ask):
    """The stream is complete in all else, and ends with its terminal chunk (else the client would raise)."""
    events = events_of((await ask(manners="no-done", stream=True)).text)
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


async def test_empty_has_no_choices(ask):
    """In a stream no chunk but [DONE]."""
    assert (await ask(manners="empty")).json()["choices"] == []
    assert events_of((await ask(manners="empty", stream=True)).text) == ["[DONE]"]


async def test_length_cuts_the_text_in_half(ask):
    """And says so."""
    answer = await ask(manners="length")
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    whole = content_of(await ask())
    assert whole.startswith(content_of(answer))
    assert len(content_of(answer)) < len(whole)


async def test_loading_is_llama_cpps_503_on_every_path(ask, client, sim):
    """The one standing order that holds beside inference, until its `times` are used up."""
    sim.faults = "loading,retry-after=2,times=1"
    health = await client.get("/health")
    assert health.status == 503
    assert health.json()["error"]["message"] == "Loading model"
    assert health.headers["retry-after"] == "2"
    assert (await ask()).status == 503
    assert (await ask()).status == 200
    assert (await client.get("/v1/models")).status == 200


async def test_standing_orders_spare_the_paths_beside_inference(client, sim):
    """A hung engine answers /health; only a header reaches that far."""
    sim.faults = "status=500,times=1"
    assert (await client.get("/health")).status == 200
    assert (await client.get("/health", headers={"X-Simulate": "status=502"})).status == 502
    assert (await client.post("/v1/embeddings", json={"input": "x"})).status == 500


async def test_a_header_with_an_unknown_manner_is_a_400(ask):
    """It lists the right names, and the request is not answered as if nothing had been ordered."""
    answer = await ask(manners="explode")
    assert answer.status == 400
    assert "reset-before" in answer.json()["error"]["message"]


async def test_the_header_wins_over_standing_orders(ask, sim):
    """They are merged; where they collide the request's own order holds."""
    sim.faults = ["status=503", "latency=0.1"]
    answer, seconds = await since(ask(manners="status=500"))
    assert answer.status == 500
    assert seconds >= 0.1
    assert set(sim.requests[-1].manners) == {"status", "latency"}


async def test_a_client_that_hangs_up_is_noticed(sim, client):
    """Generation stops and the request is remembered as cancelled, so that a proxy can prove that it passes it on."""
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    headers = {"X-Simulate": "token-delay=0.05"}
    async with client.session.post(f"{client.url}/v1/chat/completions", json=body, headers=headers) as answer:
        await answer.content.readany()
    await sim.idle()
    assert sim.requests[-1].cancelled
    sent = sim.requests[-1].events
    await asyncio.sleep(0.1)
    assert sim.requests[-1].events == sent


async def test_half_a_keep_alive_connection_survives_errors(ask, sim):
    """Statuses and odd bodies leave the connection usable: only what is ordered to break it does."""
    for manners in ("status=500", "error-200", "empty", ""):
        await ask(manners=manners)
    assert len({visit.peer for visit in sim.requests}) == 1


async def test_a_reset_raises_in_a_client(ask):
    """What every HTTP client calls a failed read."""
    with pytest.raises(aiohttp.ClientOSError):
        await ask(manners="reset-before")
