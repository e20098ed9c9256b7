"""How a model gets JSON wrong: every JSON manner, as a function of the text that would have been right.

Here belongs what is wrong inside an answer's text. Here does not belong what is wrong on the wire (`wire`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from guardproxy.simulator.fits import fits, is_type

if TYPE_CHECKING:
    from guardproxy.simulator.manners import Manners

# What stands in for a right value, in this order: the first that its schema forbids.
_WRONG_VALUES: tuple[Any, ...] = ("very much", 12345, None, True, ["surprise"], {"surprise": True})


def spoil(value: Any, schema: Any, manners: Manners) -> str:
    """The text of a JSON answer under these manners; several wrongs are combined, `half-json` being the last."""
    if manners.not_json:
        return "I would rather describe it in words: a quiet perfume, woody at heart, and gone before the morning."
    if manners.wrong_type:
        value = with_wrong_type(value, schema)
    text = orjson.dumps(value).decode()
    if manners.half_json:
        # Half a number or a word may be JSON again; half an object, an array or a string never is.
        text = text[: (len(text) + 1) // 2] if text[0] in '{["' and len(text) > 2 else '{"' + text
    if manners.fenced_json:
        text = f"```json\n{text}\n```"
    if manners.prose_json:
        text = f"Sure! Here is the JSON that you asked for:\n\n{text}"
    return text


def with_wrong_type(value: Any, schema: Any) -> Any:
    """A copy of `value` that violates `schema` by the type of one value: a property's if possible, else its own.

    Without a schema the wrong one is a number or the last property. A schema that allows everything cannot be violated.
    """
    if isinstance(value, dict) and value:
        for name in sorted(value, key=lambda name: not is_type(value[name], "number")):
            for wrong in _WRONG_VALUES:
                spoiled = {**value, name: wrong}
                if not _same_type(wrong, value[name]) and not (schema is not None and fits(spoiled, schema, schema)):
                    return spoiled
    wrongs = (wrong for wrong in _WRONG_VALUES if not _same_type(wrong, value))
    return next((wrong for wrong in wrongs if schema is None or not fits(wrong, schema, schema)), value)


def _same_type(one: Any, other: Any) -> bool:
    kinds = ("string", "number", "boolean", "null", "array", "object")
    return any(is_type(one, kind) and is_type(other, kind) for kind in kinds)
