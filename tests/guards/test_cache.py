"""What makes two calls the same, what is kept, and what a caller may say about both."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest

from guardproxy.core.steps import Join
from guardproxy.core.units import Bytes, Seconds
from guardproxy.core.values import Call, Kind, Record, Relayed, Reply
from guardproxy.flow.share import is_due
from guardproxy.flow.story import story
from guardproxy.guards.cache import Settings
from guardproxy.guards.modes import Mode
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
        ("min-fresh=550", True, "hit; ttl=550"),
        ("min-fresh=551", False, "fwd=miss"),
        ("max-stale", True, "hit; ttl=550"),
        ("max-stale=9, max-age=49", False, "fwd=miss"),
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


@pytest.mark.parametrize(
    "mode, body, kept",
    [
        ({"temperature": 0}, b'{"model":"creative"}', True),
        ({"temperature": 0}, b'{"model":"creative","temperature":0.5}', False),
        ({"temperature": 0}, b'{"model":"llama"}', False),
        ({"seed": 7}, b'{"model":"creative"}', True),
        ({}, b'{"model":"creative","temperature":false}', False),
    ],
)
def test_deterministic_by_its_mode(mode, body, kept):
    """It counts what the model is asked with, which is the mode's where a call names a mode and leaves it open."""
    modes = {"creative": Mode("llama", params=mode)}
    house = House(keeps=Settings(when="deterministic"), mode_of=modes)
    _, record = admitted(house, body)
    assert record.cache == ("fwd=miss" if kept else "fwd=bypass")


@pytest.mark.parametrize("length, content_filter", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_kept_where_it_is_told(length, content_filter, stream):
    """What ended at its length, or by a filter, each where that is wanted; nothing that ended in another way."""
    house = House(keeps=Settings(keep_length=length, keep_content_filter=content_filter))
    headers = [(b"Content-Type", b"text/event-stream")]
    kept = []
    for finish in ("length", "content_filter", "recitation", ""):
        body = json.dumps({"model": "creative", "stop": finish, "stream": stream}).encode()
        telling, record = house.begin(body)
        if stream:
            chunk = {"id": "1", "choices": [{"index": 0, "delta": {"content": "cut"}, "finish_reason": finish}]}
            events = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
            play(telling, (ask("llama"), Relayed(2.0, 200, headers, Kind.SUCCESS, 1.0, True, False, events)))
        else:
            play(telling, (ask("llama"), said(1.0, "cut", finish)))
        if record.cache.endswith("stored"):
            kept.append(finish)
            assert isinstance(admitted(house, body)[0], Reply)
    assert kept == ["length"] * length + ["content_filter"] * content_filter


@pytest.mark.parametrize("coding, kept", [(b"gzip", False), (b"Identity", True)])
def test_a_coding_that_not_everybody_takes(coding, kept):
    """An upstream that compresses though it was asked not to: its answer is for the caller who may have wanted that."""
    house = House()
    telling, record = house.begin(BODY)
    answer = said(1.0, "x")
    body = gzip.compress(answer.body) if coding == b"gzip" else answer.body
    headers = [*answer.headers, (b"Content-Encoding", coding)]
    reply = play(telling, (ask("llama"), replace(answer, headers=headers, body=body)))
    assert reply.status == 200
    assert record.cache.endswith("stored") is kept


def test_choices_that_ended_differently():
    """One that was cut in a way that is not wanted is enough; one that ended of itself does not matter."""
    house = House(keeps=Settings(keep_length=True))
    for finishes, kept in ((["stop", "length"], True), (["length", "content_filter"], False)):
        body = json.dumps({"model": "creative", "n": 2, "stop": finishes}).encode()
        telling, record = house.begin(body)
        choices = [
            {"index": at, "message": {"role": "assistant", "content": "x"}, "finish_reason": finish}
            for at, finish in enumerate(finishes)
        ]
        doc = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
        answer = replace(said(1.0, "x"), body=json.dumps(doc).encode(), doc=None)
        play(telling, (ask("llama"), answer))
        assert record.cache.endswith("stored") is kept


def test_errors_and_what_broke_off_are_never_kept():
    """Whatever is told."""
    house = House(keeps=Settings(keep_length=True, keep_content_filter=True))
    telling, record = house.begin(b'{"model":"creative","stream":true}')
    headers = [(b"Content-Type", b"text/event-stream")]
    play(telling, (ask("llama"), Relayed(2.0, 200, headers, Kind.FAILURE, 1.0, False, False, b"data: x\n\n")))
    assert record.cache == "fwd=miss"
    telling, record = House(keeps=house.cache.settings).begin(b'{"model":"creative","seed":9}')
    play(telling, (ask("llama"), refused(1.0, 400)))
    assert record.cache == "fwd=miss"


@pytest.mark.parametrize(
    "store, kept", [({}, False), ({"store": None}, False), ({"store": True}, False), ({"store": False}, True)]
)
def test_responses_are_stored_on_the_server_unless_told_otherwise(store, kept):
    """A call with state on the server is no business of the cache."""
    house = House()
    body = json.dumps({"model": "creative", "input": "x", **store}).encode()
    call, record = admitted(house, body, target="/v1/responses")
    assert isinstance(call, Call)
    assert (record.cache, call.keep) == (("fwd=miss", True) if kept else ("fwd=bypass", False))


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


@pytest.mark.parametrize(
    "directive, cache",
    [
        ("max-stale", "hit; ttl=-7; detail=max-stale"),
        ("max-stale=7", "hit; ttl=-7; detail=max-stale"),
        ("max-stale=6", "fwd=miss"),
        ("max-stale=x", "fwd=miss"),
        ("max-stale=60, max-age=16", "fwd=miss"),
        ("max-stale=60, min-fresh=1", "fwd=miss"),
        ("", "fwd=miss"),
    ],
)
def test_who_takes_what_has_expired(directive, cache):
    """RFC 9111 §5.2.1.2: an expired answer to a caller who says that it will do, as long as it is there."""
    house = House(keeps=STALE)
    keep(house)
    _, record = admitted(house, now=16.5, headers=[("Cache-Control", directive)] if directive else [])
    assert record.cache == cache


FETCHED = Settings(ttl_seconds=Seconds(10), stale_while_revalidate_seconds=Seconds(20))


def test_stale_while_revalidate():
    """What has expired is shown at once, and is to be fetched anew; as long as it was allowed."""
    house = House(keeps=FETCHED)
    kept = keep(house)
    reply, record = admitted(house, now=16.5)
    assert isinstance(reply, Reply)
    assert (reply.body, reply.source) == (kept.body, "cache")
    assert (record.cache, record.cache_event, record.age) == (
        "hit; ttl=-7; detail=stale-while-revalidate",
        "hit",
        16,
    )
    call = record.refresh
    assert call is not None
    assert is_due(call, house.rules, 16.5)
    play(story(call, house.rules, Record(16.5), 16.5), (ask("llama"), said(18.0, "new")))
    again, record = admitted(house, now=19.0)
    assert isinstance(again, Reply)
    assert b"new" in again.body
    assert (record.cache, record.refresh) == ("hit; ttl=9", None)
    assert isinstance(admitted(house, now=60.0)[0], Call)


@pytest.mark.parametrize(
    "directive", ["no-cache", "no-store", "max-age=10", "min-fresh=1", "only-if-cached, max-age=1"]
)
def test_who_does_not_take_it(directive):
    """A caller who set a bound gets nothing older."""
    house = House(keeps=FETCHED)
    keep(house)
    reply, record = admitted(house, now=16.5, headers=[("Cache-Control", directive)])
    assert record.refresh is None
    assert not (isinstance(reply, Reply) and reply.status == 200)


def test_who_wants_nobody_asked():
    """He is shown what there is, and nobody is asked in the background either."""
    house = House(keeps=Settings(ttl_seconds=Seconds(10), stale_while_revalidate_seconds=Seconds(20)))
    keep(house)
    reply, record = admitted(house, now=15.0, headers=[("Cache-Control", "Only-If-Cached")])
    assert isinstance(reply, Reply)
    assert (reply.source, record.refresh) == ("cache", None)


def test_it_is_fetched_once():
    """While it is being fetched nobody else fetches it, and a caller who cannot wait for it joins."""
    house = House(keeps=FETCHED)
    keep(house)
    first, second = admitted(house, now=16.5)[1].refresh, admitted(house, now=16.5)[1].refresh
    assert first is not None
    assert second is not None
    telling = story(first, house.rules, Record(16.5), 16.5)
    telling.send(None)
    assert not is_due(second, house.rules, 16.5)
    other, _ = admitted(house, now=17.0, headers=[("Cache-Control", "max-age=10")])
    assert isinstance(other, Call)
    assert isinstance(story(other, house.rules, Record(17.0), 17.0).send(None), Join)


def test_it_is_fetched_within_the_budget():
    """A model that can bear no more retries is not asked for this either."""
    house = House(keeps=FETCHED, share=0.0, floor=0.0)
    keep(house)
    _, record = admitted(house, now=16.5)
    assert record.refresh is not None
    assert not is_due(record.refresh, house.rules, 16.5)


def test_shadow():
    """Looked up, counted, kept; but every call goes on, nobody is told, and nobody waits for anybody."""
    house = House(keeps=replace(STALE, enabled="shadow"))
    telling, record = house.begin()
    reply = play(telling, (ask("llama"), said(1.0)))
    assert (record.cache, record.cache_event, reply.status) == ("", "miss", 200)
    assert len(house.cache.entries) == 1
    call, record = admitted(house, now=2.0)
    assert isinstance(call, Call)
    assert (record.cache, record.cache_event, call.flight) == ("", "hit", b"")
    house.fail("llama", "mistral", "qwen", now=15.0)
    telling, _ = house.begin(now=16.5)
    assert play(telling).status == 503


def test_jitter_only_shortens():
    """With `ttl_jitter` entries end at different times, none after `ttl_seconds`, none before the part that is sure."""
    house = House(keeps=Settings(ttl_seconds=Seconds(100), ttl_jitter=0.5))
    for seed in range(50):
        keep(house, b'{"model":"creative","seed":%d}' % seed)
    ends = [entry.expires for entry in house.cache.entries._entries.values()]
    assert all(50 <= end <= 100 for end in ends)
    assert len(set(ends)) == 50


STREAMED = b'{"model":"creative","messages":[],"stream":true%b}'
TOLD = b'{"model":"creative","messages":[],"stream":true,"stream_options":{"include_usage":true}}'


def test_either_kind_of_caller():
    """A whole answer is shown as a stream, and a stream as a whole answer; each says the same."""
    house = House()
    keep(house, text="hi")
    reply, record = admitted(house, STREAMED % b"")
    assert isinstance(reply, Reply)
    assert (reply.events, record.cache) == (True, "hit; ttl=600")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert b'"usage"' not in reply.body
    assert (b"Content-Type", b"text/event-stream") in reply.headers
    told, _ = admitted(house, TOLD)
    assert isinstance(told, Reply)
    assert b'"usage":{' in told.body
    house = House()
    telling, _ = house.begin(STREAMED % b"")
    headers = [(b"Content-Type", b"text/event-stream")]
    play(telling, (ask("llama"), Relayed(2.0, 200, headers, Kind.SUCCESS, 1.0, True, True, reply.body)))
    whole, _ = admitted(house)
    assert isinstance(whole, Reply)
    assert json.loads(whole.body)["choices"][0]["message"]["content"] == "hi"
    assert whole.headers == [(b"Content-Type", b"application/json")]
    call, record = admitted(house, TOLD)  # nobody told how many tokens it took
    assert isinstance(call, Call)
    assert record.cache == "fwd=miss"


def test_embeddings_are_of_one_kind():
    """Vectors do not stream."""
    house = House()
    body, target = b'{"model":"llama","input":"x"}', "/v1/embeddings"
    telling, record = house.begin(body, target=target)
    play(telling, (ask("llama"), answered(1.0, 200, b'{"data":[{"embedding":[1.0]}]}')))
    assert record.cache == "fwd=miss; stored"
    assert isinstance(admitted(house, body, target=target)[0], Reply)
    other = b'{"model":"llama","input":"x","encoding_format":"base64"}'
    assert isinstance(admitted(house, other, target=target)[0], Call)


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
