"""Which calls may be answered from memory.

Here belongs what a call says about that: whether it leaves something on the server, and whether the model would say
the same again.  What the operator wants, and what the caller says in his header fields, is the cache guard's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardproxy.core.dialect import Dialect
    from guardproxy.core.values import Call

STATEFUL = ("store", "conversation", "previous_response_id", "background")
"""Request fields that make the server remember something: such calls are never answered from memory."""
_STATEFUL = frozenset(STATEFUL)


def is_stateful(doc: dict[str, Any], dialect: Dialect) -> bool:
    """Whether the call leaves something on the server, or goes on from there."""
    if dialect.remembers and doc.get("store") is not False:
        return True
    return not _STATEFUL.isdisjoint(doc) and any(doc.get(name) for name in STATEFUL)


def is_deterministic(call: Call, dialect: Dialect) -> bool:
    """Whether it is asked at temperature 0 or with a seed, be it by its mode."""
    options = call.doc.get(dialect.nest) if dialect.nest else call.doc
    said: dict[str, Any] = options if isinstance(options, dict) else {}
    target = call.targets[0]
    mode = target.params if call.named_mode or target.moved_from else {}
    temperature, seed = (said[name] if name in said else mode.get(name) for name in ("temperature", "seed"))
    return seed is not None or (temperature == 0 and not isinstance(temperature, bool))
