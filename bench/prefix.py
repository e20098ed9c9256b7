"""What early abort finds, and what it costs: `python -m bench.prefix`.

Here belongs the share of invalid documents that `core.prefix` calls hopeless before their end, and how early; and
the time for each streamed event, each look and each schema.  The documents are those of the tests: the corpus by
hand, and drawn ones.  That no valid document is ever aborted is for the tests to say; it is counted here too.
"""

from __future__ import annotations

import contextlib
import json
import random
import statistics
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, final

from guardproxy.core.jsonschema import InvalidSchema, Validator
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.core.prefix import Prefix
from guardproxy.dialects.chat import SPEC as CHAT
from guardproxy.openai.watch import Reading
from tests.core.schemas import corpus, pair

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAWN = 3_000
"""Pairs of a schema and a document that are drawn beside the corpus."""
DELTA = 4
"""Characters in an event: about a token."""
ADDRESS = {"street": "Linden Street", "city": "Springfield", "zip": "12345"}


@final
@dataclass(slots=True)
class Findings:
    """What was found in documents of one origin."""

    invalid: int = 0
    valid: int = 0
    wrong: int = 0
    """Valid documents that were aborted."""
    positions: list[float] = field(default_factory=list)
    """Where in an invalid document it was aborted: share of its length."""


def main() -> None:
    """Measure and print."""
    print("invalid documents called hopeless before their last event; where, at the median; wrong aborts")
    origins = {
        "corpus": [(validator, document, 0) for validator, document in by_hand()],
        "corpus, indented": [(validator, document, 12) for validator, document in by_hand()],
        f"{DRAWN} drawn": [(validator, document, 0) for validator, document in drawn()],
    }
    for origin, documents in origins.items():
        for often in (False, True):
            found = survey(documents, often=often)
            share = len(found.positions) / found.invalid
            middle = statistics.median(found.positions)
            looks = "looked at after each event" if often else "looked at as it is by default"
            print(
                f"  {origin}, {looks}: {len(found.positions)} of {found.invalid} ({share:.0%}),"
                f" at {middle:.0%}; {found.wrong} of {found.valid}"
            )
    print("\nmicroseconds for an event of 4 characters (median, 99th percentile, mean), and for the longest look")
    for people in (2, 20, 200, 1000):
        costs(people)
    called(200)


def by_hand() -> Iterator[tuple[Validator, Any]]:
    """The documents of the corpus."""
    for case in corpus():
        with contextlib.suppress(InvalidSchema):
            validator = compile_schema(case["schema"])
            for document in case["valid"] + case["invalid"]:
                yield validator, document


def drawn() -> Iterator[tuple[Validator, Any]]:
    """Documents with a schema that was made around them."""
    dice = random.Random(1)
    for _ in range(DRAWN):
        schema, document = pair(dice)
        with contextlib.suppress(InvalidSchema):
            yield compile_schema(schema), document


def survey(documents: list[tuple[Validator, Any, int]], *, often: bool) -> Findings:
    """Stream each document, and see when it is aborted; *often*: it is looked at after each event."""
    found = Findings()
    for validator, document, wide in documents:
        if (prefix := Prefix.of(validator)) is None:
            continue
        text = json.dumps(document, indent=wide or None)
        stop = 0
        for end in range(DELTA, len(text), DELTA):
            if often:
                prefix._next = 0  # noqa: SLF001 - what could be found, if it cost nothing
            if prefix.feed(text[end - DELTA : end]):
                stop = end
                break
        if validator.is_valid(document):
            found.valid += 1
            found.wrong += bool(stop)
        else:
            found.invalid += 1
            if stop:
                found.positions.append(stop / len(text))
    return found


def costs(people: int) -> None:
    """What a long valid document costs, event by event."""
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 80},
            "age": {"type": "integer", "minimum": 0},
            "role": {"enum": ["chair", "clerk", "member"]},
            "address": {"$ref": "#/$defs/address"},
        },
        "required": ["name", "age", "role", "address"],
        "additionalProperties": False,
    }
    address = {
        "type": "object",
        "properties": {name: {"type": "string"} for name in ADDRESS},
        "required": list(ADDRESS),
    }
    schema = {"type": "array", "items": {"$ref": "#/$defs/person"}, "$defs": {"person": person, "address": address}}
    text = json.dumps(
        [{"name": f"Person {n}", "age": n % 90, "role": "clerk", "address": ADDRESS} for n in range(people)]
    )
    validator = compile_schema(schema)
    begun = perf_counter()
    first = Prefix.of(validator)
    made = perf_counter() - begun
    assert first is not None
    best: list[float] = []
    for _ in range(5):
        prefix, times = first.again(), []
        for start in range(0, len(text), DELTA):
            delta = text[start : start + DELTA]
            begun = perf_counter()
            reason = prefix.feed(delta)
            times.append((perf_counter() - begun) * 1e6)
            assert reason is None
        best = times if not best or sum(times) < sum(best) else best
    best.sort()
    print(
        f"  {len(text):,} characters: {statistics.median(best):.2f}, {best[len(best) * 99 // 100]:.1f},"
        f" {sum(best) / len(best):.2f}; {best[-1]:.0f}   (schema relaxed in {made * 1e6:.0f})"
    )


def called(times: int) -> None:
    """What events cost in which a tool is given its arguments, the finding of these among them."""
    validator = compile_schema({"type": "object", "properties": {name: {"type": "string"} for name in ADDRESS}})
    text = json.dumps(ADDRESS)
    best: list[float] = []
    for _ in range(times):
        spans: list[float] = []
        reading = Reading(CHAT, None, {"f": validator})
        for start in range(0, len(text), DELTA):
            function = {"name": "" if start else "f", "arguments": text[start : start + DELTA]}
            event = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function}]}}]}
            begun = perf_counter()
            reason = reading(event)
            spans.append((perf_counter() - begun) * 1e6)
            assert reason is None
        best = spans if not best or sum(spans) < sum(best) else best
    best.sort()
    print(f"  a tool's arguments: {statistics.median(best):.2f}, {best[len(best) * 99 // 100]:.1f},"
          f" {sum(best) / len(best):.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
