"""From a request to a call, or to the error that says why not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.values import Call, Reply
from guardproxy.flow.read import Place, Route
from tests.flow.playbook import NAMES, House, code

HOUSE = House()


def read(body: bytes = b'{"model":"qwen"}', **how) -> Call:
    call = HOUSE.read(body, **how)
    assert isinstance(call, Call), call
    return call


@pytest.mark.parametrize(
    "target, path, query, guarded",
    [
        ("/v1/chat/completions", "/v1/chat/completions", "", True),
        ("/v1/chat/completions/", "/v1/chat/completions", "", True),
        ("//v1///chat//completions", "/v1/chat/completions", "", True),
        ("//qwen//v1/chat/completions", "/v1/chat/completions", "", True),
        ("/v1/chat/completions?api-version=1&x=..", "/v1/chat/completions", "api-version=1&x=..", True),
        ("/v1/chat/completions?", "/v1/chat/completions", "", True),
        ("/v1/chat/completions?a?b", "/v1/chat/completions", "a?b", True),
        ("/qwen/v1/models/", "/v1/models/", "", False),
        ("/qwen/", "/", "", False),
        ("/qwen/v1/files/a.b..c/...", "/v1/files/a.b..c/...", "", False),
        ("/qwen/v1/a%2fb%20c", "/v1/a%2fb%20c", "", False),
        ("/qwen/qwen/v1/chat/completions", "/qwen/v1/chat/completions", "", False),
    ],
)
def test_the_request_line(target, path, query, guarded):
    """Doubled slashes are one, the upstream's name comes off, the query is nobody's business."""
    place = HOUSE.reading.place("POST", target)
    assert isinstance(place, Place)
    assert (place.path, place.query, place.dialect is not None) == (path, query, guarded)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../admin", "/..", "/./v1", "/v1/.", "/v1/%2e%2E/x", "/v1/.%2e/x", "/v1/%2e/x", "/a/..%2fb", "/a/..\\b",
        "/a%2f..%2fb", "/a%5c..", "/a/%2e%2e%5cb", "//..//x", "v1/x", "", "http://evil/v1", "*", "?x",
    ],
)  # fmt: skip
def test_paths_that_lead_elsewhere(target):
    """No dot segments in any spelling, no other host: 400, nothing is asked."""
    reply = HOUSE.reading.place("POST", target)
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply)) == (400, "invalid_request")


def test_only_post_is_inference():
    """A GET of an inference path is somebody else's business, and is relayed."""
    call = read(b"", method="GET", target="/qwen/v1/chat/completions")
    assert (call.dialect, call.doc, call.stream) == (None, {}, False)


def test_headers():
    """What the caller says to us is read and stays here; the rest is for the upstream, as it was written."""
    call = read(
        headers=[
            ("X-Request-ID", "abc-1"),
            ("x-guardproxy-skip", "Cache , JSON"),
            ("X-Guardproxy-Skip", "health"),
            ("X-Guardproxy-Schema", "brief"),
            ("X-Guardproxy-Downshift", "Never"),
            ("Cache-Control", "No-Cache"),
            ("cache-control", "max-age=5"),
            ("Authorization", "Bearer k"),
            ("Connection", "x-tmp"),
            ("X-Tmp", "1"),
        ]
    )
    assert (call.id, set(call.skip), call.wants_schema) == ("abc-1", {"cache", "json", "health"}, "brief")
    assert (call.fixed, call.cache_control) == (True, "no-cache,max-age=5")
    assert [name for name, _ in call.headers] == [b"Cache-Control", b"cache-control", b"Authorization"]


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "é", "a\x7f"])
def test_an_id_that_could_not_be_logged_is_replaced(given):
    """Ids go into logs and header fields: visible ASCII, at most 128 characters."""
    assert House().read(b'{"model":"qwen"}', headers=[("X-Request-Id", given)]).id == "id-1"  # type: ignore[union-attr] # a call


@pytest.mark.parametrize("mode", [3, [], {}, False, 0, True])
def test_a_mode_that_is_no_text(mode):
    """A field the proxy must read has to have the right type, also where it counts as nothing in Python."""
    reply = HOUSE.read(json.dumps({"model": "qwen", "mode": mode}).encode())
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply), json.loads(reply.body)["error"]["param"]) == (400, "invalid_request", "mode")


def test_a_body_that_cannot_be_read():
    """400 with the field that is wrong; a path that is only relayed may carry anything."""
    reply = HOUSE.read(b'{"model":"qwen","stream":"yes"}')
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)["error"]["param"]) == (400, "stream")
    assert read(b"\xff", target="/qwen/v1/audio").body == b"\xff"


def test_the_body_is_the_same_object():
    """Nothing is copied."""
    body = b'{"model":"qwen","stream":true}'
    call = read(body)
    assert call.body is body
    assert call.stream


def test_the_deadline():
    """Counted from now, retries and waits included."""
    assert read(now=5.0).deadline == 605.0


def test_routes():
    """The first that fits says schema, cache and guards; the caller's schema beats the route's."""
    house = House(
        routes=[
            Route(path="/v1/chat/*", model="qwen", schema="brief", guards=("modes", "json")),
            Route(mode="fast", cache=False),
            Route(path="/v1/completions", guards=()),
        ]
    )

    def call(body: bytes, target: str = "/v1/chat/completions", *headers: tuple[str, str]) -> Call:
        got = house.read(body, target=target, headers=headers)
        assert isinstance(got, Call)
        return got

    first = call(b'{"model":"qwen-alias"}')  # the upstream is meant, whatever he calls it
    assert (first.wants_schema, set(first.skip)) == ("brief", {"cache", "health", "throttle", "breaker"})
    assert call(b'{"model":"qwen"}', "/v1/chat/completions", ("X-Guardproxy-Schema", "mine")).wants_schema == "mine"
    assert call(b'{"model":"qwen"}', "/v1/embeddings").skip == {"cache"}
    assert call(b'{"model":"llama"}', "/v1/completions").skip == set(NAMES)
    assert call(b'{"model":"llama"}').skip == set()


@given(
    st.text("/.%25efqwn?v1chatompleis\\", max_size=30),
    st.lists(
        st.tuples(st.sampled_from(["X-LLM-Mode", "X-Guardproxy-Skip", "Cache-Control"]), st.text("a,=²é ", max_size=8)),
        max_size=3,
    ),
    st.binary(max_size=30) | st.sampled_from([b'{"model":"qwen"}', b'{"mode":"fast","stream":null}']),
)
def test_any_request(target, headers, body):
    """Whatever a caller sends, he gets a call or an envelope; no path that goes on has a dot segment."""
    got = HOUSE.read(body, target="/" + target, headers=headers)
    if isinstance(got, Reply):
        assert got.status in (400, 404)
        assert code(got)
    else:
        assert not {".", ".."} & set(got.path.split("/"))
        assert "//" not in got.path


def test_a_compressed_body():
    """A body that was compressed is refused, and the message says what to leave out."""
    reply = HOUSE.read(b"\x1f\x8b\x08", headers=(("Content-Encoding", "gzip"),))
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply)) == (400, "invalid_json")
    assert "Content-Encoding: gzip" in json.loads(reply.body)["error"]["message"]


def test_a_path_that_names_nobody():
    """A call to a path that is not read names no model: the message says how to name one."""
    reply = HOUSE.read(b"", target="/v1/rerank")
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply)) == (404, "model_not_found")
    message = json.loads(reply.body)["error"]["message"]
    assert "/NAME/v1/" in message
    assert "default_upstream" in message
