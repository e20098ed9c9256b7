"""Let no answer pass that breaks the schema it was asked for with.

Here belongs where a schema comes from, the verdict on an answer, and the declared fallback.  How the model is
asked again is the story's; how a conversation goes on is the dialects'; the engine is `core.jsonschema`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import Guard, Spec
from guardproxy.core.jsonschema import InvalidSchema, why
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.units import Seconds
from guardproxy.core.values import Answer, Reply, Schema, Verdict
from guardproxy.openai.fields import JSON
from guardproxy.openai.judge import judge_arguments, judge_aside, judge_text
from guardproxy.openai.shelf import Shelf, digest_of
from guardproxy.openai.strict import dumps, loads
from guardproxy.openai.watch import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.asked import Wanted
    from guardproxy.core.dialect import Dialect
    from guardproxy.core.guard import Parts, Watcher
    from guardproxy.core.jsonschema import Validator
    from guardproxy.core.values import Call, Record, Target

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
    repair: bool = True
    """Whether JSON that an answer holds is taken out of what is around it, and its commas and quotes are mended."""
    early_abort: bool = True
    """Whether the model is hung up on as soon as nothing it could still say would satisfy the schema.

    To see it coming the upstream is asked to stream, also where the app is not; `upstreams.NAME.early_abort` says
    which are not to be.
    """
    stream_validation: Literal["hold", "report", "upstream_nonstream"] = "hold"
    """``hold``: a stream is held back until it has been judged; ``report``: it passes, and is judged for metrics;
    ``upstream_nonstream``: the answer is asked for in one piece, and streamed once it has been judged."""
    max_tokens_limit: int = 8192
    """Tokens to which ``max_tokens`` is raised at the most where an answer was cut before it was whole JSON."""
    schemas: dict[str, Declared] = field(default_factory=dict)
    """Schemas by name."""


@final
class JsonGuard(Guard):
    """Judges the text of every choice."""

    name = "json"

    def __init__(
        self,
        settings: Settings,
        declared: Mapping[str, Schema],
        *,
        epoch: float = 0.0,
        unwatched: frozenset[str] = frozenset(),
    ) -> None:
        self.settings = settings
        self.declared = dict(declared)
        self._epoch = epoch
        self._unwatched = unwatched
        """Upstreams whose answers are waited for to their end."""
        self._shelf = Shelf()

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply:
        """Mark a call whose answer has to satisfy a schema; refuse one whose schema is none."""
        del record, now
        dialect = call.dialect
        if dialect is None or not dialect.judged:
            return call
        if call.wants_schema and call.wants_schema not in self.declared:
            names = ", ".join(self.declared) or "none"
            message = f"there is no schema {call.wants_schema[:200]!r}; there are {names}"
            return Reply(400, dialect.error(400, "invalid_schema", message), list(_JSON), code="invalid_schema")
        try:
            schema = self._schema(call, dialect)
        except Misplaced as wrong:
            body = dialect.error(400, wrong.code, str(wrong), wrong.param)
            return Reply(400, body, list(_JSON), code=wrong.code)
        if schema is not None:
            call.schema = schema
            call.whole = not call.stream or self.settings.stream_validation != "report"
            call.plain = self.settings.stream_validation == "upstream_nonstream"
            call.keep = call.keep or not call.whole
        return call

    def watch(self, call: Call, target: Target) -> Watcher | None:
        """Read along an answer that is held back, to stop the model as soon as it is wrong."""
        schema = call.schema
        if schema is None or not schema.text or schema.check is None or call.dialect is None:
            return None
        if not (self.settings.early_abort and self.settings.strict_schema) or target.upstream in self._unwatched:
            return None
        if call.plain if call.stream else call.dialect.streamed(call.doc) is None:
            return None
        first = self._shelf.prefix(schema.digest, schema.check, strict=not self.settings.repair)
        return None if first is None else Reading(call.dialect, first)

    def judge(self, call: Call, answer: Answer) -> Verdict | None:
        """Every choice that says something must say what the schema asks for, and every tool get what it takes."""
        schema, dialect = call.schema, call.dialect
        if schema is None or dialect is None:
            return None
        mend = self.settings.repair
        texts = dialect.texts(answer.doc) if schema.text else []
        judged = [None if text is None else judge_text(text, schema, mend=mend) for text in texts]
        if mend and "" in texts:
            asides = zip(texts, judged, dialect.asides(answer.doc), strict=True)
            judged = [judge_aside(aside, schema) if not text and aside else found for text, found, aside in asides]
        tools = dialect.tools(answer.doc) if schema.tools else []
        given = [judge_arguments(name, text, schema, mend=mend) for name, text in tools]
        findings = [*(found for found in judged if found is not None), *given]
        if not findings:
            return _UNCHECKED if schema.text else None
        problems = [
            found.problem if len(judged) == 1 else f"choice {number}: {found.problem}"
            for number, found in enumerate(judged)
            if found is not None and found.problem
        ]
        problems += [found.problem for found in given if found.problem]
        if not problems:
            if all(found.mended is None for found in findings):
                return _VALID
            mended = [None if found is None else found.mended for found in judged]
            repaired = dialect.mend(
                call, answer, mended or [None] * len(dialect.texts(answer.doc)), [f.mended for f in given]
            )
            return Verdict("repaired", answer=repaired, flawed=True)
        broken = not all(found.parsed for found in findings)
        if not broken and not self.settings.strict_schema:
            return Verdict("unchecked", flawed=True)
        note = "; ".join(problems[:MOST_PROBLEMS])
        return Verdict("invalid", note, cut=broken and dialect.cut(answer.doc), flawed=True)

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """The declared fallback, as an answer of the kind that the caller waits for."""
        schema, dialect = call.schema, call.dialect
        if schema is None or schema.fallback is None or dialect is None or not self.settings.fallback_enabled:
            return None
        record.json = "fallback"
        record.fallback = schema.name
        body = dialect.compose(call, schema.fallback.decode(), int(now + self._epoch))
        return Reply(
            200,
            body,
            [(b"Content-Type", dialect.media if call.stream else JSON)],
            source="fallback",
            events=call.stream,
        )

    def settle(self, call: Call, reply: Reply, record: Record, now: float) -> None:
        """Judge a stream that was let through: it is counted, and not kept where it is flawed."""
        del now
        if call.schema is None or call.whole or not reply.sent or not reply.body or call.dialect is None:
            return
        doc = call.dialect.assemble(reply.body)
        answer = Answer(record.started, reply.status, reply.headers, reply.body, doc=doc)
        if answer.doc is None or (verdict := self.judge(call, answer)) is None:
            return
        record.json = "unchecked" if verdict.flawed else verdict.label
        if verdict.flawed:
            record.parse_failures.append(record.attempts[-1].upstream)
            reply.keepable = False

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

    def _schema(self, call: Call, dialect: Dialect) -> Schema | None:
        """What the text and the tools of an answer have to satisfy; None: nothing."""
        named = self.declared[call.wants_schema] if call.wants_schema else self._wanted(dialect.wanted(call.doc))
        parameters = dialect.parameters(call.doc)
        if not parameters:
            return named
        checks = {name: self._compile(place, schema) for name, place, schema in parameters}
        digest = b"" if named is None else named.digest
        if named is None:
            return Schema("tools", None, digest, text=False, tools=checks)
        return Schema(named.name, named.check, digest, named.fallback, tools=checks, source=named.source)

    def _wanted(self, asked: Wanted | None) -> Schema | None:
        if asked is None:
            return None
        if asked.any_object:
            return ANY_OBJECT
        validator = self._compile(asked.place, asked.schema)
        fallback = None
        if (declared := self.declared.get(asked.name)) is not None and declared.fallback is not None:
            # the app names its schema as the configuration does: its fallback serves, if it serves this schema too
            fallback = declared.fallback if validator.is_valid(loads(declared.fallback)) else None
        return Schema(asked.name or asked.place, validator, digest_of(asked.schema), fallback, source=asked.schema)

    def _compile(self, place: str, schema: Any) -> Validator:
        try:
            return self._shelf.validator(schema)
        except InvalidSchema as wrong:
            raise Misplaced(wrong.code, place, str(wrong)) from wrong


class Misplaced(ValueError):  # noqa: N818 -- a condition of the request; nobody's error
    """A schema in a request is none; *param* is the request's field."""

    def __init__(self, code: str, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.code = code
        self.param = place.partition(".")[0].partition("[")[0]


def declare(name: str, schema: object, fallback: object) -> Schema:
    """Make a named schema; raises `InvalidSchema` where it is none, `ValueError` where its fallback breaks it."""
    validator = compile_schema(schema)
    digest = digest_of(schema)
    if fallback is None:
        return Schema(name, validator, digest, source=schema)
    if not validator.is_valid(fallback):
        raise ValueError("; ".join(why(validator, fallback)))
    return Schema(name, validator, digest, dumps(fallback), source=schema)


def _build(settings: Settings, parts: Parts) -> JsonGuard:
    upstreams = parts.config.upstreams
    unwatched = frozenset(name for name in upstreams if not upstreams[name].early_abort)
    return JsonGuard(settings, parts.schemas, epoch=parts.epoch, unwatched=unwatched)


SPEC = Spec("json", "json_guard", 20, _build)
"""What the registry loads."""
