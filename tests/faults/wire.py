"""Bytes on both sides of the proxy: what model servers write, and what an app makes of what it reads.

Here belong answers as bytes and a reader that takes them one way only.  Nothing here uses an HTTP library: what is
tested is what is on the wire.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
EVENTS = b"text/event-stream"


def asking(text: str = "a rose", **more: Any) -> dict[str, Any]:
    """The body of a call to llama."""
    return {"model": "llama", "messages": [{"role": "user", "content": text}], **more}


def request(
    body: Any = None, *fields: str, method: str = "POST", path: str = CHAT, close: bool = True, host: str = "app.test"
) -> bytes:
    """The bytes of a request, whose connection ends with its answer unless told otherwise."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *fields]
    if close:
        lines.append("Connection: close")
    if content and not any(field.lower().startswith("content-length:") for field in fields):
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


# -- what model servers say


def head(*fields: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, b"Content-Type: " + kind, *fields, b"", b""])


def whole(body: bytes, *fields: bytes, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """An answer of known length."""
    return head(b"Content-Length: %d" % len(body), *fields, status=status, kind=kind) + body


def completion(text: str = "a scent", finish: str = "stop", **more: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], **more}).encode()


def mistake(message: str = "no", code: Any = None, type: str = "server_error") -> bytes:  # noqa: A002 -- its name in the envelope
    return json.dumps({"error": {"message": message, "type": type, "param": None, "code": code}}).encode()


def piece(text: str, finish: str | None = None) -> bytes:
    """One event of a streamed completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    doc = {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return b"data: %b\n\n" % json.dumps(doc).encode()


STREAM = head(b"Transfer-Encoding: chunked", kind=EVENTS)
LAST = b"0\r\n\r\n"


def chunk(*parts: bytes) -> bytes:
    data = b"".join(parts)
    return b"%x\r\n%b\r\n" % (len(data), data)


def events(*parts: bytes, done: bytes = DONE) -> bytes:
    """A whole stream of these events."""
    return STREAM + chunk(*parts, done) + LAST


WELL = completion()
WELL_EVENTS = (piece("a "), piece("scent"), piece("", "stop"))


# -- what an app reads


@dataclass
class Seen:
    """An answer as a strict reader takes it; `cut`: it ended without what ends a body."""

    status: int
    fields: dict[str, str]
    body: bytes
    cut: bool
    wire: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error in it, which must be an envelope as the SDKs read it."""
        error = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert error["message"]
        return dict(error)

    @property
    def datas(self) -> list[bytes]:
        """The data of each event."""
        lines = [line for block in self.body.split(b"\n\n") for line in block.split(b"\n")]
        return [line[6:] for line in lines if line.startswith(b"data: ")]


def read(wire: bytes, *, bodiless: bool = False, more: bool = False) -> tuple[Seen, bytes]:
    """Read one answer and return it with what is left; fails on what two readers could take differently.

    With *more*, bytes may follow; without, there must be none.
    """
    assert b"\r\n\r\n" in wire, wire
    top, rest = wire.split(b"\r\n\r\n", 1)
    line, *lines = top.split(b"\r\n")
    assert line.startswith(b"HTTP/1.1 "), line
    assert not any(bad in top.replace(b"\r\n", b"") for bad in (b"\r", b"\n", b"\0")), top
    pairs = [(name.lower().decode(), value.decode("latin-1")) for name, _, value in (x.partition(b": ") for x in lines)]
    fields = dict(pairs)
    framing = [name for name, _ in pairs if name in ("content-length", "transfer-encoding")]
    status, cut = int(line[9:12]), False
    if status < 200:
        return read(rest, bodiless=bodiless, more=more)
    if bodiless or status in (204, 304):
        body = b""
    else:
        assert len(framing) == 1, (framing, wire[:300])
        if framing == ["content-length"]:
            length = int(fields["content-length"])
            body, rest, cut = rest[:length], rest[length:], len(rest) < length
        else:
            body, rest, cut = _chunks(rest)
    assert more or not rest, rest
    return Seen(status, fields, body, cut, wire), rest


def _chunks(rest: bytes) -> tuple[bytes, bytes, bool]:
    body = b""
    while True:
        size, found, after = rest.partition(b"\r\n")
        if not found:
            return body, b"", True
        length = int(size, 16)
        if not length:
            assert after[:2] in (b"\r\n", b""), rest[-200:]
            return body, after[2:], not after
        body += after[:length]
        if len(after) < length + 2:
            return body, b"", True
        assert after[length : length + 2] == b"\r\n", rest[:300]
        rest = after[length + 2 :]
