"""What is kept is shown as it was, or made over, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import Call, Record, Reply, Target
from guardproxy.openai.keeping import Kept, keep, pack, show, unpack
from tests.flow.playbook import House, completion

TARGET = Target("llama", "llama-id", "creative")
JSON = [(b"Content-Type", b"application/json"), (b"Set-Cookie", b"a"), (b"X-Own", b"1")]


def call(**more) -> Call:
    read = House().read(json.dumps({"model": "creative", "messages": [], **more}).encode())
    assert isinstance(read, Call)
    return read


def kept(text: str = "hi", **more) -> Kept:
    return keep(
        call(), Reply(200, json.dumps(completion(text, **more)).encode(), JSON), TARGET, Record(0.0, json="valid")
    )


def test_the_same_kind_is_the_same_bytes():
    """No copy, no header field of the first request."""
    value = kept()
    reply = show(value, call(temperature=1), "cache")
    assert reply is not None
    assert reply.body is value.body
    assert reply.block == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Own: 1\r\n"


def test_there_and_back_again():
    """A stream that was made of a whole answer tells that answer."""
    value, asked = kept("some\nwords \u2713"), call(stream=True, stream_options={"include_usage": True})
    streamed = show(value, asked, "cache")
    assert streamed is not None
    again = keep(asked, streamed, TARGET, Record(0.0, json="valid"))
    whole = show(again, call(), "cache")
    assert whole is not None
    was, now = json.loads(value.body), json.loads(whole.body)
    assert now["choices"][0]["message"]["content"] == was["choices"][0]["message"]["content"]
    assert {name: now[name] for name in ("id", "created", "model", "usage", "object")} == {
        name: was[name] for name in ("id", "created", "model", "usage", "object")
    }
    assert (b"X-Own", b"1") in streamed.headers


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"data: x\n\n", b'{"choices":[7]}', b'{"choices":null}', b"\xff"])
@pytest.mark.parametrize("events", [False, True])
def test_a_shape_of_its_own(body, events):
    """What cannot be made over is not there for who wants it otherwise; it is never an error."""
    value = Kept(b"HTTP/1.1 200 OK\r\n", body, events, None, TARGET, "")
    assert show(value, call(stream=not events), "cache") is None
    same = show(value, call(stream=events), "cache")
    assert same is not None
    assert same.body == body


@given(st.binary(max_size=50), st.booleans(), st.none() | st.dictionaries(st.text(max_size=3), st.booleans()))
def test_what_is_written_down_can_be_read(body, events, options):
    """In another process, bytes and all."""
    value = Kept(b"HTTP/1.1 200 OK\r\nX: \xff\r\n", body, events, options, TARGET, "valid", 7)
    assert unpack(pack(value, 1.5, 2.5)) == (value, 1.5, 2.5)


@given(st.binary(max_size=60) | st.lists(st.none() | st.integers() | st.text()).map(json.dumps).map(str.encode))
def test_what_cannot_be_read_is_not_there(text):
    """Whatever it is."""
    assert unpack(text) is None
