"""What every client is asked to do: each row is one thing an app does, written in the client's own words.

A script of this folder runs in the environment of its client, with the proxy's address as its argument:

    rows = Rows()

    @rows.does("chat")
    def _() -> None: ...

    rows.tell()

What raises has failed, with its message as the reason; what a client has no words for is named by `lacks`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = sys.argv[1] if len(sys.argv) > 1 else ""
"""The proxy's address, without /v1."""
URL = f"{BASE}/v1"
KEY = "none"
ASK = "Generate a brief perfume description."
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["name", "n"],
    "additionalProperties": False,
}


class Rows:
    """What was done, and how it ended."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def does(self, row: str) -> Callable[[Callable[[], Any]], None]:
        """Do the decorated function at once, as this row."""

        def do(function: Callable[[], Any]) -> None:
            try:
                if inspect.iscoroutinefunction(function):
                    asyncio.run(function())
                else:
                    function()
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is what the table says
                self._found[row] = f"{type(error).__name__}: {error}"[:300]
            else:
                self._found[row] = "yes"

        return do

    def lacks(self, row: str, why: str) -> None:
        """The client has no words for this row."""
        self._found[row] = f"no: {why}"

    def tell(self) -> None:
        """Print the result, as the last line."""
        sys.stdout.write("\n" + json.dumps(self._found) + "\n")


def sent(upstream: str) -> int:
    """How many calls the proxy has sent to *upstream*, as its metrics say."""
    with urllib.request.urlopen(f"{BASE}/metrics") as answer:  # noqa: S310 -- ours, on loopback
        lines = answer.read().decode().splitlines()
    name = f'llm_requests_total{{model="{upstream}"}} '
    return int(float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2]))


def fits(value: Any) -> None:
    """*value* must be what the schema asks for."""
    doc = json.loads(value) if isinstance(value, str) else value
    assert isinstance(doc["name"], str), doc
    assert doc["n"] in range(10), doc
