"""Every value that counts, one by one, with where it came from.

Here belong the flat view of a configuration, its digest and its origins.  Not here: how they are shown (cli).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from guardproxy.config.places import Address
from guardproxy.config.settings import secret
from guardproxy.config.tree import BUILT_IN, dotted, spot_of, written
from guardproxy.guards.breaker import Override

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guardproxy.config.settings import Config
    from guardproxy.config.tree import Node, Path


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each setting with its value; what is free JSON, such as a mode's `params`, stays in one piece."""
    if isinstance(value, Override):  # what is left out there is as for all
        yield from (
            ((*path, f.name), found) for f in dataclasses.fields(value) if (found := getattr(value, f.name)) is not None
        )
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, dict) and value and all(map(dataclasses.is_dataclass, value.values())):
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, i))
    else:
        yield path, value


def as_json(value: Any) -> Any:
    """*value* as JSON has it."""
    if isinstance(value, Address):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def digest(config: Config) -> str:
    """Twelve hex digits that change whenever any value does."""
    values = {dotted(path): _even(as_json(value)) for path, value in leaves(config)}
    order = {"upstreams": list(config.upstreams), "modes": list(config.modes)}
    text = json.dumps([values, order], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _even(value: Any) -> Any:
    """600.0 seconds are 600 seconds."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def origins(config: Config, root: Node) -> dict[str, str]:
    """Where each value came from: ``default``, ``FILE:LINE``, ``-o``, each with ``(env NAME)`` where one had a say."""
    found = {dotted(path): str(spot_of(root, path)) if written(root, path) else BUILT_IN for path, _ in leaves(config)}
    for name, declared in config.json_guard.schemas.items():
        if declared.file is not None:
            found[dotted(("json_guard", "schemas", name, "schema"))] = declared.file
    return found


def shown(path: Path, value: Any) -> Any:
    """*value* for people: a secret is only said to be there."""
    if secret(path) and value:
        return sorted(value) if isinstance(value, dict) else "***"
    return as_json(value)
