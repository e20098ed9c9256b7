"""Let no answer pass that breaks the schema it was asked for with.

Here belongs where a schema comes from, the verdict on an answer, and the declared fallback.  How the model is
asked again is the story's; how a conversation goes on is the dialects'; the engine is `core.jsonschema`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import Guard, Spec
from guardproxy.core.jsonschema import InvalidSchema, Validator, why
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.units import Seconds
from guardproxy.core.values import Reply, Schema, Verdict
from guardproxy.openai.strict import dumps, is_finite, loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.values import Answer, Call, Record

COMPILED = 256
"""Schemas of requests that are kept compiled."""
MOST_PROBLEMS = 5
"""Choices whose problems the model is told at once."""
ANY_OBJECT = Schema("json_object", None, b"json_object")
"""What ``response_format: {type: json_object}`` asks for."""
_JSON = ((b"Content-Type", b"application/json"),)
_VALID = Verdict("valid")
_UNCHECKED = Verdict("unchecked")


@final
@dataclass(frozen=True, slots=True)
class Declared:
    """A schema by name, for ``X-Guardproxy-Schema`` and for routes."""

    file: str | None = None
    """The JSON Schema's file, relative to the configuration's folder."""
    schema: dict[str, Any] | None = None
    """The JSON Schema itself, instead of a file."""
    fallback: Any = None
    """What is answered when no model manages to satisfy the schema; checked against it at start."""


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """How answers are judged (``json_guard``)."""

    enabled: bool | Literal["shadow"] = True
    """``true``, ``false``, or ``shadow``: judged and counted, but every answer passes."""
    max_retries: int = 3
    """Re-asks after the first answer; they bound all asks of one call and spend no retry budget."""
    escalate: bool = False
    """Whether, after the re-asks, another upstream or mode is asked once, within the deadline."""
    backoff_base: Seconds = Seconds(1.0)
    """Seconds: the wait before re-ask n is ``backoff_base * 2^(n-1) + random(0, jitter)``."""
    jitter: Seconds = Seconds(0.5)
    """Seconds of chance at the most in each wait."""
    fallback_enabled: bool = True
    """Whether declared fallbacks are answered."""
    strict_schema: bool = True
    """``false``: a violation of the schema is counted and let through; text that is no JSON never is."""
    schemas: dict[str, Declared] = field(default_factory=dict)
    """Schemas by name."""


@final
class JsonGuard(Guard):
    """Judges the text of every choice."""

    name = "json"

    def __init__(self, settings: Settings, declared: Mapping[str, Schema], *, epoch: float = 0.0) -> None:
        self.settings = settings
        self.declared = dict(declared)
        self._epoch = epoch
        self._compiled: OrderedDict[bytes, Validator] = OrderedDict()

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply:
        """Mark a call whose answer has to satisfy a schema; refuse one whose schema is none."""
        del record, now
        dialect = call.dialect
        if dialect is None or not dialect.judged:
            return call
        if call.wants_schema:
            schema = self.declared.get(call.wants_schema)
            if schema is None:
                names = ", ".join(self.declared) or "none"
                message = f"there is no schema {call.wants_schema[:200]!r}; there are {names}"
                return Reply(400, dialect.error(400, "invalid_schema", message), list(_JSON), code="invalid_schema")
        else:
            wanted = call.doc.get("response_format")
            if wanted is None:
                return call
            try:
                schema = self._wanted(wanted)
            except InvalidSchema as wrong:
                body = dialect.error(400, wrong.code, f"response_format: {wrong}", "response_format")
                return Reply(400, body, list(_JSON), code=wrong.code)
            if schema is None:
                return call
        call.schema = schema
        call.whole = True
        return call

    def judge(self, call: Call, answer: Answer) -> Verdict | None:
        """Every choice that says something must say what the schema asks for."""
        schema, dialect = call.schema, call.dialect
        if schema is None or dialect is None:
            return None
        texts = dialect.texts(answer.doc)
        problems: list[str] = []
        broken = False
        for number, text in enumerate(texts):
            if text is None:
                continue
            problem, parsed = problem_with(text, schema)
            if problem:
                broken |= not parsed
                problems.append(problem if len(texts) == 1 else f"choice {number}: {problem}")
        if not problems:
            return _VALID if any(text is not None for text in texts) else _UNCHECKED
        if not broken and not self.settings.strict_schema:
            return Verdict("unchecked", flawed=True)
        return Verdict("invalid", "; ".join(problems[:MOST_PROBLEMS]), flawed=True)

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """The declared fallback, as an answer of the kind that the caller waits for."""
        schema, dialect = call.schema, call.dialect
        if schema is None or schema.fallback is None or dialect is None or not self.settings.fallback_enabled:
            return None
        record.json = "fallback"
        record.fallback = schema.name
        body = dialect.compose(call, schema.fallback.decode(), int(now + self._epoch))
        kind = b"text/event-stream" if call.stream else b"application/json"
        return Reply(200, body, [(b"Content-Type", kind)], source="fallback", events=call.stream)

    def state(self, now: float) -> dict[str, Any]:
        """Its settings, and which schemas have a fallback."""
        del now
        settings = self.settings
        return {
            "max_retries": settings.max_retries,
            "backoff_base": settings.backoff_base,
            "jitter": settings.jitter,
            "fallback_enabled": settings.fallback_enabled,
            "strict_schema": settings.strict_schema,
            "schemas": {name: {"fallback": schema.fallback is not None} for name, schema in self.declared.items()},
        }

    def _wanted(self, wanted: dict[str, Any]) -> Schema | None:
        """The schema of a ``response_format``; None where it asks for none."""
        kind = wanted.get("type")
        if kind == "json_object":
            return ANY_OBJECT
        given = wanted.get("json_schema") if kind == "json_schema" else None
        if not isinstance(given, dict) or "schema" not in given:
            return None  # for the upstream to refuse, in its own words
        digest = _digest(given["schema"])
        validator = self._compiled.get(digest)
        if validator is None:
            validator = self._compiled[digest] = compile_schema(given["schema"])
            if len(self._compiled) > COMPILED:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(digest)
        fallback = None
        if (declared := self.declared.get(str(given.get("name")))) is not None and declared.fallback is not None:
            # the app names its schema as the configuration does: its fallback serves, if it serves this schema too
            fallback = declared.fallback if validator.is_valid(loads(declared.fallback)) else None
        return Schema(str(given.get("name") or "response_format"), validator, digest, fallback)


def problem_with(text: str, schema: Schema) -> tuple[str, bool]:
    """What keeps *text* from satisfying *schema* (nothing: empty), and whether it is JSON at all."""
    try:
        value = loads(text.encode())
    except (ValueError, UnicodeEncodeError) as error:
        return f"it is not valid JSON ({error})", False
    if not is_finite(value):
        return "it is not valid JSON (a number in it is out of range)", False
    if schema.check is None:
        return ("", True) if isinstance(value, dict) else (f"it is not a JSON object but {type(value).__name__}", True)
    if schema.check.is_valid(value):
        return "", True
    return "it does not satisfy the schema: " + "; ".join(why(schema.check, value)), True


def declare(name: str, schema: object, fallback: object) -> Schema:
    """Make a named schema; raises `InvalidSchema` where it is none, `ValueError` where its fallback breaks it."""
    validator = compile_schema(schema)
    digest = _digest(schema)
    if fallback is None:
        return Schema(name, validator, digest)
    if not validator.is_valid(fallback):
        raise ValueError("; ".join(why(validator, fallback)))
    return Schema(name, validator, digest, dumps(fallback))


def _digest(schema: object) -> bytes:
    return blake2b(dumps(schema), digest_size=16).digest()


SPEC = Spec("json", "json_guard", 20, lambda settings, parts: JsonGuard(settings, parts.schemas, epoch=parts.epoch))
"""What the registry loads."""
