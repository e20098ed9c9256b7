"""Errors in the shape that the OpenAI SDKs read.

Here belongs the envelope ``{"error": {"message", "type", "param", "code"}}``: writing it, and telling
whether somebody else's error is one.
Source: https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

from typing import Any

import orjson

from guardproxy.openai.strict import dumps

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "upstream_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_STATUS = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "context_length_exceeded": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "request_too_large": 413,
    "server_error": 500,
    "api_error": 500,
    "overloaded_error": 503,
    "timeout_error": 504,
}
"""What the codes and types of errors, in the spelling of OpenAI and vLLM, stand for where no number is given."""


def envelope(status: int, code: str | None, message: str, param: str | None = None) -> bytes:
    """Write an error as the body of an answer with *status*."""
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def error_in(doc: Any) -> dict[str, Any] | None:
    """The error that *doc* carries, as a mapping; None where it carries none.

    ``{"error": "text"}`` is taken for one too: several engines write that.
    """
    if not isinstance(doc, dict):
        return None
    error = doc.get("error")
    if isinstance(error, dict):
        return error
    if isinstance(error, str) and error:
        return {"message": error}
    return None


def is_envelope(doc: Any) -> bool:
    """Whether an SDK will find the message of the error in *doc*."""
    return isinstance(doc, dict) and isinstance(doc.get("error"), dict) and isinstance(doc["error"].get("message"), str)


def inner_status(error: dict[str, Any]) -> int:
    """The HTTP status that an error under 200 stands for: a number or a known word in it, else 502."""
    for name in ("code", "status", "http_status"):
        value = error.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isdecimal():
            value = int(value)
        if type(value) is int and 400 <= value <= 599:
            return value
    for name in ("code", "type"):
        if (status := _STATUS.get(str(error.get(name)).lower())) is not None:
            return status
    return 502


def message_of(doc: Any, body: bytes) -> str:
    """What an upstream's error says, whatever its shape: at most 500 characters."""
    if (error := error_in(doc)) is not None and isinstance(error.get("message"), str):
        return str(error["message"])[:500]
    if isinstance(doc, dict):
        for name in ("detail", "message"):
            if doc.get(name):
                value = doc[name]
                return (value if isinstance(value, str) else dumps(value).decode())[:500]
    return body[:500].decode("utf-8", "replace").strip()
