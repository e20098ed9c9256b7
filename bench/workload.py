"""What is asked: the requests of the benchmark, as bytes and as a script for wrk.

Here belongs what one call looks like.  About 230 bytes, a header that real clients send, and no two alike where a
cache must not help.
"""

from __future__ import annotations

import json
from typing import Any

from bench.upstream import MODEL

PATH = "/v1/chat/completions"
MARK = "@@@@@@@@"
"""Stands in a body where eight digits make it unlike all others."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "description": {"type": "string", "minLength": 1},
        "notes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "families": {"type": "array", "items": {"type": "string"}},
        "intensity": {"type": "integer", "minimum": 0, "maximum": 100},
        "longevity": {"enum": ["short", "medium", "long"]},
    },
    "required": ["description", "notes", "families", "intensity", "longevity"],
    "additionalProperties": False,
}
_FORMAT = {"type": "json_schema", "json_schema": {"name": "brief", "strict": True, "schema": SCHEMA}}


def body(*, unique: bool = True, schema: bool = False, events: int = 0, pace_ms: int = 0, filling: int = 0) -> str:
    """The body of a call; `MARK` is in it where *unique*, *events* asks for a stream of so many."""
    ask = f"A brief for a summer perfume, in JSON. {MARK if unique else 'The usual'}{'x' * filling}"
    doc: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": ask}], "temperature": 0.7}
    if schema:
        doc["response_format"] = _FORMAT
    if events:
        doc |= {"stream": True, "max_tokens": events, "seed": pace_ms}
    return json.dumps(doc, separators=(",", ":"))


def head(port: int, length: int, extra: dict[str, str], path: str = PATH) -> str:
    """The head of a POST."""
    fields = {"Host": f"127.0.0.1:{port}", "User-Agent": "bench", "Accept": "*/*", "Content-Type": "application/json"}
    lines = [f"{name}: {value}\r\n" for name, value in {**fields, **extra, "Content-Length": str(length)}.items()]
    return f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n"


def request(port: int, text: str, extra: dict[str, str]) -> str:
    """Head and body, the mark still in it."""
    return head(port, len(text), extra) + text


def lua(whole: str) -> str:
    """A script for wrk that sends *whole*, numbered where it is marked, and prints what came of it as JSON."""
    before, mark, after = whole.partition(MARK)
    if mark:
        ask = f'function request() n = n + 1; return before .. string.format("%0{len(MARK)}d", n) .. after end'
    else:
        ask = "function request() return before end"
    return f"""local before, after, n = {_quoted(before)}, {_quoted(after)}, os.time() % 1000 * 90000
{ask}
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{{"requests":%d,"seconds":%.6f,"errors":%d,"p50":%.3f,"p99":%.3f}}\\n', summary.requests,
    summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


def _quoted(text: str) -> str:
    return '"' + "".join(c if c.isalnum() or c in " ,.:;{}[]/*_-" else f"\\{ord(c):03d}" for c in text) + '"'
