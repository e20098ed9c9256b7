"""The reference page of the configuration: ``python -m guardproxy.config.reference``.

Here belongs how the declarations of settings become docs/configuration.md.  Whatever it says about a setting
stands under that setting's field; only the introduction is written here.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from typing import TYPE_CHECKING, Any, Final

from guardproxy.config.fields import REQUIRED, Field, fields, summary
from guardproxy.config.places import Address
from guardproxy.config.settings import Config
from guardproxy.core.units import Bytes, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

_INTRODUCTION: Final = """\
# Configuration

One YAML file. `guardproxy run CONFIG` reads it; without CONFIG the file that `$GUARDPROXY_CONFIG` names, then
`config/guardproxy.yaml`, and where there is none, every value is the default. A file says only what differs.

- `guardproxy check` names everything that is wrong with it, each with its line; `guardproxy explain` says what it
  amounts to, and where each value came from.
- Every setting can be overridden on the command line: `-o circuit_breaker.timeout=30s`. The value is read as YAML;
  names with dots in them stand in quotes: `-o 'upstreams."qwen2.5".url=http://127.0.0.1:8001'`.
- `${NAME}` and `${NAME:-default}` are replaced from the environment; the default counts where the variable is unset or
  empty, and `$${` stands for a literal `${`. What comes of it is read as if it had been written there.
- A *duration* is a number of seconds, or text such as `250ms`, `30s`, `5m`, `1h`. A *size* is a number of bytes, or
  text such as `64KiB`, `256MiB`, `1GiB`.
- Words are those of YAML 1.2, and `yes`, `no`, `on`, `off` besides. Dates stay text. Keys written twice, tags, merge
  keys (`<<`) and a second document are refused.
- A section of which everything is left out or commented out counts as absent. `upstreams` and `modes` replace the
  defaults as a whole; where only `upstreams` is written, those default modes remain whose upstream is there.
- For editors: `config/guardproxy.schema.json`, as in `# yaml-language-server: $schema=guardproxy.schema.json`.

This page is made from the source: `python -m guardproxy.config.reference > docs/configuration.md`.
"""
_TYPES: Final = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    Seconds: "duration",
    Bytes: "size",
    Address: "address",
    Any: "any JSON",
}


def text() -> str:
    """The page's content."""
    parts = [_INTRODUCTION]
    for title, record in _sections(Config, ""):
        rows = [_row(field) for field in fields(record)]
        head = f"## {f'`{title}`' if title else 'Top level'}\n\n{_prose(summary(record))}\n"
        parts.append("\n".join([head, "| setting | type | default | meaning |", "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _sections(record: type, title: str) -> Iterator[tuple[str, type]]:
    yield title, record
    for field in fields(record):
        name = f"{title}.{field.name}" if title else field.name
        kind, args = field.type, typing.get_args(field.type)
        if typing.get_origin(kind) is dict and dataclasses.is_dataclass(args[1]):
            yield from _sections(args[1], f"{name}.NAME")  # type: ignore[arg-type] # a class, not an instance
        elif typing.get_origin(kind) is tuple and dataclasses.is_dataclass(args[0]):
            yield from _sections(args[0], f"{name}[…]")  # type: ignore[arg-type] # as above
        elif dataclasses.is_dataclass(kind):
            yield from _sections(kind, name)  # type: ignore[arg-type] # as above


def _row(field: Field) -> str:
    cells = (f"`{field.name}`", _type(field), _default(field), _prose(field.doc))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(field: Field) -> str:
    rule = field.rule
    low = (
        f"> {rule.above:g}"
        if math.isfinite(rule.above)
        else f"≥ {rule.minimum:g}"
        if math.isfinite(rule.minimum)
        else ""
    )
    high = f"≤ {_count(rule.maximum)}" if rule.maximum <= 3600 else ""
    return ", ".join(filter(None, (_kind(field.type), low, high)))


def _kind(kind: Any) -> str:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return ", ".join(_kind(arg) for arg in args if arg is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{word}`" for word in args)
    if origin is tuple:
        return "list" if dataclasses.is_dataclass(args[0]) else f"list of {_kind(args[0])}"
    if origin is dict or dataclasses.is_dataclass(kind):
        return "mapping"
    return _TYPES[kind]


def _default(field: Field) -> str:
    value = field.default
    if value is REQUIRED:
        return "*required*"
    if dataclasses.is_dataclass(value):
        return "see below"
    if isinstance(value, dict) and value:
        return "built in: " + ", ".join(f"`{name}`" for name in value)
    if isinstance(value, Address):
        return f"`{value}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value) or "none"
    if value is None:
        return "null"
    if field.type is Bytes:
        return f"`{_count(value)}`"
    if value in ("", {}):
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _count(value: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size and value % size == 0:
            return f"{int(value // size)}{unit}"
    return f"{value:g}"


def _prose(doc: str) -> str:
    return doc.replace("``", "`")


if __name__ == "__main__":
    sys.stdout.write(text())
