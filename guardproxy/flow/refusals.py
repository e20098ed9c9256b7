"""How a call ends where no upstream gave an answer.

Here belongs the wording and the header fields of every error that the story ends with: when to come back, and
whether coming back can help at all (``x-should-retry``, which the OpenAI SDKs obey).
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING

from guardproxy.core.values import Kind, Reply
from guardproxy.openai.envelope import envelope
from guardproxy.openai.outcome import RETRY_AFTER_CAP

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardproxy.core.values import Answer, Call, Fault, Headers, Verdict

PATIENCE = 10.0
"""Seconds that a call waits for an upstream at the most before it is tried again; callers wait longer by themselves."""
SOON = 30
"""Seconds that we ask a caller to stay away at the most: SDKs sleep as long as they are told, deaf to all else."""
_NO_RETRY = (b"x-should-retry", b"false")
_WAITS = (b"retry-after", b"retry-after-ms")
_JSON = (b"Content-Type", b"application/json")


def nobody_left(call: Call, until: float, now: float, *, busy: bool = False) -> Reply:
    """Every circuit that the call could use is open; *busy*: somebody is well, and only has enough to do."""
    due = max(ceil(until - now), 1) if until < float("inf") else SOON
    wait = min(due, SOON)
    names = ", ".join(dict.fromkeys(target.upstream for target in call.targets))
    if busy:
        write = envelope if call.dialect is None else call.dialect.error
        body, headers = _busy(write, names, wait)
        return Reply(503, body, headers, source="fault", code="overloaded")
    message = f"nobody is left to ask: the circuit of {names} is open; the next probe is due in {due} s"
    return _error(call, 503, "circuit_open", message, [(b"Retry-After", b"%d" % wait), _NO_RETRY])


@lru_cache(maxsize=256)
def _busy(write: Callable[[int, str, str], bytes], names: str, wait: int) -> tuple[bytes, Headers]:
    """Body and header fields of a refusal: in a flood there are thousands of it in a second."""
    message = f"nobody is left to ask: {names} cannot take more calls for {wait} s"
    return write(503, "overloaded", message), [_JSON, (b"Retry-After", b"%d" % wait)]


def gave_up(call: Call, verdict: Verdict, now: float) -> Reply:
    """No answer satisfied its schema and there is nothing to fall back to."""
    del now
    message = f"the model's answer was not accepted: {verdict.note}"
    return _error(call, 502, "invalid_model_output", message, [_NO_RETRY])


def failed(call: Call, fault: Fault) -> Reply:
    """The way to the upstream failed."""
    headers: Headers = []
    if fault.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % min(max(ceil(fault.retry_after), 1), SOON)))
    elif fault.kind is not Kind.IGNORED:
        headers.append(_NO_RETRY)  # our own retries are spent
    return _error(call, fault.status, fault.code, fault.message, headers)


def not_ready(call: Call) -> Reply:
    """The time of a call was over before what it needs was made ready; nobody was asked."""
    return _error(call, 504, "upstream_timeout", "the deadline passed while the schema was made ready", [_NO_RETRY])


def passed_on(answer: Answer, headers: Headers) -> Reply:
    """The upstream's own error, as it came; but a time to wait that makes no sense would send SDKs to sleep for it."""
    if (wait := answer.retry_after) is None or wait >= RETRY_AFTER_CAP:
        headers = [pair for pair in headers if pair[0].lower() not in _WAITS]
        if wait is not None:
            headers.append((b"Retry-After", b"%d" % wait))
    if answer.kind is Kind.FAILURE:
        headers = [*(pair for pair in headers if pair[0].lower() != _NO_RETRY[0]), _NO_RETRY]
    return Reply(answer.status, answer.body, headers, source="upstream", code="upstream_error")


def _error(call: Call, status: int, code: str, message: str, headers: Headers) -> Reply:
    write = envelope if call.dialect is None else call.dialect.error
    return Reply(status, write(status, code, message), [_JSON, *headers], source="fault", code=code)
