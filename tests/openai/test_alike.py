"""An event is known by its bytes only where decoding it would say the same."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardproxy.openai.alike import PATIENCE, Alike
from guardproxy.openai.completion import Assembly
from guardproxy.openai.scan import Scan
from guardproxy.openai.strict import loads


def chunk(text, index=0, **more):
    delta = {"content": text, **more.pop("delta", {})}
    return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": None, **more}], "usage": None}


def written(doc):
    return json.dumps(doc, ensure_ascii=False).encode("utf-8", "surrogatepass")


def learned(text="a"):
    alike = Alike()
    alike.learn(written(chunk(text)), 0)
    return alike


@pytest.mark.parametrize("text", ["", "b", "two words", 'a "quoted" \\ one', "\n\t", "ü☃😀", "{}", "content", "\x7f"])
@pytest.mark.parametrize("plain", [True, False])
def test_the_next_few_characters(text, plain):
    """Whatever they are, however they are escaped."""
    assert learned().text(json.dumps(chunk(text), ensure_ascii=plain).encode()) == text


@pytest.mark.parametrize(
    "payload",
    [
        written({**chunk("b"), "id": "d"}),
        written(chunk("b", 1)),
        written(chunk("b", finish_reason="stop")),
        written(chunk("b"))[:-1],
        written(chunk("b")) + b" ",
        written(chunk("b")).replace(b'"b"', b'"b", "x": "c"'),
        written(chunk("b")).replace(b'"b"', b'"b\xff"'),
        written(chunk("b")).replace(b'"b"', b'"b\n"'),
        written(chunk("b")).replace(b'"b"', b'"\\ud800"'),
        written(chunk("b")).replace(b'"b"', b'"\\"'),
        written(chunk("b")).replace(b'"b"', b"null"),
        b"",
        b"[DONE]",
    ],
)
def test_what_is_not_alike(payload):
    """It is decoded: it does more, does something else, or nobody can read it."""
    assert learned().text(payload) is None


def test_what_nothing_can_be_learned_from():
    """An event in which it cannot be told by its bytes what it adds, or that does more."""
    for payload, index in (
        (b'{"content": "x", "choices": [{"index": 0, "delta": {"content": "y"}}]}', 0),
        (written(chunk("a")), None),
        (b"{}", 0),
    ):
        alike = learned()
        alike.learn(payload, index)
        assert alike.text(written(chunk("b"))) is None


def test_whoever_gives_each_event_a_time_of_its_own():
    """Nothing is learned any more where no event has been like the one before it for a while."""
    alike = Alike()
    for number in range(PATIENCE + 3):
        assert alike.text(written({"created": number, **chunk("a")})) is None
        alike.learn(written({"created": number, **chunk("a")}), 0)
    assert alike.text(written({"created": PATIENCE + 2, **chunk("b")})) is None


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
odd = st.sampled_from(
    [
        {"id": "c", "choices": [], "usage": {"completion_tokens": 3}},
        chunk("x", finish_reason="stop"),
        chunk("x", 1),
        chunk("x", delta={"role": "assistant"}),
        {"error": {"message": "no"}},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]},
    ]
)


@given(st.lists(texts.map(chunk) | odd, max_size=20), st.booleans())
def test_it_says_the_same(chunks, plain):
    """Property: what is put together is what decoding each event would have told, and so is every verdict on it."""
    heard: list[str] = []
    told: list[str | None] = []
    scan, slow = Scan(1, _Ears(heard)).assemble(), Assembly()
    for one in chunks:
        payload = json.dumps(one, ensure_ascii=plain).encode()
        scan.feed(b"data: " + payload + b"\n\n")
        slow.add(loads(payload))
        told += [piece["delta"].get("content") for piece in one.get("choices", ())]
    assert scan.told() == slow.whole()
    assert heard == [text for text in told if text is not None]
    assert scan.events == len(chunks)


class _Ears:
    """Hears what is said."""

    at = 0

    def __init__(self, heard):
        self._heard = heard

    def __call__(self, event):
        self._heard += [
            piece["delta"]["content"] for piece in event.get("choices", ()) if "content" in piece.get("delta", {})
        ]

    def heard(self, index, text):
        del index
        self._heard.append(text)
