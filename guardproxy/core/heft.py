"""How much work a JSON Schema makes of one character of an answer, as a number that texts are multiplied by.

Here belongs the estimate by which it is decided whether a text can be judged between two other calls, or has to be
judged in a process of its own (`core.steps.Weigh`).  Not here: what is refused altogether (`core.schema_bounds`).

1 is an ordinary schema: 13 ns a character of dense JSON to read and 2 ns to judge (the rest of the work is in finding
words and mending, which cost ten times as much).  What makes more, as measured with jsonschema-rs 0.60.3:

* alternatives: 20 ns for each further judgement of the same value (`bound` counts them)
* an `enum` of objects or arrays: 0.3 µs for each of them and each value; texts and numbers are looked up at once
* a pattern that can backtrack, up to the limit that ends it: 400 µs a text of 20 characters and more
* `patternProperties`: 0.1 µs for each pattern and each name
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from guardproxy.core.patterns import look

if TYPE_CHECKING:
    from collections.abc import Iterable

LIGHT: Final = 16 * 1024
"""Characters of an ordinary answer, or so much work: a tenth of a millisecond, or ten if it was cut off."""

_BACKTRACKS: Final = 80


def heft(nodes: Iterable[dict[str, Any]], judgements: int) -> int:
    """How many times as much work as an ordinary schema one makes that has these *nodes*.

    *judgements*: how often one value is judged at the most.
    """
    made = judgements / 20
    for node in nodes:
        if isinstance(values := node.get("enum"), list):
            made += sum(1 for value in values if isinstance(value, dict | list)) / 10
        if "pattern" in node:
            made += _BACKTRACKS * _backtracks(node["pattern"])
        if isinstance(patterns := node.get("patternProperties"), dict):
            made += len(patterns) / 20 + _BACKTRACKS * sum(map(_backtracks, patterns))
    return 1 + int(made)


def _backtracks(pattern: Any) -> bool:
    return isinstance(pattern, str) and look(pattern).backtracks
