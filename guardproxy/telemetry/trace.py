"""Which trace a call belongs to.

Here belongs reading the caller's ``traceparent``.  It goes upstream untouched, like every field that is not ours,
unless spans are made (spans); what is made of it here is the id by which log lines, exemplars and the live page can be
found from a trace.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guardproxy.core.values import Headers

_PARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


def trace_of(headers: Headers) -> str:
    """The id of the trace that ``traceparent`` names, in hexadecimal; nothing where there is none or it is none."""
    for name, value in headers:
        if len(name) == 11 and name.lower() == b"traceparent":
            found = _PARENT.fullmatch(value.strip())
            return "" if found is None or value[:2] == b"ff" else found[1].decode()
    return ""
