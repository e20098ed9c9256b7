"""Asking a running proxy: whether it is safe to promote, what became of a call.

Here belongs the client side: one request, and how the checklist is shown.
"""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

LINE = "=" * 38
COLUMN = 25


class Unanswered(Exception):  # noqa: N818 -- a finding, shown as such
    """The proxy gave no checklist; the message says why."""


def fetch(url: str, seconds: float = 30.0) -> dict[str, Any]:
    """Get the checklist of the proxy at *url*; raises `Unanswered`."""
    status, doc = get(url, "/guard/verify", seconds)
    if status != http.HTTPStatus.OK or "checks" not in doc:
        message = f"{url} answered {status}, which is no checklist: is a guardproxy listening there?"
        raise Unanswered(message)
    return doc


def get(url: str, path: str, seconds: float = 30.0) -> tuple[int, dict[str, Any]]:
    """Ask the proxy at *url* for a document: the status, and what it says; raises `Unanswered`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = f"{url!r} is no URL such as http://127.0.0.1:8000"
        raise Unanswered(message)
    make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = make(parts.hostname, parts.port, timeout=seconds)
        try:
            connection.request("GET", path, headers={"Accept": "application/json"})
            response = connection.getresponse()
            body = response.read(4 << 20)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        message = f"no answer from {url}: {error}"
        raise Unanswered(message) from error
    try:
        doc = json.loads(body)
    except ValueError:
        doc = None
    return response.status, doc if isinstance(doc, dict) else {}


def render(result: dict[str, Any]) -> str:
    """The checklist for people."""
    lines = ["Verifying production guards...", LINE]
    for number, check in enumerate(result["checks"], 1):
        mark = "✓" if check["ok"] else "✗"
        lines.append(f"{number}. {check['name']}...".ljust(COLUMN) + f"{mark} {check['detail']}")
    lines.append(LINE)
    lines += ["✓ ALL GUARDS VERIFIED", "✓ SAFE TO PROMOTE TO PRODUCTION"] if result["safe"] else ["✗ DO NOT PROMOTE"]
    return "\n".join(lines)
