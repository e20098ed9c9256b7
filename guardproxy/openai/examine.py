"""Whether a whole HTTP answer is an answer at all, and what it says.

Here belongs the one place where bytes of an upstream become an `Answer` with a document and a kind, or a
`Fault`.  What an answer must hold, and how an error is put, is for the dialects to say.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from guardproxy.core.values import Answer, Fault, Kind
from guardproxy.openai.envelope import inner_status, message_of
from guardproxy.openai.fields import JSON, retyped, value
from guardproxy.openai.outcome import kind_of, retry_after
from guardproxy.openai.strict import dumps, loads

if TYPE_CHECKING:
    from guardproxy.core.dialect import Scan
    from guardproxy.core.values import Call
    from guardproxy.openai.language import Language


FAILED = "error"
"""The finish reason by which an engine says that it has broken (vLLM)."""
ENDED = frozenset(("stop", "tool_calls", "function_call", "eos_token", "stop_sequence", "eos", "end_turn"))
"""Finish reasons that say that the model had said what it had to say."""
INFLATED = 64 << 20
"""Bytes that a compressed answer may become."""
_BOMB = b"too large"
"""Stands for a body that was not unpacked to its end."""
_SUCCESS = Kind.SUCCESS


def examine(call: Call, answer: Answer, language: Language) -> Answer | Fault:
    """Read *answer*, given to *call* by its upstream in this *language*."""
    status = answer.status
    if 200 <= status < 300:
        return _success(call, answer, language)
    if status < 400:
        return _bad(call.upstream, answer, f"redirected (status {status}); redirects are not followed", again=False)
    body = _plain(answer) or b""
    try:
        doc = loads(body)
    except ValueError:
        doc = None
    return _error(answer, status, doc, body, language)


def finished(doc: Any) -> bool:
    """Whether every choice of the completion *doc* ended of itself."""
    choices = doc.get("choices") if isinstance(doc, dict) else None
    for choice in choices or ():  # loops here and below: a generator costs more than what it looks at
        if not isinstance(choice, dict):
            return False
        reason = choice.get("finish_reason")
        if not isinstance(reason, str) or reason not in ENDED:
            return False
    return bool(choices)


def choices_flaw(doc: Any) -> str | None:
    """What keeps *doc* from being a completion: it must be an object with choices that are objects."""
    if not isinstance(doc, dict):
        return "answered JSON that is no object"
    choices = doc.get("choices")
    if not isinstance(choices, list) or not choices:
        return "answered without choices"
    for choice in choices:
        if not isinstance(choice, dict):
            return "answered with choices that are no objects"
        if choice.get("finish_reason") == FAILED:
            return "ended its answer with an error"
    return None


def _success(call: Call, answer: Answer, language: Language) -> Answer | Fault:
    body, upstream = _plain(answer), call.upstream
    if body is None:
        return _bad(upstream, answer, "sent a compressed body that cannot be read, though none was asked for")
    if body is _BOMB:
        what = f"sent {len(answer.body)} bytes that unpack to more than {INFLATED}, though none was asked for"
        return _bad(upstream, answer, what, again=False)
    scan = _scanned(call, answer, body, language) if language.is_stream(answer.headers) else None
    try:
        doc = loads(body) if scan is None else scan.told() or language.assemble(body)
    except ValueError as error:
        kind = (value(answer.headers, b"content-type") or b"no content type").decode("latin-1")
        return _bad(upstream, answer, f"answered {answer.status} with {kind} that is not JSON: {error}")
    if (inner := language.trouble(doc)) is not None:
        return _error(answer, inner_status(inner), doc, body, language)
    if (wrong := language.flaw(doc)) is not None:
        return _bad(upstream, answer, wrong)
    if scan is not None and not scan.complete():
        message = f"upstream {upstream} ended its stream before the answer was complete"
        return Fault(answer.at, "upstream_reset", message, first=answer.first)
    return Answer(
        answer.at,
        answer.status,
        answer.headers,
        answer.body,
        _SUCCESS,
        answer.first,
        doc,
        keepable=language.finished(doc) if scan is None else scan.keepable(),
        streamed=scan is not None,
    )


def _scanned(call: Call, answer: Answer, body: bytes, language: Language) -> Scan:
    """Who has read the stream *body* to its end: what is complete is said in one place, relayed or not."""
    scan = answer.scan
    if scan is None:
        scan = language.gather(call)
        scan.feed(body)
    scan.close()
    return scan


def _error(answer: Answer, status: int, doc: Any, plain: bytes, language: Language) -> Answer:
    """An upstream's own error, its shape mended where a client could not read it; *plain* is its body, decoded."""
    error = language.trouble(doc)
    wait = retry_after(answer.headers)
    kind = kind_of(status, error, asked_to_wait=wait is not None)
    headers, body = answer.headers, answer.body
    if not language.readable(doc):
        code = error.get("code") if error is not None and isinstance(error.get("code"), str) else None
        message = message_of(doc, plain) or f"the upstream answered with status {status}"
        body = language.error(status, code or "upstream_error", message)
        headers = retyped(headers, JSON)
    elif status != answer.status:  # it came under 200, perhaps as an event
        body, headers = dumps(doc), retyped(headers, JSON)
    return Answer(answer.at, status, headers, body, kind, answer.first, doc, retry_after=wait)


def _plain(answer: Answer) -> bytes | None:
    """The body without its content coding; None where that cannot be had, `_BOMB` where it would be too large."""
    given = value(answer.headers, b"content-encoding")
    if given is None or (coding := given.strip().lower()) in (b"", b"identity"):
        return answer.body
    if coding not in (b"gzip", b"x-gzip", b"deflate"):
        return None
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        body = inflate.decompress(answer.body, INFLATED)
    except zlib.error:
        return None
    return body if inflate.eof else _BOMB if inflate.unconsumed_tail else None


def _bad(upstream: str, answer: Answer, what: str, *, again: bool = True) -> Fault:
    return Fault(answer.at, "upstream_protocol", f"upstream {upstream} {what}", first=answer.first, again=again)
