"""What is made of a verdict: an answer ended early is not valid, and one that has left is at least counted."""

from __future__ import annotations

from dataclasses import replace

from guardproxy.core.values import Answer, Attempt, Call, Kind, Record, Reply, Schema, Verdict, Wrong
from guardproxy.flow import verdicts
from tests.flow.playbook import House, said


def call(body: bytes = b'{"model":"creative"}') -> Call:
    got = House().read(body)
    assert isinstance(got, Call)
    return got


def test_a_hopeless_answer_is_not_valid():
    """Its reason is in the words that the model is told."""
    verdict = verdicts.hopeless(Answer(1.0, 200, [], b"", hopeless="x: expected a number"), 1)
    assert (verdict.label, verdict.flawed) == ("invalid", True)
    assert "x: expected a number" in str(verdict.note)
    assert verdict.wrong == Wrong(str(verdict.note), 1)


def test_what_left_is_read_where_it_can_be():
    """A stream that is none, or holds none, is not judged."""
    one = replace(call(), schema=Schema("s", None, b""))
    events = Reply(200, b'data: {"choices": [{"delta": {"content": "x"}, "index": 0}]}\n\ndata: [DONE]\n\n')
    answer = verdicts.left(one, events, 2.0)
    assert answer is not None
    assert answer.doc["choices"][0]["message"]["content"] == "x"
    assert verdicts.left(one, Reply(200, b"data: {\n\n"), 2.0) is None
    assert verdicts.left(one, Reply(200, b": nothing\n\n"), 2.0) is None
    assert verdicts.left(one, Reply(200, b""), 2.0) is None
    assert verdicts.left(call(), events, 2.0) is None


def test_what_left_is_counted():
    """What would not have passed is not kept, nor what is counted only, in shadow or by a lenient schema."""
    verdicts.note(None, Reply(200, b""), Record(0.0))
    for verdict, label, failures, kept in [
        (Verdict("valid"), "valid", 0, True),
        (Verdict("invalid", "no", flawed=True), "unchecked", 1, False),
        (Verdict("repaired", answer=said(1.0), flawed=True), "unchecked", 1, False),
        (Verdict("unchecked", flawed=True), "unchecked", 1, False),
        (Verdict("unchecked"), "unchecked", 0, True),
    ]:
        record, reply = Record(0.0), Reply(200, b"", keepable=True)
        record.attempts.append(Attempt("llama", "m", "200", Kind.SUCCESS, 0.0, 1.0))
        verdicts.note(verdict, reply, record)
        assert (record.json, len(record.parse_failures), reply.keepable) == (label, failures, kept)
