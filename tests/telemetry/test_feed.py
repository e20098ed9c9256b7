"""The latest events and calls, bounded, and without what the calls carried."""

from __future__ import annotations

import gc

from guardproxy.core.values import Attempt, Call, Kind, News, Record, Reply, Target
from guardproxy.telemetry.feed import Feed


def call(path: str = "/v1/chat/completions", body: bytes = b"{}") -> Call:
    return Call("r1", "POST", path, "", [], body, {}, None)


def test_a_call_in_a_few_words():
    feed = Feed(lambda: 1000.5)
    target = Target("mistral", mode="balanced", moved_from="creative", reason="circuit_open")
    attempts = [Attempt("mistral", "id", "200", Kind.SUCCESS, 1.0, 0.5)]
    feed.told(
        Record(
            started=1.0, ended=2.0, call=call(), reply=Reply(200, b"", source="upstream"), target=target,
            attempts=attempts, cache="fwd=miss", json="valid",
        ),
        1000.5,
    )  # fmt: skip
    assert feed.calls() == [
        {
            "serial": 1, "at": 1000.5, "id": "r1", "method": "POST", "path": "/v1/chat/completions",
            "status": 200, "code": "", "source": "upstream", "upstream": "mistral", "mode": "balanced",
            "from": "creative", "reason": "circuit_open", "attempts": 1, "cache": "fwd=miss", "json": "valid",
            "gone": False, "ms": 1000.0, "trace": "",
        }
    ]  # fmt: skip


def test_an_event():
    feed = Feed(lambda: 1000.5)
    feed.news(News(5.0, "circuit", "llama", "closed", "open", "failures"))
    assert feed.events() == [
        {
            "serial": 1, "at": 1000.5, "what": "circuit", "subject": "llama", "from": "closed", "to": "open",
            "reason": "failures",
        }
    ]  # fmt: skip


def test_it_is_bounded():
    """Only the last are kept, oldest first."""
    feed = Feed(lambda: 0.0, events=3, calls=2)
    for number in range(5):
        feed.news(News(0.0, "circuit", str(number), "closed", "open"))
        feed.told(Record(started=0.0, call=call(f"/{number}")), 1.0)
    assert [event["subject"] for event in feed.events()] == ["2", "3", "4"]
    assert [one["path"] for one in feed.calls()] == ["/3", "/4"]
    assert repr(feed) == "<Feed 3 events, 2 calls>"


def test_a_reader_may_ask_for_what_is_new():
    """Serial numbers run through both lists, so that one number says what he has seen."""
    feed = Feed(lambda: 0.0)
    feed.news(News(0.0, "circuit", "a", "closed", "open"))
    feed.told(Record(started=0.0), 1.0)
    seen = max(feed.events()[-1]["serial"], feed.calls()[-1]["serial"])
    assert feed.events(seen) == feed.calls(seen) == []
    feed.news(News(0.0, "circuit", "a", "open", "closed"))
    assert [event["to"] for event in feed.events(seen)] == ["closed"]


def test_it_does_not_keep_the_call():
    """Bodies are large, and are none of anybody's business afterwards."""
    feed = Feed(lambda: 0.0)
    record = Record(started=0.0, call=call("/" + "x" * 9000, b"a secret" * 1000))
    feed.told(record, 1000.5)
    assert len(feed.calls()[0]["path"]) == 200
    assert not any(isinstance(referrer, tuple) for referrer in gc.get_referrers(record.call))


def test_a_caller_who_left_has_a_status_too():
    feed = Feed(lambda: 0.0)
    feed.told(Record(started=0.0, call=call(), gone=True), 1.0)
    assert (feed.calls()[0]["status"], feed.calls()[0]["gone"]) == (499, True)
