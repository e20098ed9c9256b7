"""How long nobody else is served while a schema, or a body, arrives that makes much work.

Here belong the hostile requests, and the caller who asks for `/healthz` all the while over a connection of his own;
both are in another process than the proxy.  No model is asked: there is none.  What the proxy then says is of no
interest, but that it is alive.

    python -m bench.stall [SECONDS]
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.process import free_port

if TYPE_CHECKING:
    from collections.abc import Callable


def bush(depth: int) -> dict[str, Any]:
    """Alternatives that double with every level."""
    made: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        made = {"anyOf": [made, {"type": "array", "items": made}]}
    return made


def chain(length: int) -> dict[str, Any]:
    """Definitions of which each names the next."""
    parts: dict[str, Any] = {f"d{n}": {"properties": {"x": {"$ref": f"#/$defs/d{n + 1}"}}} for n in range(length)}
    return {"$defs": {**parts, f"d{length}": {}}, "$ref": "#/$defs/d0"}


def flat(title: str) -> dict[str, Any]:
    """10 kB of members."""
    return {"title": title, "properties": {f"m{i}": {"type": "string"} for i in range(320)}}


BUSH, LESS = bush(14), bush(12)
SCHEMAS: dict[str, Callable[[int], Any]] = {
    "an ordinary schema": lambda n: {"title": str(n), "properties": {"a": {"type": "string"}}},
    "24 kB of alternatives": lambda n: {"title": str(n), "allOf": [bush(9)]},
    "250 kB of alternatives": lambda n: {"title": str(n), "allOf": [LESS]},
    "1 MB of alternatives": lambda n: {"title": str(n), "allOf": [BUSH]},
    "1 MB of members": lambda n: {"title": str(n), "properties": {f"m{i}": {"type": "string"} for i in range(32_000)}},
    "1 MB of `enum`": lambda n: {"title": str(n), "enum": [f"value {i}" for i in range(65_000)]},
    "1 MB of objects in `enum`": lambda n: {"enum": [{"a": i} for i in range(45_000)] + [str(n) + "x" * 400_000]},
    "1 MB of patterns": lambda n: {"title": str(n), "properties": {f"m{i}": {"pattern": f"^{i}"} for i in range(15_000)}},  # noqa: E501 -- a table
    "one pattern of 100,000 turns": lambda n: {"title": str(n), "pattern": "((.{1,100}){1,100}){1,9}"},
    "9,000 definitions in a row": lambda n: {"title": str(n), **chain(9_000)},
    "100 tools of 10 kB": lambda n: [flat(f"{n} {tool}") for tool in range(100)],
}  # fmt: skip
BODIES: dict[str, bytes] = {
    "a body of 10 MB, one text": b'"' + b"x" * 10_000_000 + b'"',
    "a body of 1 MB, small objects": b"[" + b",".join([b'{"a":1}'] * 125_000) + b"]",
    "a body of 10 MB, small objects": b"[" + b",".join([b'{"a":1}'] * 1_250_000) + b"]",
}


def main(seconds: float) -> None:
    """Ask, and print the longest time without an answer for each."""
    with tempfile.TemporaryDirectory() as folder:
        port, admin, nobody = free_port(), free_port(), free_port()
        file = Path(folder, "guardproxy.yaml")
        settings = {
            "listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}",
            "upstreams": {"llama": {"url": f"http://127.0.0.1:{nobody}", "model": "llama"}}, "modes": {},
            "retry": {"attempts": 0}, "circuit_breaker": {"enabled": False}, "health": {"interval": 300},
        }  # fmt: skip
        file.write_text(json.dumps(settings))
        with subprocess.Popen(
            [sys.executable, "-m", "guardproxy", "run", str(file)],
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        ) as proxy:
            try:
                _measure(port, seconds)
            finally:
                proxy.terminate()


def _measure(port: int, seconds: float) -> None:
    deadline = time.monotonic() + 30
    while _healthz(port, 1) is None:
        if time.monotonic() > deadline:
            raise SystemExit("the proxy has not come up")
        time.sleep(0.1)
    print(f"{'what arrives':34}{'times':>6}{'its own ms':>12}{'/healthz median':>17}{'99 of 100':>11}{'longest':>9}")
    for what, made in SCHEMAS.items():
        _report(what, port, seconds, [_asking(made(n)) for n in range(6)])
    for what, body in BODIES.items():
        _report(what, port, seconds, [b'{"model":"llama","messages":[],"x%d":%b}' % (n, body) for n in range(2)])


def _asking(schema: Any) -> bytes:
    if isinstance(schema, list):
        tools = [{"type": "function", "function": {"name": f"f{n}", "parameters": s}} for n, s in enumerate(schema)]
        return json.dumps({"model": "llama", "messages": [], "tools": tools}).encode()
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return json.dumps({"model": "llama", "messages": [], "response_format": form}).encode()


def _report(what: str, port: int, seconds: float, bodies: list[bytes]) -> None:
    spans: list[float] = []
    own: list[float] = []
    over = threading.Event()

    def probe() -> None:
        while not over.is_set():
            if _healthz(port, 200, spans) is None:
                spans.append(60.0)

    prober = threading.Thread(target=probe)
    prober.start()
    until = time.monotonic() + seconds
    for body in bodies:
        if time.monotonic() > until:
            break
        at = time.monotonic()
        caller = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        caller.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        caller.getresponse().read()
        own.append(time.monotonic() - at)
        caller.close()
    time.sleep(0.2)
    over.set()
    prober.join()
    spans.sort()
    print(
        f"{what:34}{len(own):6}{sum(own) / len(own) * 1e3:12.0f}{spans[len(spans) // 2] * 1e3:17.1f}"
        f"{spans[len(spans) * 99 // 100] * 1e3:11.1f}{spans[-1] * 1e3:9.1f}",
        flush=True,
    )


def _healthz(port: int, times: int, spans: list[float] | None = None) -> float | None:
    """Ask over one connection; the last span, None where there was no answer."""
    span = None
    try:
        asker = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(times):
            at = time.monotonic()
            asker.request("GET", "/healthz")
            asker.getresponse().read()
            span = time.monotonic() - at
            if spans is not None:
                spans.append(span)
            time.sleep(0.001)
        asker.close()
    except OSError:
        return None
    return span


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 6.0)
