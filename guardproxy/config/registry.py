"""The guards and dialects that there are: those whose files lie in the folder.

Here belongs the discovery of what a folder holds.  A file in ``guards`` or ``dialects`` that exports ``SPEC`` is
registered; there is no other list.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

import guardproxy.dialects
import guardproxy.guards

if TYPE_CHECKING:
    from types import ModuleType

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.guard import Spec


@cache
def guards() -> tuple[Spec, ...]:
    """Every guard's `Spec`, in the order in which they speak."""
    return tuple(sorted(_specs(guardproxy.guards), key=lambda spec: spec.order))


@cache
def dialects() -> tuple[Dialect, ...]:
    """Every dialect, in the order of their names."""
    return tuple(sorted(_specs(guardproxy.dialects), key=lambda dialect: dialect.name))


def _specs(package: ModuleType) -> list[Any]:
    """What each module of *package* exports as ``SPEC``."""
    names = [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(name).SPEC for name in names]
