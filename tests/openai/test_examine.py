"""Whether an HTTP answer is an answer: the bytes of an upstream become a completion, an error of its, or a fault."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import Answer, Call, Fault, Kind
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.openai import examine as module
from guardproxy.openai.envelope import is_envelope
from guardproxy.openai.events import event, raw_event
from guardproxy.openai.examine import examine, finished
from tests.flow.playbook import House, completion

OK = json.dumps(completion("hi")).encode()
EVENTS = "text/event-stream; charset=utf-8"


def asked(**more: int) -> Call:
    call = House().read(json.dumps({"model": "qwen", **more}).encode())
    assert isinstance(call, Call)
    return call


def read(body: bytes, status: int = 200, kind: str = "application/json", **more: str) -> Answer | Fault:
    headers = [(b"Content-Type", kind.encode()), *((k.replace("_", "-").encode(), v.encode()) for k, v in more.items())]
    return examine(asked(), Answer(3.0, status, headers, body, first=2.0), CHAT)


def answer(body: bytes, status: int = 200, kind: str = "application/json", **more: str) -> Answer:
    found = read(body, status, kind, **more)
    assert isinstance(found, Answer)
    return found


def test_a_good_answer():
    """It is read and nothing of it is touched."""
    found = answer(OK)
    assert (found.kind, found.body, found.at, found.first, found.keepable) == (Kind.SUCCESS, OK, 3.0, 2.0, True)
    assert found.doc == completion("hi")


@pytest.mark.parametrize(
    "body, kind, says",
    [
        (b"<html>", "text/html", "text/html that is not JSON"),
        (b"", "application/json", "not JSON"),
        (b"[]", "application/json", "no object"),
        (b"{}", "application/json", "without choices"),
        (b'{"choices":[]}', "application/json", "without choices"),
        (b'{"choices":{}}', "application/json", "without choices"),
        (b'{"choices":[3]}', "application/json", "no objects"),
        (b'{"choices":[{"message":{"content":""},"finish_reason":"error"}]}', "application/json", "with an error"),
        (b'{"choices":[{"a":1,"a":2}]}', "application/json", "not JSON"),
        (b"\xff\xfe", "application/json", "not JSON"),
        (b": ping\n\n", EVENTS, "no object"),
        (b"data: {\n\n", EVENTS, "not JSON"),
    ],
)
def test_200_and_no_answer(body, kind, says):
    """A page of a proxy in between, an empty body, an empty answer: 502, and it counts against the upstream."""
    fault = read(body, kind=kind)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.status, fault.kind, fault.at) == ("upstream_protocol", 502, Kind.FAILURE, 3.0)
    assert says in fault.message
    assert "qwen" in fault.message


@pytest.mark.parametrize("status", [300, 301, 302, 307, 304])
def test_redirects_are_not_followed(status):
    """Where it points is none of our business: keys would go along."""
    fault = read(b"", status)
    assert isinstance(fault, Fault)
    assert "redirect" in fault.message


@pytest.mark.parametrize(
    "error, status, kind",
    [
        ({"message": "m", "code": 400, "type": "t", "param": "p"}, 400, Kind.IGNORED),
        ({"message": "m", "code": "rate_limit_exceeded"}, 429, Kind.THROTTLED),
        ({"message": "m", "code": 503}, 503, Kind.FAILURE),
        ({"message": "m"}, 502, Kind.FAILURE),
        ("out of memory", 502, Kind.FAILURE),
    ],
)
@pytest.mark.parametrize("events", [False, True])
def test_an_error_under_200(error, status, kind, events):
    """An error dressed as success is undressed: real status, JSON, an envelope, and nothing is made up."""
    body = event({"error": error}) + raw_event(b"[DONE]") if events else json.dumps({"error": error}).encode()
    found = answer(body, kind=EVENTS if events else "application/json")
    assert (found.status, found.kind) == (status, kind)
    doc = json.loads(found.body)
    assert is_envelope(doc)
    assert [pair for pair in found.headers if pair[0].lower() == b"content-type"] == [
        (b"Content-Type", b"application/json")
    ]
    if isinstance(error, dict):
        assert doc["error"] == error


def test_an_upstreams_own_error_passes():
    """Its envelope goes on byte for byte, compressed or not; anything else is put into one."""
    body = b'{ "error" : {"message":"no","x":1} }'
    assert answer(body, 400).body == body
    packed = gzip.compress(body)
    found = answer(packed, 400, content_encoding="gzip")
    assert (found.body, (b"content-encoding", b"gzip") in found.headers) == (packed, True)
    found = answer(b'{"detail":"no such model"}', 404)
    assert json.loads(found.body)["error"]["message"] == "no such model"
    found = answer(gzip.compress(b'{"detail":"zipped"}'), 500, content_encoding="gzip")
    assert json.loads(found.body)["error"]["message"] == "zipped"
    assert not [pair for pair in found.headers if pair[0] == b"content-encoding"]
    found = answer(b"", 503, "text/html")
    assert json.loads(found.body)["error"]["message"] == "the upstream answered with status 503"


def test_a_compressed_error_under_200():
    """What is written anew is not announced as compressed."""
    found = answer(gzip.compress(b'{"error":{"message":"m","code":400}}'), content_encoding="gzip")
    assert found.status == 400
    assert json.loads(found.body) == {"error": {"message": "m", "code": 400}}
    assert [name for name, _ in found.headers] == [b"Content-Type"]


def test_throttled():
    """Retry-After is read, in every spelling, a date against the answer's own."""
    found = answer(b"{}", 503, retry_after="Fri, 01 Aug 2025 12:00:30 GMT", date="Fri, 01 Aug 2025 12:00:00 GMT")
    assert (found.kind, found.retry_after) == (Kind.THROTTLED, 30.0)


@pytest.mark.parametrize("pack, name", [(gzip.compress, "gzip"), (zlib.compress, "deflate"), (bytes, "identity")])
def test_compressed_though_not_asked_for(pack, name):
    """It can be read all the same, and goes on as it came."""
    found = answer(pack(OK), content_encoding=name)
    assert (found.doc, found.body) == (completion("hi"), pack(OK))


@pytest.mark.parametrize("body", [gzip.compress(OK)[:-9], b"no gzip", b"", gzip.compress(OK)[:12]])
def test_a_lie_about_compression(body):
    """A truncated or false gzip is no answer, though no library raises."""
    fault = read(body, content_encoding="gzip")
    assert isinstance(fault, Fault)
    assert isinstance(read(OK, content_encoding="br"), Fault)


def test_a_bomb(monkeypatch):
    """What would inflate beyond the bound is not inflated."""
    monkeypatch.setattr(module, "INFLATED", 1000)
    assert isinstance(read(gzip.compress(b" " * 100_000 + OK), content_encoding="gzip"), Fault)


def test_a_gathered_stream():
    """A stream that was gathered is a completion if it came to its end."""
    piece = {"id": "c", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    assert answer(event(piece) + event(end), kind=EVENTS).keepable
    found = answer(event(piece) + raw_event(b"[DONE]"), kind=EVENTS)
    assert not found.keepable
    cut = read(event(piece), kind=EVENTS)
    assert isinstance(cut, Fault)
    assert cut.code == "upstream_reset"
    decoy = {"choices": [{"index": 0, "delta": {"content": "say [DONE]"}}]}
    assert isinstance(read(event(decoy), kind=EVENTS), Fault)


@pytest.mark.parametrize("reason, whole", [("stop", True), ("tool_calls", True), ("length", False), (None, False)])
def test_who_ended_it(reason, whole):
    """Only what ended of itself may be shown again."""
    assert answer(json.dumps(completion("hi", reason)).encode()).keepable is whole
    assert finished({"choices": []}) is finished(None) is False


@given(st.integers(200, 599), st.binary(max_size=80), st.sampled_from(["gzip", "identity", "x"]), st.booleans())
def test_any_bytes(status, body, coding, events):
    """Nothing that an upstream sends is an exception here."""
    found = read(body, status, EVENTS if events else "application/json", content_encoding=coding)
    if isinstance(found, Answer) and found.kind is not Kind.SUCCESS:
        assert found.status >= 400
        if coding == "identity":
            assert is_envelope(json.loads(found.body))


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("wanted", [1, 2])
@pytest.mark.parametrize("finish", [None, "stop", "length"])
def test_complete_means_the_same_held_or_relayed(finish, wanted, done):
    """One definition: what a scan says of a relayed stream holds for one that was gathered, and so does `keepable`."""
    body = event({"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": finish}]})
    body += raw_event(b"[DONE]") if done else b""
    call = asked(n=wanted)
    relayed = CHAT.scan(call)
    relayed.feed(body)
    relayed.close()
    read_along = CHAT.gather(call)
    read_along.feed(body)
    headers = [(b"Content-Type", b"text/event-stream")]
    for scan in (None, read_along):
        found = examine(call, Answer(1.0, 200, headers, body, scan=scan), CHAT)
        assert isinstance(found, Answer) is relayed.complete()
        assert (isinstance(found, Answer) and found.keepable) is relayed.keepable()
