"""An engine enforces a schema if its answer holds a word that stands nowhere else."""

from __future__ import annotations

import json

import pytest

from guardproxy.checklist.enforcing import WAYS, Finding, advice, finding, question
from guardproxy.core.values import Answer, Fault
from guardproxy.dialects.chat import SPEC as CHAT
from tests.flow.playbook import broke, refused, said


@pytest.mark.parametrize("way", WAYS)
def test_the_word_stands_in_the_schema_alone(way):
    """In exactly one field, and not in what the model reads."""
    doc = question("m", way, "w0rd")
    assert [name for name, value in doc.items() if "w0rd" in json.dumps(value)] == [way]


def found(outcome: Answer | Fault) -> Finding:
    if isinstance(outcome, Answer):
        call = type("Asked", (), {"upstream": "llama"})()
        return finding(CHAT.examine(call, outcome), CHAT, "w0rd")
    return finding(outcome, CHAT, "w0rd")


@pytest.mark.parametrize(
    "outcome, state, evidence",
    [
        (said(1.0, '{"word": "w0rd"}'), "enforced", '{"word": "w0rd"}'),
        (said(1.0, ' {"word":"w0rd"}\n'), "enforced", '{"word":"w0rd"}'),
        (said(1.0, "Hello  there,\nmy friend"), "ignored", "Hello there, my friend"),
        (said(1.0, '{"word": "hello"}'), "ignored", '{"word": "hello"}'),
        (said(1.0, "x" * 100), "ignored", "x" * 59 + "…"),
        (said(1.0, ""), "ignored", "an empty answer"),
        (refused(1.0, 400, "unknown field"), "refused", "status 400: "),
        (refused(1.0, 500, "broken"), "failed", "status 500: "),
        (broke(1.0), "failed", "it was upstream_reset"),
    ],
)
def test_what_an_answer_shows(outcome, state, evidence):
    """The word, something else, a refusal, or nothing; with what was said."""
    one = found(outcome)
    assert one.state == state
    assert one.evidence.startswith(evidence)


YES, NO, BAD = Finding("enforced", ""), Finding("ignored", ""), Finding("failed", "")


@pytest.mark.parametrize(
    "configured, findings, told",
    [
        ("format", {"response_format": YES, "format": YES}, "format is enforced"),
        ("format", {"response_format": YES, "format": NO}, "format is NOT enforced: use response_format"),
        ("none", {"response_format": NO, "guided_json": YES}, "consider structured_output: guided_json"),
        ("prompt", {"response_format": NO, "format": BAD}, "it enforces no schema"),
        ("none", {"response_format": BAD, "format": BAD}, "it could not be asked"),
    ],
)
def test_what_follows(configured, findings, told):
    assert told in advice(configured, findings)
