"""What a request says that its answer has to be.

Here belong the schema as it was found in a request, the schema as answers are judged by it, and what is wrong with one
that breaks it.  Where it is found is for the dialects, what it means for the guard that compiles it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@final
@dataclass(slots=True, frozen=True)
class Wanted:
    """What the text of an answer has to be, as a request says it."""

    place: str
    """The field that says so."""
    name: str
    """What the app calls the schema, or nothing."""
    schema: Any = None
    """The schema, as it was given; a guard says whether it is one."""
    any_object: bool = False
    """Whether any JSON object will do, and there is no schema."""


@final
@dataclass(slots=True, frozen=True)
class Schema:
    """A JSON Schema that an answer has to satisfy, and what is answered when no model manages to."""

    name: str
    """Where it came from: a configured name, or the field of the request that held it."""
    check: Any
    """The compiled validator; only the guard that made it looks inside. None: any JSON object will do."""
    digest: bytes
    """Tells it apart from every other schema."""
    fallback: bytes | None = None
    """The declared answer, as JSON text, or None."""
    text: bool = True
    """Whether what is said must be JSON; False where only the arguments of tools are judged."""
    tools: Mapping[str, Any] = field(default_factory=dict)
    """The compiled validator of each tool's arguments."""
    offers: bool = False
    """Whether tools are offered: beside a call of one any words will do."""
    source: Any = None
    """The schema itself, as engines are told of it; None: any JSON object will do."""


@final
class Wrong(NamedTuple):
    """What is wrong with an answer, as the model is told it when it is asked again: of one choice at a time."""

    note: str
    """What is wrong with one text, or with what one tool is given."""
    choice: int = 0
    """Which of the answer's texts *note* is about, where it is about one."""
    tools: Sequence[str] = ()
    """For each tool that the answer calls what is wrong with what it is given, or nothing; empty: all is well there."""

    def shown(self, texts: Sequence[str | None], given: Sequence[tuple[str, str]]) -> str:
        """Which of the *texts* of an answer, or of what its tools are *given*, the note is about."""
        for problem, (_, arguments) in zip(self.tools, given, strict=False):
            if problem:
                return arguments
        if self.choice < len(texts) and (text := texts[self.choice]):
            return text
        return next((text for text in (*texts, *(arguments for _, arguments in given)) if text), "")
