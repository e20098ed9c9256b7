"""What it costs to judge an answer on the loop: `python -m bench.judging`.

Here belong the CPU times of `openai.judge`: of a small answer, of a megabyte of text or of small objects, and of what
is wrong and as long as may be.  What is above `core.heft.LIGHT` is judged elsewhere, where nobody waits.
"""

from __future__ import annotations

import json
from functools import partial
from time import process_time
from typing import TYPE_CHECKING, Any

from guardproxy.core.heft import LIGHT
from guardproxy.core.jsonschema import compile as compile_schema
from guardproxy.openai.judge import FINE, Question, judge

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "list": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"n": {"type": "integer"}, "said": {"type": "string"}},
                "required": ["n", "said"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["list"],
}


def text(items: int, words: int) -> str:
    """A valid answer with so many items of so many words."""
    return json.dumps({"list": [{"n": n, "said": "word " * words} for n in range(items)]})


def best(what: Callable[[], object], times: int) -> float:
    """Microseconds of CPU for one call: the best of ten rounds of *times*."""
    took = []
    for _ in range(10):
        begun = process_time()
        for _ in range(times):
            what()
        took.append((process_time() - begun) / times * 1e6)
    return min(took)


def main() -> None:
    """Measure and print."""
    check = compile_schema(SCHEMA)
    print("characters and what they are; microseconds of CPU")
    for items, words, kind, times in (
        (5, 7, "a small answer", 2_000),
        (200, 20, "a long answer", 50),
        (2_000, 100, "1 MB of text", 3),
        (32_000, 1, "1 MB of small objects", 1),
    ):
        said = text(items, words)
        question = Question(said, check)
        assert judge(question, mend=True) is FINE
        print(f"  {len(said):>9,}  {kind:<24} {best(partial(judge, question, mend=True), times):>10,.1f}")
    said = text(LIGHT // 42, 4)
    for kind, wrong in (
        ("wrong, cut off", said[:-20]),
        ("wrong, a type", said.replace('"n": 3,', '"n": "3",')),
        ("wrong, fenced", f"```json\n{said}\n```"),
    ):
        question = Question(wrong, check)
        assert judge(question, mend=True) is not FINE
        print(f"  {len(wrong):>9,}  {kind:<24} {best(partial(judge, question, mend=True), 2):>10,.1f}")


if __name__ == "__main__":
    main()
