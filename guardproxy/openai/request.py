"""The fields of a request body that the proxy itself reads.

Here belongs what may be asked of a decoded body, and the refusal of bodies that cannot be asked.  The rest of
the body is between the caller and the model.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from guardproxy.openai.splice import splice
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from guardproxy.core.values import Call


class Unreadable(ValueError):  # noqa: N818 -- a condition of the request, and the caller's error
    """A request that cannot be guarded; *code*, *param* and the message go into the error envelope."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


_TYPES: tuple[tuple[str, type, str], ...] = (
    ("model", str, "a string"),
    ("stream", bool, "true or false"),
    ("n", int, "a whole number"),
    ("response_format", dict, "an object"),
    ("stream_options", dict, "an object"),
)


def read(body: bytes) -> dict[str, Any]:
    """Decode the body of an inference call.

    Raises `Unreadable`: ``invalid_json`` where it is no strict JSON, ``invalid_request`` where it is no object or
    a field that the proxy must read has the wrong type.
    """
    try:
        doc = loads(body)
    except ValueError as error:
        raise Unreadable("invalid_json", f"the body is not valid JSON: {error}") from error
    if not isinstance(doc, dict):
        message = f"the body must be a JSON object, not {_name(doc)}"
        raise Unreadable("invalid_request", message)
    for field, kind, expected in _TYPES:
        value = doc.get(field)
        if value is not None and type(value) is not kind:
            raise Unreadable("invalid_request", f"{field} must be {expected}, not {_name(value)}", field)
    return doc


def choices_wanted(doc: dict[str, Any]) -> int:
    """How many choices the caller asked for: ``n``, one by default."""
    count = doc.get("n")
    return count if type(count) is int and count > 0 else 1


def wants_usage(doc: dict[str, Any]) -> bool:
    """Whether the caller of a stream asked for a usage chunk."""
    options = doc.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def changed(call: Call, changes: dict[str, Any]) -> Call:
    """The same call with some fields of its body changed."""
    return dataclasses.replace(call, body=splice(call.body, call.doc, changes), doc={**call.doc, **changes})


def other_dice(doc: dict[str, Any]) -> dict[str, Any]:
    """What is changed where a model is asked again: with the same seed the same dice would fall the same way.

    The temperature is halved: what it has to say is known by now.
    """
    changes: dict[str, Any] = {}
    seed, temperature = doc.get("seed"), doc.get("temperature")
    if type(seed) is int:
        changes["seed"] = seed + 1
    if isinstance(temperature, int | float) and not isinstance(temperature, bool):
        changes["temperature"] = temperature / 2
    return changes


def _name(value: object) -> str:
    return {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
