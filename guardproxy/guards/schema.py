"""Let no answer pass that breaks the schema it was asked for with.

Here belongs where a schema comes from, the verdict on an answer, and the declared fallback.  How the model is
asked again is the story's; how a conversation goes on is the dialects'; the engine is `core.jsonschema`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

from guardproxy.core.guard import Guard, Spec
from guardproxy.core.heft import LIGHT
from guardproxy.core.jsonschema import Validator
from guardproxy.core.prefix import MAX_PROSE
from guardproxy.core.steps import Ready, Weigh
from guardproxy.core.units import Bytes, Seconds
from guardproxy.core.values import Answer, Reply, Schema, Verdict, Wrong
from guardproxy.openai import weighing
from guardproxy.openai.fields import JSON
from guardproxy.openai.habits import Habits
from guardproxy.openai.judge import FINE, Judged, Question, arguments, judge, texts
from guardproxy.openai.schemas import Misplaced, Schemas
from guardproxy.openai.shelf import Order
from guardproxy.openai.watch import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.guard import Parts, Watcher
    from guardproxy.core.values import Call, Record, Target

MOST_PROBLEMS = 5
"""Choices whose problems the model is told at once."""
_JSON = ((b"Content-Type", b"application/json"),)
Questions = list[Question | None]
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
    judge_seconds: Seconds = Seconds(2)
    """Seconds of the processor's time (and four times as many by the clock) that judging one large answer, or one by a
    schema that makes much work, may take, and making ready a large schema; it is done in a process of its own. An
    answer that takes longer counts as not valid, and a schema as none."""
    judge_memory: Bytes = Bytes(256 << 20)
    """Memory that such a process may take for it."""
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
        self._schemas = Schemas(declared)
        self._epoch = epoch
        self._habits = Habits()
        self._unwatched = unwatched
        """Upstreams whose answers are waited for to their end."""

    def admit(self, call: Call, record: Record, now: float) -> Call | Reply | Ready:
        """Mark a call whose answer has to satisfy a schema; refuse one whose schema is none.

        Whether a large one is one is found out elsewhere first.
        """
        dialect = call.dialect
        if dialect is None or not dialect.judged:
            return call
        settings, strict = self.settings, self.settings.enabled is True
        order = Order(now, settings.judge_seconds)
        try:
            schema = self._schemas.of(call, dialect, order)
        except Misplaced as wrong:
            if not strict:
                return call
            body = dialect.error(400, wrong.code, str(wrong), wrong.param)
            return Reply(400, body, list(_JSON), code=wrong.code)
        if order.heavy:
            record.note(now, "makes ready", f"{len(order.heavy)} schemas, {sum(map(len, order.heavy))} bytes")
            return self._elsewhere(call, order.heavy)
        if schema is not None:
            call.schema = schema
            call.whole = strict and (not call.stream or settings.stream_validation != "report")
            call.plain = settings.stream_validation == "upstream_nonstream"
            call.keep = call.keep or not call.whole
        return call

    def _elsewhere(self, call: Call, heavy: list[bytes]) -> Ready:
        """Have it found out whether *heavy* are schemas."""
        shelf = self._schemas.shelf

        def then(said: bytes | None) -> None:
            shelf.learn(heavy, None if said is None else weighing.read_about(said))

        return Ready(call, weighing.ask_about(heavy), lambda: shelf.is_unknown(heavy), then, call.deadline)

    def watch(self, call: Call, target: Target) -> Watcher | None:
        """Read along an answer that is held back, to stop the model as soon as it is wrong."""
        schema, dialect, settings = call.schema, call.dialect, self.settings
        if schema is None or dialect is None or target.upstream in self._unwatched:
            return None
        if not (settings.early_abort and settings.strict_schema):
            return None
        if call.plain if call.stream else not schema.text or dialect.streamed(call.doc) is None:
            return None
        first, strict = None, not settings.repair
        # beside a call of a tool any words will do
        if schema.text and type(schema.check) is Validator and not schema.offers:
            first = self._schemas.shelf.prefix(schema.digest, schema.check, strict=strict)
        tools = {name: check for name, check in schema.tools.items() if type(check) is Validator}
        if first is None and not tools:
            return None
        if first is not None:
            # an essay is a mistake only of those who never think aloud; asked again nobody is interrupted for one
            terse = not call.asked_again and self._habits.terse((target.upstream, schema.digest))
            first = first.again(terse=terse)
        return Reading(dialect, first, tools, strict=strict)

    def judge(self, call: Call, answer: Answer) -> Verdict | Weigh | None:
        """Every choice that says something must say what the schema asks for, and every tool get what it takes."""
        schema, dialect = call.schema, call.dialect
        if schema is None or dialect is None:
            return None
        mend = self.settings.repair
        asked = texts(schema, dialect, answer.doc, mend=mend)
        given = arguments(schema, dialect, answer.doc)
        questions = [one for one in (*asked, *given) if one is not None]
        if not questions:
            return _UNCHECKED if schema.text else None
        if sum(one.weight for one in questions) > LIGHT:
            return Weigh(
                weighing.ask(questions, mend=mend),
                lambda said: self._weighed(call, answer, asked, given, said),
                call.deadline,
            )
        return self._verdict(call, answer, asked, given, [judge(one, mend=mend) for one in questions])

    def _weighed(
        self, call: Call, answer: Answer, asked: Questions, given: Questions, said: bytes | None
    ) -> Verdict | None:
        if said is None:
            most = f"{self.settings.judge_seconds:g} s and {self.settings.judge_memory >> 20} MiB"
            note = f"it could not be checked within {most}; a shorter answer may be"
            return self._lenient(Verdict("invalid", note, flawed=True))
        return self._verdict(call, answer, asked, given, weighing.read(said))

    def _verdict(
        self, call: Call, answer: Answer, asked: Questions, given: Questions, findings: list[Judged]
    ) -> Verdict | None:
        """What follows from the *findings* about the texts *asked* about, and then about the arguments *given*."""
        if all(found is FINE or found == FINE for found in findings):
            if call.schema is not None:
                self._habits.note((call.upstream, call.schema.digest), at_once=True)
            return _VALID
        dialect, left = call.dialect, iter(findings)
        choices = [None if one is None else next(left) for one in asked]
        tools = [None if one is None else next(left) for one in given]
        problems = [
            found.problem if len(choices) == 1 else f"choice {number}: {found.problem}"
            for number, found in enumerate(choices)
            if found is not None and found.problem
        ]
        problems += [found.problem for found in tools if found is not None and found.problem]
        if dialect is None:
            return None
        if not problems:
            mended = [None if found is None else found.mended for found in choices]
            if call.schema is not None:
                pairs = zip(asked, mended, strict=True)
                at_once = all(not q or not text or len(q.text) - len(text) <= MAX_PROSE for q, text in pairs)
                self._habits.note((call.upstream, call.schema.digest), at_once=at_once)
            mended = mended or [None] * len(dialect.texts(answer.doc))
            repaired = dialect.mend(call, answer, mended, [None if one is None else one.mended for one in tools])
            return self._lenient(Verdict("repaired", answer=repaired, flawed=True))
        broken = not all(found.parsed for found in findings)
        if not broken and not self.settings.strict_schema:
            return Verdict("unchecked", flawed=True)
        note = "; ".join(problems[:MOST_PROBLEMS])
        if len(problems) > MOST_PROBLEMS:
            note += f"; and {len(problems) - MOST_PROBLEMS} more like these"
        wrong = _first(choices, tools)
        return self._lenient(Verdict("invalid", note, wrong=wrong, cut=broken and dialect.cut(answer.doc), flawed=True))

    def _lenient(self, verdict: Verdict) -> Verdict:
        """The *verdict*, which is only counted in shadow."""
        return verdict if self.settings.enabled is True else Verdict("unchecked", flawed=True)

    def rescue(self, call: Call, record: Record, now: float) -> Reply | None:
        """The declared fallback, as an answer of the kind that the caller waits for."""
        schema, dialect = call.schema, call.dialect
        if schema is None or schema.fallback is None or dialect is None:
            return None
        if not self.settings.fallback_enabled or self.settings.enabled is not True:
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
            "schemas": {name: {"fallback": one.fallback is not None} for name, one in self._schemas.declared.items()},
        }


def _first(choices: list[Judged | None], tools: list[Judged | None]) -> Wrong:
    """What the model is told: of one choice at a time, since it is shown one; of a choice's tools all at once."""
    for number, found in enumerate(choices):
        if found is not None and found.problem:
            return Wrong(found.problem, number)
    problems = ["" if found is None else found.problem for found in tools]
    return Wrong(next(problem for problem in problems if problem), tools=problems)


def _build(settings: Settings, parts: Parts) -> JsonGuard:
    upstreams = parts.config.upstreams
    unwatched = frozenset(name for name in upstreams if not upstreams[name].early_abort)
    return JsonGuard(settings, parts.schemas, epoch=parts.epoch, unwatched=unwatched)


SPEC = Spec("json", "json_guard", 20, _build)
"""What the registry loads."""
