"""The files that settings name: schemas, certificates.

Here belong finding them (relative to the configuration's folder), reading schemas, and holding each declared
fallback against its schema: what is answered when all else fails has to be right before it is needed.
Here belongs too which version of a mounted file it is.  Not here: what a schema is (`core.jsonschema`).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Any, Final, TypeVar

from guardproxy.config.tree import spot_of, written
from guardproxy.core import jsonschema

if TYPE_CHECKING:
    from guardproxy.config.settings import Config, Shared, Tls, Upstream
    from guardproxy.config.tree import Node, Path, Problems
    from guardproxy.guards.schema import Declared

MAX_BYTES: Final = 4 << 20
"""Bytes of a schema's file."""


def gather(config: Config, root: Node, folder: File, problems: Problems) -> Config:
    """*config* with every schema in it and every certificate's path made absolute."""
    schemas = {
        name: _declared(declared, ("json_guard", "schemas", name), root, folder, problems)
        for name, declared in config.json_guard.schemas.items()
    }
    upstreams = {
        name: _named(upstream, _CERTIFICATES, ("upstreams", name), root, folder, problems)
        for name, upstream in config.upstreams.items()
    }
    listening = {
        name: _named(getattr(config, name), _TLS, (name,), root, folder, problems) for name in ("tls", "admin_tls")
    }
    for name, tls in listening.items():
        if tls.certificate is None and (tls.key or tls.client_ca):
            problems.add(spot_of(root, (name,)), (name,), "needs `certificate` where it has `key` or `client_ca`")
    shared = _named(config.shared, ("ca_file",), ("shared",), root, folder, problems)
    guard = replace(config.json_guard, schemas=schemas)
    return replace(config, **listening, upstreams=upstreams, json_guard=guard, shared=shared)


_CERTIFICATES = ("ca_file", "client_cert")
_TLS = ("certificate", "key", "client_ca")
S = TypeVar("S", "Upstream", "Tls", "Shared")


def _named(section: S, keys: tuple[str, ...], path: Path, root: Node, folder: File, problems: Problems) -> S:
    """*section* with the paths at *keys* made absolute."""
    found: dict[str, Any] = {}
    for key in keys:
        name = getattr(section, key)
        if name is None:
            continue
        file = folder / name
        found[key] = str(file.absolute())
        if not file.is_file():
            problems.add(spot_of(root, (*path, key)), (*path, key), f"there is no file {str(file)!r}")
    return replace(section, **found)


def _declared(declared: Declared, path: Path, root: Node, folder: File, problems: Problems) -> Declared:
    has_file, has_schema = (written(root, (*path, key)) for key in ("file", "schema"))
    if has_file == has_schema:
        which = "both" if has_file else "neither"
        problems.add(spot_of(root, path), path, f"needs either `file` or `schema`, and has {which}")
        return declared
    where: Path = (*path, "file" if has_file else "schema")
    try:
        schema = _read(folder / declared.file) if declared.file is not None else declared.schema
        if schema is None:  # it was wrong, and is on the list already
            return declared
        validator = jsonschema.compile(schema)
    except jsonschema.InvalidSchema as error:
        inside = f" at #{error.place}" if error.place else ""
        problems.add(spot_of(root, where), where, f"not a usable JSON Schema{inside}: {error.reason}")
        return declared
    except (OSError, ValueError) as error:
        problems.add(spot_of(root, where), where, _unreadable(error, folder, declared))
        return declared
    if declared.fallback is not None:
        below = (*path, "fallback")
        for reason in jsonschema.why(validator, declared.fallback):
            problems.add(spot_of(root, below), below, f"breaks its schema: {reason}")
    return replace(declared, schema=schema)


def _read(file: File) -> Any:
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES >> 20} MiB")
    return json.loads(file.read_text("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(n for n in names if names.count(n) > 1)!r} is written twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def _unreadable(error: Exception, folder: File, declared: Declared) -> str:
    file = str(folder / (declared.file or ""))
    if isinstance(error, OSError):
        return f"{file!r} cannot be read: {(error.strerror or str(error)).lower()}"
    return f"{file!r} is not JSON: {error}"


def version(path: str | None) -> str:
    """Which version of a mounted ConfigMap *path* is: Kubernetes changes one by renaming the link ``..data``.

    Nothing where the file is no part of a ConfigMap: such a file is read again when somebody says so.
    """
    if path is None:
        return ""
    try:
        return str((File(path).parent / "..data").readlink())
    except OSError:
        return ""
