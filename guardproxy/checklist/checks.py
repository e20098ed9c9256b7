"""The pre-promotion checklist.

Here belong the four questions and their answers, as plain values.  Who is asked, and how it is shown, is elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.core.lru import Lru
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardproxy.core.values import Schema
    from guardproxy.guards import cache, schema

RETRIES = 3
"""Re-asks that production needs at the least."""


def verify(
    json_guard: schema.Settings,
    circuits: Mapping[str, str] | bool | str,
    kept: cache.Settings,
    models: Mapping[str, Mapping[str, Any]],
    now: float,
    *,
    digest: str,
    schemas: Mapping[str, Schema] | None = None,
    reloaded: bool = True,
) -> dict[str, Any]:
    """Ask all four; *circuits* holds each circuit's state, or what `enabled` says where it is not on.

    A fifth answer is there only where there is something wrong with it: whether the configuration in force is the one
    that was last written (*reloaded*).
    """
    items = [
        _item("JSON Hard Guard", *_json(json_guard, schemas or {})),
        _item("Circuit Breaker", *_circuits(circuits)),
        _item("Cache LRU+TTL", *_cache(kept, now)),
        _item("LLM Health Check", *_models(models)),
    ]
    if not reloaded:
        items.append(_item("Configuration", f"the last reload was refused; {digest} from before is in force", ""))
    return {"safe": all(item["ok"] for item in items), "config": digest, "checks": items}


def _item(name: str, problem: str, fine: str) -> dict[str, Any]:
    return {"name": name, "ok": not problem, "detail": problem or fine}


def _json(settings: schema.Settings, schemas: Mapping[str, Schema]) -> tuple[str, str]:
    if settings.enabled is not True:
        return f"json_guard.enabled is {str(settings.enabled).lower()}", ""
    if settings.max_retries < RETRIES:
        return f"json_guard.max_retries is {settings.max_retries}; production needs {RETRIES} or more", ""
    if settings.fallback_enabled and (broken := [name for name, one in schemas.items() if not _holds(one)]):
        return f"the fallback of {', '.join(broken)} does not satisfy its own schema", ""
    fallback = "on" if settings.fallback_enabled else "off"
    backoff = f"backoff {settings.backoff_base:.1f} s"
    return "", f"ENABLED (max retries {settings.max_retries}, {backoff}, fallback {fallback})"


def _holds(one: Schema) -> bool:
    """Whether the fallback of a schema, where it has one, is what the guard would accept of a model."""
    if one.fallback is None:
        return True
    try:
        doc = loads(one.fallback)
    except ValueError:
        return False
    return isinstance(doc, dict) if one.check is None else bool(one.check.is_valid(doc))


def _circuits(circuits: Mapping[str, str] | bool | str) -> tuple[str, str]:
    if isinstance(circuits, bool | str):
        return f"circuit_breaker.enabled is {str(circuits).lower()}", ""
    wrong = [f"{name} is {state.replace('_', '-')}" for name, state in circuits.items() if state != "closed"]
    return ", ".join(wrong), "ALL BREAKERS CLOSED"


def _cache(settings: cache.Settings, now: float) -> tuple[str, str]:
    """Walk an entry through its life in a scratch cache of the same settings: time is an argument there."""
    if settings.enabled is not True:
        return f"cache.enabled is {str(settings.enabled).lower()}", ""
    scratch: Lru[str] = Lru(settings.max_size, settings.max_bytes, settings.ttl_seconds)
    key, later = b"verify", now + settings.ttl_seconds
    if not scratch.put(key, "first", 1, now) or (entry := scratch.get(key, now)) is None or entry.value != "first":
        return "an entry that was set is not found", ""
    if scratch.get(key, later) is not None or scratch.expirations != 1:
        return f"an entry is still found after {settings.ttl_seconds:g} s (cache.ttl_seconds)", ""
    scratch.put(key, "second", 1, later)
    if (entry := scratch.get(key, later)) is None or entry.value != "second":
        return "an entry that has expired is not regenerated", ""
    return "", "set, hit, expired, regenerated"


def _models(models: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    wrong = [
        f"{name} is unhealthy ({told.get('reason', 'no reason given')})"
        for name, told in models.items()
        if told["status"] != "healthy"
    ]
    return "; ".join(wrong), "ALL MODELS HEALTHY"
