"""The way from a file to a `Config`: the one door of this package.

    text -> tree -> + defaults -> + overrides -> values -> contradictions -> files -> Config
             `text`    here        `overrides`   `decode`   `agree`            `files`

Nothing stops at the first problem: each stage notes what it finds and hands on what is left.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path as File
from typing import TYPE_CHECKING, Final, final

from guardproxy.config import agree, effective, files, text
from guardproxy.config.decode import decode
from guardproxy.config.overrides import apply
from guardproxy.config.settings import Config
from guardproxy.config.tree import BUILT_IN, Invalid, Problem, Problems, Spot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from guardproxy.config.tree import Node

__all__ = ["Invalid", "Loaded", "Problem", "load"]

VARIABLE: Final = "GUARDPROXY_CONFIG"
"""The environment's variable that names the file where nobody else does."""

USUAL: Final = "config/guardproxy.yaml"
"""The file that is read where nobody names one; where it is missing, the defaults count."""

DEFAULTS: Final = """\
upstreams:
  qwen:    {url: "${QWEN_URL:-http://127.0.0.1:18001}", model: Qwen/Qwen2.5-7B-Instruct, aliases: [qwen2.5]}
  mistral: {url: "${MISTRAL_URL:-http://127.0.0.1:18002}", model: mistralai/Mistral-7B-Instruct-v0.3}
  llama:   {url: "${LLAMA_URL:-http://127.0.0.1:18003}", model: meta-llama/Meta-Llama-3-8B-Instruct}
modes:
  creative: {upstream: llama,   params: {temperature: 1.0}}
  balanced: {upstream: mistral, params: {temperature: 0.7}}
  fast:     {upstream: qwen,    params: {temperature: 0.3}, caps: {max_tokens: 512}}
"""
"""Sections that a file may leave out and that read the environment."""


@final
@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used."""

    config: Config
    digest: str
    """Twelve hex digits that change whenever any value does."""
    path: str | None
    """The file it came from; None: there was none, all is default."""
    origins: dict[str, str]
    """Where each value came from, by its dotted name: ``default``, ``FILE:LINE``, ``-o``."""
    warnings: list[str]
    """What is allowed, and rarely meant."""


def load(path: str | None = None, overrides: Sequence[str] = (), env: Mapping[str, str] = os.environ) -> Loaded:
    """Read the configuration in *path*, else the one `VARIABLE` names, else `USUAL`, else the defaults.

    Each of *overrides* (``section.key=value``) counts over the file.  Raises `Invalid` with every problem.
    """
    name = path or env.get(VARIABLE) or (USUAL if File(USUAL).is_file() else None)
    content = _read(name) if name is not None else ""
    return loads(content, overrides, env, file=name)


def loads(
    content: str, changes: Sequence[str] = (), env: Mapping[str, str] = os.environ, *, file: str | None = None
) -> Loaded:
    """Read the configuration in the text *content*, which stands in *file*; otherwise as `load`."""
    problems = Problems()
    root = _tree(content, file or "text", env, problems)
    apply(root, changes, env, problems)
    config: Config = decode(Config, root, problems)
    config = _without_idle_modes(config, root)
    agree.agree(config, root, problems)
    config = files.gather(config, root, File(file or ".").parent if file else File(), problems)
    problems.check()
    return Loaded(config, effective.digest(config), file, effective.origins(config, root), list(agree.warnings(config)))


def _read(name: str) -> str:
    spot = Spot(name)
    problems = Problems()
    try:
        return File(name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.add(spot, (), f"cannot be read: {(error.strerror or str(error)).lower()}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.add(replace(spot, line=line, column=1), (), "is not UTF-8 text")
    except ValueError as error:  # a NUL in the name
        problems.add(spot, (), f"cannot be read: {error}")
    problems.check()
    raise AssertionError("unreachable: there is a problem on the list")


def _tree(content: str, file: str, env: Mapping[str, str], problems: Problems) -> Node:
    """The file's tree, and where it leaves out upstreams or modes, the defaults'."""
    root = text.parse(content, file, env, problems)
    if root.data is None:
        root.data = {}
    if not isinstance(root.data, dict):
        problems.add(root.spot, (), "expected a mapping of settings, such as `listen: 127.0.0.1:8000`")
        root.data, root.keys = {}, {}
    built_in = text.parse(DEFAULTS, BUILT_IN, env, problems)
    for name, node in built_in.data.items():
        if name not in root.data or root.data[name].data is None:
            root.data[name], root.keys[name] = node, built_in.keys[name]
    return root


def _without_idle_modes(config: Config, root: Node) -> Config:
    """Leave out default modes for which the file has no upstream, or another use of their name."""
    taken = {word for name, up in config.upstreams.items() for word in (name, up.model, *up.aliases)}
    written = root.data["modes"].data
    if not isinstance(written, dict):  # wrong, and on the list already
        return replace(config, modes={})
    kept = {
        name: mode
        for name, mode in config.modes.items()
        if written[name].spot.file != BUILT_IN or (mode.upstream in config.upstreams and name not in taken)
    }
    return replace(config, modes=kept)
