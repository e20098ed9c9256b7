"""The guards, dialects and stores that there are: those whose files lie in the folder.

Here belongs the discovery of what a folder holds.  A file in ``guards``, ``dialects`` or ``stores`` that exports
``SPEC`` is registered; there is no other list.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any

import guardproxy.dialects
import guardproxy.guards
import guardproxy.stores

if TYPE_CHECKING:
    from types import ModuleType

    from guardproxy.core.dialect import Dialect
    from guardproxy.core.guard import Spec
    from guardproxy.core.store import StoreSpec


@cache
def guards() -> tuple[Spec, ...]:
    """Every guard's `Spec`, in the order in which they speak."""
    return tuple(sorted(_specs(guardproxy.guards), key=lambda spec: spec.order))


@cache
def dialects() -> tuple[Dialect, ...]:
    """Every dialect, in the order of their names."""
    return tuple(sorted(_specs(guardproxy.dialects), key=lambda dialect: dialect.name))


@cache
def _stores() -> dict[str, StoreSpec]:
    """Every store's `StoreSpec` by the schemes of its urls; raises `ImportError` where its library is not there."""
    return {scheme: spec for spec in _specs(guardproxy.stores) for scheme in spec.schemes}


def store(url: str) -> StoreSpec:
    """The store that *url* leads to; raises `ValueError` that says what is missing."""
    try:
        return _stores()[url.partition("://")[0]]
    except ImportError as error:
        raise ValueError(f"a shared store needs more: pip install 'guardproxy[shared]' ({error})") from error
    except KeyError as error:
        raise ValueError(f"there is no store for urls that begin with {error}") from error


def _specs(package: ModuleType) -> list[Any]:
    """What each module of *package* exports as ``SPEC``."""
    names = [f"{package.__name__}.{found.name}" for found in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(name).SPEC for name in names]
