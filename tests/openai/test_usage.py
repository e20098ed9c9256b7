"""What an answer says it took."""

from __future__ import annotations

import pytest

from guardproxy.openai.usage import LIMIT, tokens


@pytest.mark.parametrize(
    "usage, counts",
    [
        (None, (0, 0)),
        ({}, (0, 0)),
        ({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}, (9, 4)),
        ({"input_tokens": 9, "output_tokens": 4}, (9, 4)),
        ({"prompt_tokens": 9}, (9, 0)),
        ({"prompt_tokens": None, "completion_tokens": 4}, (0, 4)),
        ({"prompt_tokens": "9", "completion_tokens": 4.5}, (0, 0)),
        ({"prompt_tokens": True, "completion_tokens": -4}, (0, 0)),
        ({"prompt_tokens": LIMIT, "completion_tokens": LIMIT - 1}, (0, LIMIT - 1)),
    ],
)
def test_tokens(usage, counts):
    """Either spelling; what is no count is 0, for it would spoil a counter for good."""
    assert tokens(usage) == counts
