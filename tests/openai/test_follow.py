"""Streams that say themselves what their events are: what is content, and when an answer is whole."""

from __future__ import annotations

import re

from guardproxy.openai.events import Reader, event
from guardproxy.openai.follow import CONTENT, Follow, Told, kind_of


def follow(watch=None) -> Follow:
    def read(doc):
        return {
            "begin": Told(content=False),
            "end": Told(done=True, finished=True, usage={"output_tokens": 2}),
            "cut": Told(done=True),
            "bad": Told(error={"message": "x"}),
        }.get(kind_of(doc), CONTENT)

    return Follow(Reader(), re.compile(rb"begin|end|cut|bad"), read, lambda doc: kind_of(doc) != "hum", watch)


def told(*kinds: str) -> Follow:
    found = follow()
    for kind in kinds:
        found.feed(event({"type": kind}))
    found.close()
    return found


def test_content_is_what_the_model_has_to_say():
    """What only opens the stream is none: until the model has begun, everything can still be tried again."""
    found = follow()
    assert (found.feed(event({"type": "begin"})), found.events) == (0, 0)
    assert found.feed(event({"type": "more"}) + event({"type": "more"})) == 2
    assert not found.complete()


def test_begun_is_said_of_the_first_word():
    """What opens a block says nothing yet; what nobody can read, an error and the end do."""
    found = follow()
    found.feed(event({"type": "begin"}) + event({"type": "hum"}))
    assert (found.events, found.begun) == (1, False)
    found.feed(event({"type": "more"}))
    assert found.begun
    for kind in ("end", "cut", "bad"):
        assert told(kind).begun
    found = follow()
    found.feed(b"data: {nothing\n\n")
    assert found.begun


def test_complete_is_what_has_come_to_its_end():
    """And keepable what came to it of itself."""
    assert told("begin", "more", "end").complete()
    assert told("begin", "more", "end").keepable()
    assert told("more", "cut").complete()
    assert not told("more", "cut").keepable()
    assert not told("more").complete()
    assert told("more", "end").usage == {"output_tokens": 2}


def test_an_error_is_no_end():
    """Whatever follows it; the first error counts, and what comes after the end does not."""
    assert told("bad", "end").error == {"message": "x"}
    assert not told("bad", "end").complete()
    assert told("end", "bad").complete()


def test_a_watcher_sees_every_event_until_it_has_spoken():
    """Then the model is hung up on."""
    seen: list[object] = []

    def watch(told: object) -> str | None:
        seen.append(told)
        return "no" if told == {"type": 2} else None

    found = follow(watch)
    for number in (1, 2, 3):
        found.feed(event({"type": number}))
    assert found.hopeless == "no"
    assert len(seen) == 2


def test_odd_events_end_nothing():
    """What cannot be read is relayed as it is."""
    found = follow()
    found.feed(b'data: {end\n\ndata: ["end"]\n\ndata:\n\n')
    assert (found.events, found.done) == (2, False)
    assert kind_of([]) == kind_of({"type": 3}) == kind_of({}) == ""
