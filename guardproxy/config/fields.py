"""What is known about each setting without any file: its name, type, default, bounds and documentation.

Here belongs reading it out of the dataclasses, for the published schema (`publish`) and the reference page
(`reference`).  Their sources have to be at hand; the running proxy needs none of this.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import TYPE_CHECKING, Any, Final, final

from guardproxy.config.decode import names
from guardproxy.config.rules import RULES, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED: Final = dataclasses.MISSING
"""The default of a setting that has none."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One setting."""

    name: str
    type: Any
    default: Any
    """`REQUIRED`, where it has to be written."""
    rule: Rule
    doc: str


def fields(record: type) -> Iterator[Field]:
    """The settings of a dataclass, in the order in which they are declared."""
    docs, hints = _docs(record), names(record)
    for field in dataclasses.fields(record):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        yield Field(field.name, hints[field.name], default, RULES.get((record, field.name), Rule()), docs[field.name])


def summary(record: type) -> str:
    """The first paragraph of a dataclass's documentation, in one line."""
    return " ".join((inspect.getdoc(record) or "").split("\n\n", 1)[0].split())


def _docs(record: type) -> dict[str, str]:
    """The text that stands under each field."""
    body = ast.parse(textwrap.dedent(inspect.getsource(record))).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101 - the source of a class
    found: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return found
