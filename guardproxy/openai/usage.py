"""How many tokens an answer says it took.

Here belongs reading the ``usage`` object, in the spelling of either API.  Where it was found is `scan`'s and
`completion`'s; who counts it is telemetry's.
"""

from __future__ import annotations

from typing import Any

# No answer takes a thousand million tokens: such a number is a server's mistake, and would spoil a counter for good.
LIMIT = 1_000_000_000


def tokens(usage: dict[str, Any] | None) -> tuple[int, int]:
    """The tokens of the prompt and those of the answer; 0 where *usage* does not say, or says nonsense."""
    if not usage:
        return 0, 0
    asked = usage.get("prompt_tokens")
    answered = usage.get("completion_tokens")
    if asked is None:
        asked = usage.get("input_tokens")
    if answered is None:
        answered = usage.get("output_tokens")
    return _count(asked), _count(answered)


def _count(number: object) -> int:
    return number if type(number) is int and 0 < number < LIMIT else 0  # a bool is an int, but no count
