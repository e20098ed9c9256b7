"""What makes two calls the same, what is kept, and what a caller may say about both."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.core.units import Bytes, Seconds
from guardproxy.core.values import Call, Kind, Record, Relayed, Reply, Schema, Target
from guardproxy.guards.cache import Cache, Settings, directives, seconds_of
from tests.flow.playbook import GUARDED, House, answered, ask, code, play, refused, said

BODY = b'{"model":"creative","messages":[]}'


def admitted(house: House, body: bytes = BODY, **how) -> tuple[Call | Reply, Record]:
    record = Record(how.get("now", 0.0))
    return house.admit(record, body, **how), record


def keep(house: House, body: bytes = BODY, text: str = "hi", now: float = 0.0, **how) -> Reply:
    """Have *text* answered to *body* and kept."""
    telling, record = house.begin(body, now=now, **how)
    reply = play(telling, (ask("llama"), said(now, text)))
    assert record.cache.endswith("; stored")
    return reply


def test_a_hit():
    """The same bytes, nobody asked, and what the headers say about it."""
    house = House()
    kept = keep(house)
    reply, record = admitted(house, now=187.6)
    assert isinstance(reply, Reply)
    assert (reply.body, reply.source, reply.events, reply.keepable) == (kept.body, "cache", False, False)
    assert (record.cache, record.cache_event, record.age) == ("hit; ttl=412", "hit", 187)
    assert record.target is not None
    assert (record.target.upstream, record.attempts) == ("llama", [])
    assert reply.block.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
    assert house.cache.state(0.0)["size"] == 1


def test_set_hit_expired_regenerated():
    """The promise of the checklist, in order."""
    house = House()
    keep(house)
    assert isinstance(admitted(house, now=599.9)[0], Reply)
    call, record = admitted(house, now=600.0)
    assert isinstance(call, Call)
    assert (record.cache, record.cache_event) == ("fwd=miss", "miss")
    assert house.cache.entries.expirations == 1
    keep(house, text="again", now=600.0)
    assert isinstance(admitted(house, now=700.0)[0], Reply)


def _call() -> Call:
    call = House().read(BODY)
    assert isinstance(call, Call)
    return call


CALL = _call()
TARGET = Target("llama", "llama-id", "creative")
VARIANTS: list[tuple[Call, Target]] = [
    (CALL, TARGET),
    (replace(CALL, path="/v1/completions"), TARGET),
    (replace(CALL, query="a=1"), TARGET),
    (replace(CALL, body=BODY + b" "), TARGET),
    (replace(CALL, body=BODY.replace(b"[]", b"[1]")), TARGET),
    (replace(CALL, schema=Schema("s", None, b"1")), TARGET),
    (replace(CALL, schema=Schema("s", None, b"2")), TARGET),
    *[
        (replace(CALL, headers=[(name, value)]), TARGET)
        for name in (b"Authorization", b"X-Api-Key", b"api-key", b"OpenAI-Organization", b"OpenAI-Project", b"Cookie")
        for value in (b"a", b"b")
    ],
    (replace(CALL, headers=[(b"cookie", b"a"), (b"cookie", b"b")]), TARGET),
    (CALL, replace(TARGET, upstream="qwen")),
    (CALL, replace(TARGET, model="other-id")),
    (CALL, replace(TARGET, mode="balanced")),
    (replace(CALL, named_mode=False), TARGET),
    (replace(CALL, path="/v1", query="/chat/completions"), TARGET),
]


def test_every_difference_is_another_entry():
    """Path, query, body, tenant, schema, upstream, model, mode: no two of them share an answer."""
    cache = Cache(Settings())
    for one, other in combinations(VARIANTS, 2):
        assert cache.key(*one) != cache.key(*other), (one, other)


def test_what_is_no_difference():
    """Header fields that tell no tenants apart, and why a call was moved, are no part of the key."""
    cache = Cache(Settings())
    same = replace(CALL, id="other", headers=[(b"User-Agent", b"x"), (b"X-Request-Id", b"y")])
    assert cache.key(same, TARGET) == cache.key(CALL, TARGET)
    moved = replace(TARGET, moved_from="high", reason="a")
    assert cache.key(CALL, moved) == cache.key(CALL, replace(moved, reason="b"))
    assert Cache(Settings(vary=())).key(*VARIANTS[7]) == Cache(Settings(vary=())).key(*VARIANTS[8])
    assert isinstance(cache.key(replace(CALL, query="\udcff"), TARGET), bytes)


@given(
    st.lists(st.tuples(st.sampled_from([b"cookie", b"api-key"]), st.binary(max_size=3)), max_size=3),
    st.lists(st.tuples(st.sampled_from([b"cookie", b"api-key"]), st.binary(max_size=3)), max_size=3),
)
def test_no_two_lists_of_tenant_fields_read_the_same(one, other):
    """However the bytes are shared out among fields, other fields are another tenant."""
    cache = Cache(Settings())
    keys = [cache.key(replace(CALL, headers=headers), TARGET) for headers in (one, other)]
    assert (keys[0] == keys[1]) is (one == other)


def test_another_tenant_is_a_miss():
    """An answer given to one key is never shown to another."""
    house = House()
    keep(house, headers=[("Authorization", "Bearer a")])
    assert isinstance(admitted(house, headers=[("Authorization", "Bearer b")])[0], Call)
    assert isinstance(admitted(house)[0], Call)
    assert isinstance(admitted(house, headers=[("authorization", "Bearer a")])[0], Reply)


@pytest.mark.parametrize(
    "directive, hit, cache",
    [
        ("no-store", False, "fwd=bypass"),
        ("no-cache", False, "fwd=request"),
        ("max-age=100", True, "hit; ttl=550"),
        ("max-age=49", False, "fwd=miss"),
        ("max-age=0", False, "fwd=miss"),
        ("max-age=²", False, "fwd=miss"),
        ("max-age=soon", False, "fwd=miss"),
        ('MAX-AGE="100"', True, "hit; ttl=550"),
        ("private, max-age=49, max-age=100", True, "hit; ttl=550"),
        ("", True, "hit; ttl=550"),
        (",;=,", True, "hit; ttl=550"),
    ],
)
def test_what_a_caller_may_say(directive, hit, cache):
    """RFC 9111 §5.2.1, in any spelling; what cannot be read asks for the freshest."""
    house = House()
    keep(house)
    got, record = admitted(house, now=50.0, headers=[("Cache-Control", directive)])
    assert (isinstance(got, Reply), record.cache) == (hit, cache)


def test_no_store_stores_nothing():
    """Neither looked up nor kept, and neither a hit nor a miss."""
    house = House()
    telling, record = house.begin(headers=[("Cache-Control", "no-store")])
    play(telling, (ask("llama"), said(1.0)))
    assert (record.cache, record.cache_event, len(house.cache.entries)) == ("fwd=bypass", "", 0)


def test_no_cache_asks_anew_and_keeps():
    """The next caller gets the newer answer."""
    house = House()
    keep(house, text="old")
    telling, record = house.begin(headers=[("Cache-Control", "no-cache")], now=1.0)
    play(telling, (ask("llama"), said(2.0, "new")))
    assert record.cache == "fwd=request; stored"
    reply, _ = admitted(house, now=3.0)
    assert b"new" in reply.body


@pytest.mark.parametrize("more", ["", ", no-store", ", no-cache", ", max-age=0"])
def test_only_if_cached(more):
    """504 instead of asking anybody."""
    house = House()
    if more:
        keep(house)
    reply, record = admitted(house, headers=[("Cache-Control", "only-if-cached" + more)], now=1.0)
    assert isinstance(reply, Reply)
    assert (reply.status, code(reply), record.cache_event) == (504, "not_cached", "")
    keep(house, b'{"model":"creative","seed":1}')
    got, _ = admitted(house, b'{"model":"creative","seed":1}', headers=[("Cache-Control", "only-if-cached")])
    assert isinstance(got, Reply)
    assert got.status == 200


@pytest.mark.parametrize("field", ["store", "conversation", "previous_response_id"])
def test_state_on_the_server(field):
    """A call that the server remembers is never answered from here."""
    call, record = admitted(House(), json.dumps({"model": "creative", field: "x"}).encode())
    assert isinstance(call, Call)
    assert (call.key, record.cache) == (b"", "fwd=bypass")
    call, _ = admitted(House(), json.dumps({"model": "creative", field: None}).encode())
    assert isinstance(call, Call)
    assert call.key


@pytest.mark.parametrize(
    "body, kept", [("", False), (',"temperature":0', True), (',"seed":0', True), (',"temperature":1', False)]
)
def test_deterministic(body, kept):
    """`when: deterministic` keeps what would come out the same again."""
    house = House(keeps=Settings(when="deterministic"))
    call, _ = admitted(house, b'{"model":"creative"%b}' % body.encode())
    assert isinstance(call, Call)
    assert bool(call.key) is kept


@pytest.mark.parametrize(
    "answer",
    [
        said(1.0, "cut", "length"),
        said(1.0, "filtered", "content_filter"),
        said(1.0, "?", None),  # type: ignore[arg-type] # what some engines send
        refused(1.0, 400),
        answered(1.0, 200, b'{"error":{"message":"no","code":400}}'),
    ],
)
def test_what_is_not_kept(answer):
    """Only what is whole, successful and ended of itself."""
    house = House()
    telling, record = house.begin()
    play(telling, (ask("llama"), answer))
    assert (len(house.cache.entries), record.cache) == (0, "fwd=miss")


def test_a_stream_that_was_relayed():
    """Kept where all of it came and all of it was held on to; shown as the stream that it was."""
    house = House()
    body = b'{"model":"creative","stream":true}'
    relayed = Relayed(2.0, 200, [(b"Content-Type", b"text/event-stream")], Kind.SUCCESS, 1.0, complete=True)
    for keepable, stream in ((False, b"x"), (True, None), (True, b"data: [DONE]\n\n")):
        telling, record = house.begin(body)
        got = replace(relayed, keepable=keepable, body=stream)
        play(telling, (ask("llama"), got))
        assert record.cache.endswith("stored") is (keepable and stream is not None)
    reply, _ = admitted(house, body)
    assert isinstance(reply, Reply)
    assert (reply.events, reply.body) == (True, b"data: [DONE]\n\n")
    assert b"text/event-stream" in reply.block


def test_headers_of_one_request_are_not_shown_again():
    """No cookie, id or rate limit of somebody else."""
    house = House()
    telling, _ = house.begin()
    answer = said(1.0)
    answer.headers += [(b"Set-Cookie", b"a"), (b"X-RateLimit-Limit", b"3"), (b"X-Request-Id", b"r"), (b"X-Own", b"1")]
    play(telling, (ask("llama"), answer))
    reply, _ = admitted(house)
    assert isinstance(reply, Reply)
    assert reply.block == b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Own: 1\r\n"


def test_an_unguarded_answer_is_not_a_guarded_one():
    """What was accepted without a schema is never shown where one is asked for."""
    house = House()
    keep(house, text="no json")
    assert isinstance(admitted(house, headers=GUARDED)[0], Call)
    keep(house, text='{"x":1}', headers=GUARDED)
    reply, record = admitted(house, headers=GUARDED)
    assert isinstance(reply, Reply)
    assert record.json == "valid"


def test_a_hit_does_not_need_its_model():
    """An answer that is kept is shown while the model is away; calls that may not be moved still find it."""
    house = House()
    keep(house)
    house.fail("llama", "mistral", "qwen", now=1.0)
    reply, record = admitted(house, now=2.0)
    assert isinstance(reply, Reply)
    assert record.target is not None
    assert record.target.mode == "creative"


def test_the_mode_that_was_asked_for_is_preferred():
    """While calls are moved down, an answer kept from before is better than one of the mode in its place."""
    house = House()
    kept = keep(house, text="from above")
    house.fail("llama", now=1.0)
    other = b'{"model":"creative","seed":1}'
    telling, _ = house.begin(other, now=2.0)
    play(telling, (ask("mistral"), said(3.0, "from below")))
    below, record = admitted(house, other, now=4.0)
    assert isinstance(below, Reply)
    assert record.target is not None
    assert (record.target.mode, record.target.moved_from) == ("balanced", "creative")
    above, _ = admitted(house, now=4.0)
    assert isinstance(above, Reply)
    assert above.body == kept.body


STALE = Settings(ttl_seconds=Seconds(10), stale_if_error_seconds=Seconds(20))


def test_stale_if_error():
    """Better an answer of a minute ago than none, for as long as it was allowed; and it is no hit."""
    house = House(keeps=STALE)
    kept = keep(house)
    house.fail("llama", "mistral", "qwen", now=15.0)
    telling, record = house.begin(now=16.5)
    reply = play(telling)
    assert (reply.source, reply.status, reply.body) == ("stale", 200, kept.body)
    assert (record.cache, record.cache_event, record.age) == ("hit; ttl=-7; detail=stale-if-error", "miss", 16)
    house.fail("llama", "mistral", "qwen", now=29.0)
    telling, _ = house.begin(now=31.0)
    assert play(telling).status == 503


@pytest.mark.parametrize("directive, served", [("no-cache", False), ("max-age=5", False), ("max-age=60", True)])
def test_stale_and_what_the_caller_said(directive, served):
    """A caller who set a bound on the age is not given more than that."""
    house = House(keeps=STALE)
    keep(house)
    house.fail("llama", "mistral", "qwen", now=15.0)
    telling, _ = house.begin(now=16.5, headers=[("Cache-Control", directive)])
    assert (play(telling).status == 200) is served


def test_purge():
    """All of it, or what one upstream answered; what was asked before is not kept afterwards."""
    house = House()
    keep(house)
    telling, record = house.begin(b'{"model":"creative","seed":1}', now=5.0)
    assert telling.send(None) == ask("llama")
    assert house.cache.purge("qwen", 6.0) == 0
    assert house.cache.purge("llama", 6.0) == 1
    with pytest.raises(StopIteration):
        telling.send(said(7.0))
    assert (record.cache, len(house.cache.entries)) == ("fwd=miss", 0)
    keep(house, now=8.0)
    assert house.cache.purge() == 1


def test_cleaning_up():
    """What nobody asks for any more leaves all the same, every `cleanup_interval` seconds."""
    house = House(keeps=Settings(ttl_seconds=Seconds(10), cleanup_interval=Seconds(60)))
    house.cache.tick(0.0)
    keep(house, now=1.0)
    house.cache.tick(59.0)
    assert len(house.cache.entries) == 1
    house.cache.tick(60.0)
    assert (len(house.cache.entries), house.cache.entries.expirations) == (0, 1)


def test_bounds():
    """Entries and bytes; headers and keys count."""
    house = House(keeps=Settings(max_size=2))
    for seed in range(3):
        keep(house, b'{"model":"creative","seed":%d}' % seed)
    state = house.cache.state(0.0)
    assert (state["size"], state["evictions"], state["utilization"], state["max_size"]) == (2, 1, 1.0, 2)
    house = House(keeps=Settings(max_bytes=Bytes(100)))
    telling, record = house.begin()
    play(telling, (ask("llama"), said(1.0)))
    assert record.cache == "fwd=miss"


def test_relayed_calls_are_none_of_its_business():
    """No key, nothing in the record."""
    call, record = admitted(House(), b"", target="/qwen/v1/files", method="GET")
    assert isinstance(call, Call)
    assert (call.key, record.cache, record.cache_event) == (b"", "", "")


@given(st.text(st.characters(codec="latin-1"), max_size=20))
def test_any_directive(text):
    """No caller's header field is a 500."""
    found = directives(text.lower())
    assert seconds_of(found.get("max-age", text), 1.0) >= 0
    assert seconds_of(None, 7.0) == 7.0
