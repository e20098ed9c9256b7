"""Which upstream and which mode a call is for.

Here belongs the precedence of the ways to name one (path prefix, mode, model, default) and the names there are.
Whether that upstream is well, and what happens then, is not asked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Unknown(ValueError):  # noqa: N818 -- a condition of the request, and the caller's error
    """Nobody is called that; the message lists those there are."""


@final
@dataclass(slots=True, frozen=True)
class Wish:
    """What a call asked for."""

    upstream: str
    mode: str | None
    """The mode asked for, or the one that this upstream serves; None where it serves none."""
    named_mode: bool
    """Whether it was the mode that was named."""


@final
class Router:
    """Looks names up.

    *upstreams* maps each upstream's name to the model id it serves (or nothing) and its aliases, *modes* each
    mode's name to its upstream, highest mode first.
    """

    __slots__ = ("_by_model", "_default", "_modes", "_upstreams", "modes", "upstreams")

    def __init__(
        self,
        upstreams: Mapping[str, tuple[str, Sequence[str]]],
        modes: Mapping[str, str],
        default: str | None = None,
    ) -> None:
        self.upstreams = dict(upstreams)
        self.modes = dict(modes)
        self._default = default
        mode_of: dict[str, str] = {}
        for mode, upstream in modes.items():
            mode_of.setdefault(upstream, mode)
        self._modes = {mode: Wish(upstream, mode, named_mode=True) for mode, upstream in modes.items()}
        self._upstreams = {name: Wish(name, mode_of.get(name), named_mode=False) for name in upstreams}
        self._by_model: dict[str, str] = {}
        for name, (model, aliases) in upstreams.items():
            for spelled in (name, model, *aliases):
                if spelled:
                    self._by_model.setdefault(spelled, name)
        for name in upstreams:  # an upstream's own name beats another one's alias
            self._by_model[name] = name

    def prefix(self, path: str) -> tuple[str, str]:
        """Split ``/NAME/rest`` where NAME is an upstream: its name, or nothing, and the path without it."""
        head, slash, rest = path[1:].partition("/")
        return (head, slash + rest) if slash and head in self.upstreams else ("", path)

    def find(self, prefix: str, mode: str, model: str) -> Wish:
        """Decide by path prefix, else *mode*, else *model*; raises `Unknown`."""
        if prefix:
            return self._upstreams[prefix]
        if mode:
            if mode not in self.modes:
                message = f"there is no mode {mode!r}; there are {_listed(self.modes)}"
                raise Unknown(message)
            return self._modes[mode]
        if model in self.modes:
            return self._modes[model]
        name = self._by_model.get(model) or self._default
        if name is None:
            raise Unknown(self._nobody(model))
        return self._upstreams[name]

    def names(self) -> list[tuple[str, str]]:
        """Every name that a call may put into ``model``, each with the upstream that is meant."""
        return [*self.modes.items(), *((name, up) for name, up in self._by_model.items() if name not in self.modes)]

    def _nobody(self, model: str) -> str:
        asked = f"there is no model {model[:200]!r}" if model else "the call names no model"
        models = _listed(self._by_model)
        modes = f" and the modes {_listed(self.modes)}" if self.modes else ""
        other = "Or put an upstream's name before the path: /NAME/v1/…, or set default_upstream"
        return f"{asked}; there are {models}{modes}. {other}"


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(names) or "none"
