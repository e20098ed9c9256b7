"""The log: what a line says, what it never says, and that writing one stops nobody."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import Any

import orjson
import pytest

from guardproxy.core.values import Attempt, Call, Kind, News, Record, Reply, Target
from guardproxy.telemetry.log import BATCH, Log

NOON = 1_700_000_000.25


class Pipe:
    """A log that writes into a pipe, whose other end is read when a test says so."""

    def __init__(self, **settings: Any) -> None:
        self.reader, self.writer = os.pipe()
        self.log = Log(self.writer, lambda: NOON, **settings)

    def text(self) -> str:
        """What has been written, all of it; the log is at its end then."""
        self.log.close()
        os.close(self.writer)
        self.writer = -1
        with os.fdopen(self.reader, "rb", closefd=False) as stream:
            return stream.read().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text().splitlines()]

    def drain(self, lines: int) -> bytes:
        """Read until so many *lines* have come."""
        read = b""
        while read.count(b"\n") < lines:
            read += os.read(self.reader, 1 << 16)
        return read

    def close(self) -> None:
        """The thread has to be at its end before its descriptor may become somebody else's."""
        if self.reader >= 0:
            os.close(self.reader)
        self.log.close(10)
        if self.writer >= 0:
            os.close(self.writer)


@pytest.fixture
def pipe():
    made = []

    def make(**settings):
        made.append(Pipe(**settings))
        return made[-1]

    yield make
    for one in made:
        one.close()


def call(**fields: Any) -> Call:
    some: dict[str, Any] = {
        "id": "r1", "method": "POST", "path": "/v1/chat/completions", "query": "api_key=sk-verysecret",
        "headers": [(b"Authorization", b"Bearer sk-verysecret")], "body": b'{"prompt":"a secret"}',
        "doc": {"prompt": "a secret"}, "dialect": None, "model": "gpt-4o",
    }  # fmt: skip
    return Call(**some | fields)


def record(**fields: Any) -> Record:
    some: dict[str, Any] = {"started": 10.0, "ended": 10.9, "call": call(), "reply": Reply(200, b"", source="upstream")}
    return Record(**some | fields)


def test_a_call_is_one_line_of_json(pipe):
    """All that is known of it, in words that can be searched for; what does not apply is left out."""
    one = pipe()
    target = Target("mistral", model="mistralai/M", mode="balanced", moved_from="creative", reason="circuit_open")
    attempts = [
        Attempt("llama", "x", "502", Kind.FAILURE, 10.0, 0.0123),
        Attempt("mistral", "x", "200", Kind.SUCCESS, 10.1, 0.75, first=0.2),
    ]
    one.log.told(
        record(
            call=call(stream=True), target=target, attempts=attempts, retries=1, asks_again=2, gone=True,
            cache="fwd=miss", json="retried", usage={"prompt_tokens": 9, "completion_tokens": 4},
        ),
        NOON,
    )  # fmt: skip
    one.log.told(record(), NOON)
    full, sparse = one.lines()
    assert full == {
        "ts": "2023-11-14T22:13:20.250Z", "level": "info", "msg": "request", "id": "r1", "method": "POST",
        "path": "/v1/chat/completions", "status": 200, "ms": 900.0, "source": "upstream", "upstream": "mistral",
        "model": "mistralai/M", "mode": "balanced", "from": "creative", "reason": "circuit_open",
        "attempts": [
            {"upstream": "llama", "label": "502", "ms": 12.3}, {"upstream": "mistral", "label": "200", "ms": 750.0}
        ],
        "first_ms": 300.0, "retries": 1, "asks_again": 2, "cache": "fwd=miss", "json": "retried",
        "tokens_in": 9, "tokens_out": 4, "stream": True, "gone": True,
    }  # fmt: skip
    assert sparse == {
        "ts": "2023-11-14T22:13:20.250Z", "level": "info", "msg": "request", "id": "r1", "method": "POST",
        "path": "/v1/chat/completions", "status": 200, "ms": 900.0, "source": "upstream",
    }  # fmt: skip


@pytest.mark.parametrize(
    "reply, level, status",
    [
        (Reply(200, b"", source="upstream"), "info", 200),
        (Reply(429, b"", source="upstream"), "info", 429),
        (None, "info", 499),
        (Reply(200, b"", source="fallback"), "warning", 200),
        (Reply(200, b"", source="stale"), "warning", 200),
        (Reply(503, b"", source="fault", code="circuit_open"), "error", 503),
        (Reply(504, b"", source="fault", code="not_cached"), "info", 504),
        (Reply(200, b"", source="own"), "debug", 200),
        (Reply(403, b"", source="own", code="forbidden"), "info", 403),
    ],
)
def test_the_level_of_a_call(pipe, reply, level, status):
    """Answered as asked: info; otherwise answered: warning; not answered: error; probes and scrapes: debug."""
    one = pipe(level="debug")
    one.log.told(record(reply=reply), NOON)
    (line,) = one.lines()
    assert (line["level"], line["status"]) == (level, status)


def test_what_is_below_the_level_is_not_written(pipe):
    one = pipe(level="warning")
    one.log.told(record(), NOON)
    one.log.say("info", "started")
    one.log.say("warning", "draining")
    assert [line["msg"] for line in one.lines()] == ["draining"]


def test_only_a_share_of_what_went_well_is_written(pipe):
    """Evenly spread, without dice; whatever went wrong, or was not answered as asked, is written."""
    one = pipe(share=0.25)
    for number in range(8):
        one.log.told(record(call=call(id=f"good{number}")), NOON)
    for source, status in (("fallback", 200), ("fault", 502)):
        one.log.told(record(reply=Reply(status, b"", source=source)), NOON)
    assert [line["id"] for line in one.lines()] == ["good3", "good7", "r1", "r1"]


@pytest.mark.parametrize(
    "news, level",
    [
        (News(1.0, "circuit", "llama", "closed", "open", "failures"), "warning"),
        (News(1.0, "circuit", "llama", "half_open", "closed"), "info"),
        (News(1.0, "health", "llama", "healthy", "unhealthy"), "warning"),
        (News(1.0, "ceiling", "global", "creative", "balanced", "circuit_open"), "warning"),
    ],
)
def test_a_change_of_state(pipe, news, level):
    one = pipe()
    one.log.news(news)
    (line,) = one.lines()
    assert line.pop("ts") == "2023-11-14T22:13:20.250Z"
    assert line.pop("reason", "") == news.reason
    assert line == {"level": level, "msg": news.what, "subject": news.subject, "old": news.old, "new": news.new}


@pytest.mark.parametrize("human", [False, True])
def test_secrets_are_not_written(pipe, human):
    """Neither header fields nor bodies nor query strings, at any level."""
    one = pipe(level="debug", human=human)
    one.log.told(record(target=Target("llama"), attempts=[Attempt("llama", "x", "200", Kind.SUCCESS, 1.0, 1.0)]), NOON)
    assert "secret" not in one.text()


@pytest.mark.parametrize(
    "words, written",
    [
        ("refused: Authorization: Bearer abc.def-ghi", "refused: Authorization: Bearer ***"),
        ("http://user:pa55@host:80/v1 refused", "http://***@host:80/v1 refused"),
        ("http://host:80/v1 refused", "http://host:80/v1 refused"),
        ("no such key sk-proj-abcdefghijk here", "no such key *** here"),
        ("GET /x?api_key=abc&n=1", "GET /x?api_key=***&n=1"),
        ('{"api-key": "abc", "n": 1}', '{"api-key": "***", "n": 1}'),
        ("took 60 tokens", "took 60 tokens"),
        ("a\nb\x1b[31m\u202e\x9b", r"a\nb\x1b[31m\u202e\x9b"),
        ("한국어", "한국어"),
    ],
)
def test_the_words_of_an_error(pipe, words, written):
    """They may hold anything: what looks like a key is struck out, what moves a cursor is spelled out."""
    one = pipe()
    one.log.say("error", words, error=ValueError(words), several=[words], deep={"a": words})
    (line,) = one.lines()
    assert line["msg"] == line["error"] == written
    assert line["several"] == [written]
    assert line["deep"] == {"a": written}


INJECTION = '/v1\n{"level":"error"}\r\x1b[2J\x85\u2028\u2029\x9b\x7f\udcff'


@pytest.mark.parametrize("human", [False, True])
def test_a_caller_cannot_forge_a_line(pipe, human):
    """Whatever is in his path or model: one call, one line, and no character that a terminal obeys."""
    one = pipe(human=human)
    odd = call(path=INJECTION, method="G\nET", model=INJECTION)
    one.log.told(
        record(call=odd, target=Target("llama"), reply=Reply(502, b"", source="upstream", code=INJECTION)), NOON
    )
    text = one.text()
    assert text.count("\n") == 1
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()


def test_what_a_caller_wrote_is_cut(pipe):
    one = pipe()
    one.log.told(record(call=call(path="/" + "x" * 100_000, model="m" * 100_000), target=Target("llama")), NOON)
    assert len(one.text()) < 1000


def test_for_a_person(pipe):
    """Time of day, level, what happened, and the particulars."""
    one = pipe(human=True)
    attempts = [Attempt("llama", "x", "200", Kind.SUCCESS, 10.0, 0.75)]
    one.log.told(record(target=Target("llama", model="meta"), attempts=attempts, cache="hit; ttl=4"), NOON)
    one.log.say("warning", "draining", seconds=25)
    assert one.text().splitlines() == [
        (
            "22:13:20.250 info    POST /v1/chat/completions 200 900ms id=r1 source=upstream upstream=llama model=meta"
            ' attempts=llama:200:750ms cache="hit; ttl=4"'
        ),
        "22:13:20.250 warning draining seconds=25",
    ]


def test_a_line_is_not_a_write(pipe):
    """Lines wait for a flush, or for 64 KiB."""
    one = pipe()
    one.log.told(record(), NOON)
    assert repr(one.log).startswith("<Log 1 lines, ")
    one.log.flush()
    assert one.drain(1).count(b"\n") == 1
    for _ in range(BATCH // 1000):
        one.log.say("info", "x", filler="y" * 1000)
    assert len(one.drain(50)) >= BATCH // 2


def test_nobody_reads(pipe):
    """The writer is never held up; what does not fit is dropped and counted, and told of when there is room."""
    one = pipe(waiting=200_000)
    began = time.monotonic()
    for number in range(1000):
        one.log.say("info", str(number), filler="y" * 1000)
    one.log.flush()
    assert time.monotonic() - began < 5
    dropped = one.log.dropped
    assert 700 < dropped < 1000
    kept = one.drain(1000 - dropped)
    assert [orjson.loads(line)["msg"] for line in kept.splitlines()] == [str(n) for n in range(1000 - dropped)]
    one.log.close()
    one.log.flush()
    one.log.say("info", "after")
    told, after = one.lines()
    assert (told["msg"], told["lines"], after["msg"]) == ("log lines dropped", dropped, "after")


def test_closing_does_not_wait_for_ever(pipe):
    one = pipe()
    for _ in range(200):
        one.log.say("info", "x", filler="y" * 1000)
    began = time.monotonic()
    one.log.close(seconds=0.05)
    assert time.monotonic() - began < 2
    one.drain(200)  # lets the thread end


def test_the_reader_has_gone(pipe):
    """Its lines are lost and counted; nothing is raised, and the log does not talk to itself about it."""
    one = pipe()
    os.close(one.reader)
    one.reader = -1
    one.log.say("info", "a")
    one.log.say("info", "b")
    one.log.close()
    assert one.log.dropped == 2
    one.log.flush()
    one.log.close()
    assert one.log.dropped == 2


def test_a_terminal_that_somebody_made_non_blocking(pipe):
    """Lines arrive whole all the same."""
    one = pipe()
    os.set_blocking(one.writer, False)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(one.drain(500)))
    for number in range(500):
        one.log.say("info", str(number), filler="y" * 1000)
    one.log.flush()
    reader.start()
    reader.join(10)
    assert [orjson.loads(line)["msg"] for line in got[0].splitlines()] == [str(n) for n in range(500)]


def test_milliseconds_follow_the_clock():
    """The second is kept, the milliseconds are not."""
    moments = iter([NOON, NOON + 0.7, NOON + 0.75, NOON - 3600])
    log = Log(1, lambda: next(moments))
    stamps = [log._stamp(next(moments)) for _ in range(4)]
    assert [re.sub(r".*T", "", stamp) for stamp in stamps] == [
        "22:13:20.250Z", "22:13:20.950Z", "22:13:21.000Z", "21:13:20.250Z",
    ]  # fmt: skip
