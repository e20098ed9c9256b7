"""Whether an engine enforces a schema: what it is asked, and what its answer shows.

Here belong the question and the reading of its answer.  It cannot be answered by chance or by good will: the model is
asked to say something else, and the only valid document holds a word that stands nowhere but in the schema.  Asking is
`app.probe`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.core.asked import Schema
from guardproxy.core.values import Answer, Fault, Kind
from guardproxy.openai import enforce
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.dialect import Dialect

WAYS: Final = ("response_format", "structured_outputs", "guided_json", "format")
"""The ways that are tried, the most widely known first."""
SHOWN: Final = 60
"""Characters of an answer that are shown as evidence."""
WORDS: Final = 64
"""Tokens that the answer may have."""


@final
@dataclass(slots=True, frozen=True)
class Finding:
    """What came of one way."""

    state: str
    """``enforced``, ``ignored``, ``refused`` or ``failed``."""
    evidence: str
    """What the upstream said."""


def question(model: str, way: str, word: str) -> dict[str, Any]:
    """Ask *model* for a greeting, and its engine in the field *way* for a document that holds *word*."""
    shape = {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": [word]}},
        "required": ["word"],
        "additionalProperties": False,
    }
    asked = {
        "model": model,
        "messages": [{"role": "user", "content": "Say hello in five words."}],
        "max_tokens": WORDS,
        "temperature": 0,
    }
    return {**asked, **enforce.field({}, Schema("probe", None, b"", source=shape), way)}


def finding(outcome: Answer | Fault | Any, dialect: Dialect, word: str) -> Finding:
    """What the *outcome* of such a question shows."""
    if not isinstance(outcome, Answer):
        return Finding("failed", str(getattr(outcome, "message", "no answer")))
    if outcome.kind is not Kind.SUCCESS:
        state = "refused" if outcome.kind is Kind.IGNORED else "failed"
        return Finding(state, f"status {outcome.status}: {_short(outcome.body.decode('utf-8', 'replace'))}")
    said = next((text for text in dialect.texts(outcome.doc) if text), "")
    try:
        enforced = loads(said.encode()) == {"word": word}
    except ValueError:
        enforced = False
    return Finding("enforced" if enforced else "ignored", _short(said) or "an empty answer")


def advice(configured: str, findings: Mapping[str, Finding]) -> str:
    """What follows for ``structured_output``, which is *configured* so."""
    if all(one.state == "failed" for one in findings.values()):
        return "it could not be asked"
    working = [way for way, one in findings.items() if one.state == "enforced"]
    if configured in working:
        return f"structured_output: {configured} is enforced"
    if not working:
        return "it enforces no schema: structured_output: prompt tells the model, and the guard checks what it says"
    if configured in ("none", "prompt"):
        return f"it enforces a schema in {', '.join(working)}: consider structured_output: {working[0]}"
    return f"structured_output: {configured} is NOT enforced: use {working[0]}"


def _short(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
