"""The manners a simulated server can be ordered to have: their names, values and meaning, read from one line of text.

Here belongs the vocabulary (`Manners`, how a line becomes one, the table for `--help` and the documentation). Here does
not belong when an order is due (`orders`) nor how misbehaviour gets onto the wire (`wire`, `spoil`).

One line of text is one order: `latency=0.5,status=503,times=3`. Where an order holds several wrongs at once, the first
of this list is done: reset-before, hang, garbage, loading, status, error-200, strict-model, reset-after; the others
concern different parts of an answer and can be combined.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, final

if TYPE_CHECKING:
    from collections.abc import Callable


class MannerError(ValueError):
    """An order nobody can follow: an unknown name, or a value that is missing, superfluous or out of range."""


def _read_seconds(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError(text)
    return value


def _read_interval(text: str) -> float:
    value = _read_seconds(text)
    if value == 0:
        raise ValueError(text)  # without end and without pause is a flood
    return value


def _read_count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _read_positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _read_status(text: str) -> int:
    value = int(text)
    if not 300 <= value <= 599:
        raise ValueError(text)
    return value


def _read_share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(text)
    return value


def _manner(says: str, wants: str, read: Callable[[str], Any] | None, default: Any, *, wrong: bool) -> Any:
    return field(default=default, metadata={"says": says, "wants": wants, "read": read, "wrong": wrong})


def _flag(says: str, *, wrong: bool = True) -> Any:
    return _manner(says, "", None, default=False, wrong=wrong)


def _delay(says: str) -> Any:
    return _manner(says, "S", _read_seconds, 0.0, wrong=False)


def _after(says: str) -> Any:
    return _manner(says, "N", _read_count, None, wrong=True)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """One order: how a server behaves towards the requests it is due for. The default is a well-behaved server.

    Seconds are floats, counts are integers; *content events* are the streamed chunks that carry text (neither the role
    chunk nor finish, usage and `[DONE]`).
    """

    latency: float = _delay("waits S seconds before anything else")
    slow_first_token: float = _delay("sends the headers of a stream at once, its first event S seconds later")
    early_role: bool = _flag(
        "with slow-first-token: sends the role at once, the first word S seconds later", wrong=False
    )
    token_delay: float = _delay("waits S seconds between content events (an answer not streamed takes as long in sum)")
    stall: int | None = _after("goes silent for ever after N content events (not streamed: never answers)")
    reset_before: bool = _flag("resets the connection before the first byte of the answer")
    reset_after: bool = _flag("resets the connection after the headers")
    reset_mid: int | None = _after("resets the connection after N content events (not streamed: after half the body)")
    cut: int | None = _after(
        "closes cleanly, with no end of stream, after N content events (not streamed: half the body)"
    )
    status: int | None = _manner("answers with this HTTP status, 300 to 599", "CODE", _read_status, None, wrong=True)
    retry_after: str | None = _manner("with status or loading: the Retry-After to send", "S", str, None, wrong=True)
    half_json: bool = _flag("JSON that ends half-way")
    fenced_json: bool = _flag("JSON in a Markdown code fence")
    prose_json: bool = _flag("a sentence before the JSON")
    wrong_type: bool = _flag("JSON that violates its schema: one value has a wrong type")
    not_json: bool = _flag("prose where JSON was asked for")
    right_on: int | None = _manner(
        "is wrong until the N-th try of the same conversation (first user message, model), which is right; then anew",
        "N", _read_positive, None, wrong=False,
    )  # fmt: skip
    hang: bool = _flag("accepts the request and never answers")
    error_200: int | None = _manner(
        "answers 200 with an error envelope whose inner code is CODE (default 500)",
        "[CODE]", _read_status, None, wrong=True,
    )  # fmt: skip
    error_event: int | None = _after("streams an error event after N content events, then [DONE] (not streamed: a 500)")
    no_done: bool = _flag("leaves the [DONE] out of a stream that is else complete")
    comments: float | None = _manner(
        "streams nothing but `: ping` comments, one every S seconds (not streamed: never answers)",
        "S", _read_interval, None, wrong=True,
    )  # fmt: skip
    empty: bool = _flag("answers with no choices")
    length: bool = _flag("cuts the text in half and says finish_reason length")
    loading: bool = _flag("answers 503 `Loading model` on every path, as llama.cpp does while it warms up")
    garbage: bool = _flag("answers with bytes that are not HTTP")
    strict_model: bool = _flag("answers 404 to a model name it does not serve, as vLLM does")
    echo_id: bool = _flag("puts the caller's X-Request-Id into the text", wrong=False)
    times: int | None = _manner("limits the order to its first K requests", "K", _read_positive, None, wrong=False)
    rate: float | None = _manner(
        "limits the order to this share of requests, evenly spread: 0.25 is each fourth",
        "SHARE", _read_share, None, wrong=False,
    )  # fmt: skip

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read an order like `latency=0.5,reset-before`; an empty line is good manners.

        Raises `MannerError`, which names the right names, or what the value should have been.
        """
        known = {name_of(spec.name): spec for spec in fields(cls)}
        values: dict[str, Any] = {}
        for item in filter(None, (item.strip() for item in line.split(","))):
            name, equals, text = (part.strip() for part in item.partition("="))
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise MannerError(f"no such manner: {name!r}{hint}; there are {', '.join(known)}")
            spec = known[name]
            if spec.name in values:
                raise MannerError(f"{name} is ordered twice")
            values[spec.name] = _value(name, spec.metadata, equals, text)
        if "retry_after" in values and not ("status" in values or "loading" in values):
            raise MannerError("retry-after goes with status=CODE or loading")
        return cls(**values)

    def __str__(self) -> str:
        """Give the line that `parse` reads as this order."""
        return ",".join(
            name_of(spec.name) if value is True else f"{name_of(spec.name)}={value:g}" if isinstance(value, float)
            else f"{name_of(spec.name)}={value}"
            for spec, value in self._departures()
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the manners that are not the default."""
        return tuple(name_of(spec.name) for spec, _ in self._departures())

    def over(self, other: Manners) -> Manners:
        """Both orders at once; where they collide this one wins."""
        return replace(other, **{spec.name: value for spec, value in self._departures()})

    def relieved(self) -> Manners:
        """The same order without anything wrong: delays remain, for a right answer is not a faster one."""
        right: dict[str, Any] = {spec.name: spec.default for spec in fields(self) if spec.metadata["wrong"]}
        return replace(self, **right)

    def _departures(self) -> list[tuple[Any, Any]]:
        pairs = ((spec, getattr(self, spec.name)) for spec in fields(self))
        # By type too: `cut=0` is an order and equals the False and 0.0 that are none elsewhere.
        return [(spec, value) for spec, value in pairs if value is not spec.default and (value or spec.default is None)]


def _value(name: str, about: Any, equals: str, text: str) -> object:
    read, wants = about["read"], about["wants"]
    if read is None:
        if equals:
            raise MannerError(f"{name} takes no value")
        return True
    if not equals and wants == "[CODE]":
        return 500
    if not text:
        raise MannerError(f"{name} needs a value: {name}={wants}")
    try:
        return read(text)
    except ValueError:
        raise MannerError(f"{name}={text}: it {about['says']}") from None


def name_of(attribute: str) -> str:
    """The name in an order of an attribute of `Manners`: `reset_before` is ordered as `reset-before`."""
    return attribute.replace("_", "-")


def table() -> list[tuple[str, str]]:
    """Every manner as it is written (`cut=N`) and what it does, for `--help` and the documentation."""
    rows = []
    for spec in fields(Manners):
        wants = spec.metadata["wants"]
        value = "[=CODE]" if wants == "[CODE]" else f"={wants}" if wants else ""
        rows.append((name_of(spec.name) + value, str(spec.metadata["says"])))
    return rows
