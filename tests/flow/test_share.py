"""What one does who finds his question on its way already."""

from __future__ import annotations

import pytest

from guardproxy.core.steps import Fetch, Fetched, Join, Landed
from guardproxy.core.values import Fault, Kind, Record, Relayed, Reply, Target
from guardproxy.guards.cache import Settings
from guardproxy.openai.keeping import Kept, pack
from tests.flow.playbook import GUARDED, House, ask, broke, code, play, refused, said

OTHER = b'{"model":"creative","messages":[],"seed":1}'


class Silent:
    """A listener of whom only the place is needed."""

    def __init__(self):
        self.heard = []

    def land(self, reply):
        self.heard.append(reply)


def begin(house, **how):
    """A story that has begun, what it wants first, and its record."""
    telling, record = house.begin(**how)
    return telling, telling.send(None), record


def finish(telling, outcome):
    """What the story comes to."""
    with pytest.raises(StopIteration) as end:
        telling.send(outcome)
    return end.value.value


def test_the_second_one_joins():
    """The same call is asked once; the second caller gets the first one's answer, and it is a hit."""
    house = House()
    leader, first, led = begin(house)
    assert first == ask("llama")
    follower, step, record = begin(house)
    assert isinstance(step, Join)
    assert step.flight is led.flight
    listener = Silent()
    step.flight.join(listener)
    answer = finish(leader, said(1.0, "hi"))
    assert listener.heard == [answer]
    reply = finish(follower, Landed(1.0, answer))
    assert (reply.status, reply.body, reply.source, reply.keepable) == (200, answer.body, "cache", False)
    assert (record.cache, record.cache_event, record.attempts) == ("fwd=miss; collapsed", "hit", [])
    assert record.target == led.target
    assert len(house.rules.flights) == 0
    assert len(house.cache.entries) == 1


def test_another_call_does_not():
    """Another body, another tenant, a caller who may not be moved, one who skips a guard, one who wants it fresh."""
    house = House()
    leader = begin(house)
    for how in (
        {"body": OTHER},
        {"headers": [("Authorization", "Bearer b")]},
        {"headers": [("X-Guardproxy-Downshift", "never")]},
        {"headers": [("X-Guardproxy-Priority", "batch")]},
        {"headers": [("X-Guardproxy-Skip", "json")]},
        {"headers": [("Cache-Control", "no-cache")]},
        {"headers": [("Cache-Control", "no-store")]},
        {"headers": [("Cache-Control", "max-age=0")]},
        {"headers": GUARDED},
        {"body": b'{"model":"creative","messages":[],"stream":true}'},
    ):
        _, step, _ = begin(house, **how)
        assert not isinstance(step, Join), how
    assert len(house.rules.flights) == 1
    assert leader[2].flight is not None


def test_off():
    """`single_flight: false`: everybody asks for himself."""
    house = House(keeps=Settings(single_flight=False))
    leader = begin(house)
    _, step, record = begin(house)
    assert step == ask("llama")
    assert (record.flight, leader[2].flight) == (None, None)


@pytest.mark.parametrize(
    "came",
    [
        Reply(503, b"{}", source="fault", code="circuit_open"),
        Reply(502, b"{}", source="upstream"),
        Reply(429, b"{}", source="upstream"),
        Reply(200, b"{}", source="fallback"),
        None,
    ],
)
def test_a_failed_leader_has_one_heir(came):
    """What another try may change is tried once more by the first of those who waited; the others wait for him."""
    house = House()
    leader, _, led = begin(house)
    first, step, heir = begin(house)
    second, _, _ = begin(house)
    led.flight.end(came)
    assert isinstance(step, Join)
    assert first.send(Landed(5.0, came)) == ask("llama")
    again = second.send(Landed(5.0, came))
    assert isinstance(again, Join)
    assert again.flight is heir.flight
    answer = finish(first, said(6.0))
    assert heir.attempts[0].started == 5.0
    assert finish(second, Landed(6.0, answer)).status == 200
    leader.close()


def test_what_fails_twice_is_everybodys():
    """An outage is told to all who wait after the second try, instead of by one try after the other."""
    house = House()
    leader, _, led = begin(house)
    first, _, heir = begin(house)
    second, _, record = begin(house)
    came = Reply(502, b'{"error":{"code":"x"}}', [(b"Retry-After", b"3"), (b"Set-Cookie", b"a")], source="fault")
    led.flight.end(came)
    first.send(Landed(5.0, came))
    second.send(Landed(5.0, came))
    heir.flight.end(came)
    reply = finish(second, Landed(6.0, came))
    assert (reply.status, code(reply), reply.headers) == (502, "x", [(b"Retry-After", b"3")])
    assert (record.cache, record.cache_event) == ("fwd=miss; collapsed", "miss")
    leader.close()
    first.close()


def test_the_callers_own_mistake_is_the_same_mistake():
    """A 400 would be another 400."""
    house = House()
    leader, _, _ = begin(house)
    follower, _, _ = begin(house)
    answer = finish(leader, refused(1.0, 400))
    reply = finish(follower, Landed(1.0, answer))
    assert (reply.status, reply.body, reply.source) == (400, answer.body, "upstream")


def test_his_own_time_is_over():
    """A caller whose time ends first gets 504, and nobody is asked for him."""
    house = House()
    leader = begin(house)
    follower, _, _ = begin(house)
    reply = finish(follower, Landed(600.0, Fault(600.0, "upstream_timeout", "too late", status=504)))
    assert (reply.status, code(reply)) == (504, "upstream_timeout")
    assert leader[2].flight.condition.value == "alone"


def test_what_has_left_has_left():
    """A stream that he has heard some of cannot be tried again, however it ended."""
    house = House()
    body = b'{"model":"creative","messages":[],"stream":true}'
    leader, _, _ = begin(house, body=body)
    follower, _, _ = begin(house, body=body)
    relayed = Relayed(2.0, 200, [], Kind.FAILURE, 1.0, complete=False)
    finish(leader, relayed)
    reply = finish(follower, Landed(2.0, Reply(200, b"", sent=True, events=True)))
    assert reply.sent


def test_stale_is_told_as_stale():
    """Who joined a call that ended with an expired answer is told how old it is."""
    house = House()
    leader, _, led = begin(house)
    follower, _, record = begin(house)
    led.cache, led.age = "hit; ttl=-7; detail=stale-if-error", 17
    reply = finish(follower, Landed(2.0, Reply(200, b"{}", source="stale")))
    assert (reply.source, record.cache, record.age, record.cache_event) == ("stale", led.cache, 17, "miss")
    leader.close()


def test_the_end_of_a_story_is_the_end_of_its_flight():
    """Whatever ends it: an answer, an error, a caller who leaves."""
    house = House()
    for outcome in (said(1.0), refused(1.0, 400)):
        telling, _, record = begin(house)
        listener = Silent()
        record.flight.join(listener)
        reply = finish(telling, outcome)
        assert (listener.heard, len(house.rules.flights)) == ([reply], 0)
        house.cache.purge()
    telling, _, record = begin(house)
    listener = Silent()
    record.flight.join(listener)
    telling.close()
    assert (listener.heard, len(house.rules.flights)) == ([None], 0)


def test_a_try_elsewhere_is_the_same_flight():
    """Those who have joined wait through the retries of the leader."""
    house = House()
    leader, _, led = begin(house)
    flight = led.flight
    assert leader.send(broke(1.0)) == ask("mistral")
    assert house.rules.flights.find(flight.key) is flight
    play_on = finish(leader, said(2.0))
    assert play_on.status == 200
    assert play(house.begin(OTHER, now=3.0)[0], (ask("mistral"), said(4.0))).status == 200


def test_another_proxy_is_asked_first():
    """Where there is a far store a miss looks there before any model is asked, and only a miss does."""
    house = House()
    house.rules.far = True
    telling, step, record = begin(house)
    assert isinstance(step, Fetch)
    assert telling.send(Fetched(2.0, None)) == ask("llama")
    finish(telling, said(3.0))
    assert record.kept is not None
    assert record.attempts[0].started == 2.0
    _, step, _ = begin(house, headers=[("Cache-Control", "no-cache")])
    assert step == ask("llama")


def test_what_another_proxy_was_told():
    """It is a hit, kept here for the rest of its time; whoever has joined is told too."""
    house = House()
    house.rules.far = True
    telling, _, _ = begin(house, now=100.0)
    telling.send(Fetched(100.0, None))
    with pytest.raises(StopIteration):
        telling.send(said(101.0, "hi"))
    known = house.cache.entries._entries.copy().popitem()[1].value
    other = House()
    other.rules.far = True
    leader, _, led = begin(other, now=200.0)
    follower, _, _ = begin(other, now=200.0)
    listener = Silent()
    led.flight.join(listener)
    reply = finish(leader, Fetched(201.0, pack(known, 101.0, 701.0)))
    assert (reply.source, led.cache, led.age) == ("cache", "hit; ttl=500; detail=shared", 100)
    assert listener.heard == [reply]
    assert finish(follower, Landed(201.0, reply)).body == reply.body
    again = other.admit(Record(210.0), b'{"model":"creative","messages":[]}', now=210.0)
    assert isinstance(again, Reply)


@pytest.mark.parametrize("found", [b"", b"nonsense", "expired", "purged"])
def test_what_is_of_no_use(found):
    """What cannot be read, has expired or was to be forgotten is not there: the model is asked."""
    house = House()
    house.rules.far = True
    kept = Kept(b"HTTP/1.1 200 OK\r\n", b"{}", False, None, Target("llama", "llama-id", "creative"), "")
    if found == "expired":
        found = pack(kept, 0.0, 150.0)
    elif found == "purged":
        house.cache.purge(None, 150.0)
        found = pack(kept, 140.0, 700.0)
    telling, _, record = begin(house, now=200.0)
    assert telling.send(Fetched(200.0, found)) == ask("llama")
    assert record.cache == "fwd=miss"
    telling.close()
