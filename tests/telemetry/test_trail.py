"""What became of a call: every decision in order, and nothing of what was said."""

from __future__ import annotations

import json
from typing import Any

from guardproxy.core.values import Attempt, Call, Kind, News, Record, Reply, Target
from guardproxy.dialects.chat import Chat
from guardproxy.telemetry.feed import BODY, Feed


def told(*, bodies: bool = False, **fields: Any) -> dict[str, Any]:
    """What the feed shows of a call with these *fields*."""
    feed = Feed(lambda: 0.0, bodies=bodies)
    call = Call(
        *("r1", "POST", "/v1/chat/completions", "key=secret", [(b"Authorization", b"secret")], b'{"said":"secret"}'),
        *({"said": "secret"}, Chat()), model="creative", mode="creative", named_mode=True, stream=True,
    )  # fmt: skip
    some: dict[str, Any] = {"started": 10.0, "ended": 12.0, "call": call, "reply": Reply(200, b"secret" * 9999)}
    feed.told(Record(**some | fields), 1000.0)
    found = feed.call("r1")
    assert found is not None
    return found


def steps(one: dict[str, Any]) -> list[tuple[float, str, str]]:
    return [(step["ms"], step["what"], step["said"]) for step in one["steps"]]


STORMY: dict[str, Any] = {
    "target": Target("mistral", "mistralai/M", mode="balanced", moved_from="creative", reason="upstream_reset"),
    "attempts": [
        Attempt("llama", "meta/L", "upstream_reset", Kind.FAILURE, 10.0, 0.25),
        Attempt("mistral", "mistralai/M", "200", Kind.SUCCESS, 10.5, 1.0, first=0.5, events=9),
    ],
    "trail": [(10.25, "waits", "0.250 s")],
    "news": [News(10.25, "circuit", "llama", "closed", "open", "upstream_reset")],
    "retries": 1,
    "cache": "fwd=miss",
    "json": "valid",
    "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    "reply": Reply(200, b"secret", source="upstream"),
}


def test_every_decision_in_the_order_in_which_it_was_taken():
    assert steps(told(**STORMY)) == [
        (0.0, "asks", "mode creative, streamed"),
        (0.0, "cache", "fwd=miss"),
        (0.0, "asked", "llama (meta/L)"),
        (250.0, "waits", "0.250 s"),
        (250.0, "ended", "llama: upstream_reset, failure"),
        (250.0, "circuit", "llama: closed → open (upstream_reset)"),
        (500.0, "asked", "mistral (mistralai/M)"),
        (1000.0, "first event", "mistral"),
        (1500.0, "ended", "mistral: 200, success"),
        (2000.0, "moved", "creative → balanced: upstream_reset"),
        (2000.0, "replied", "200 from upstream, JSON valid"),
    ]


def test_what_is_known_besides():
    one = told(**STORMY)
    assert (one["tokens_in"], one["tokens_out"], one["retries"], one["ms"]) == (3, 4, 1, 2000.0)
    assert one["attempts"][1] == {
        "upstream": "mistral", "model": "mistralai/M", "label": "200", "kind": "success", "started_ms": 500.0,
        "first_ms": 500.0, "ms": 1000.0, "events": 9,
    }  # fmt: skip


def test_nothing_of_what_was_said_is_kept():
    """Neither bodies nor header fields nor the query, whatever happened."""
    assert "secret" not in json.dumps(told(**STORMY))
    assert "secret" not in json.dumps(told())


def test_unless_somebody_wants_it_so():
    """Then the beginnings of both."""
    bodies = told(bodies=True)["bodies"]
    assert bodies == {"asked": '{"said":"secret"}', "answered": ("secret" * 9999)[:BODY]}


def test_a_caller_who_left():
    one = told(reply=None, gone=True)
    assert one["status"] == 499
    assert steps(one)[-1] == (2000.0, "gone", "the caller left before there was a reply")


def test_the_latest_of_those_that_share_an_id():
    """Callers choose their ids; one that is not there has no story."""
    feed = Feed(lambda: 0.0)
    for status in (200, 502):
        call = Call("same", "POST", "/v1", "", [], b"", {}, None)
        feed.told(Record(0.0, call=call, reply=Reply(status, b"")), 1.0)
    assert feed.call("same")["status"] == 502  # type: ignore[index]
    assert feed.call("other") is None
