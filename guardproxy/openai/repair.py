"""JSON that is in an answer, though the answer is not JSON: found without asking again.

Here belongs where to look, in which order, and when to refuse.  Not here: the syntax (`openai.mend`), what is
done with an answer that stays invalid (`guards.schema`).

Looked for in this order; each finding is read strictly, and counts only if the caller accepts its value:

1. thoughts: what stands up to the last ``</think>`` is cut off; thoughts that never end hold no answer
2. blocks in code fences, also one that never ends
3. the objects and arrays in the text, each as it stands, else mended

**Never a choice between two answers.**  Where two documents are accepted and differ, where one that cannot
be read, or one of the same kind that is not accepted, follows the accepted one, there is no repair: which one was meant
only the model knows, and to ask it again costs less than a wrong answer.  Fenced ones go before those in
prose, which may be examples.  What is inside a broken document is never taken for a whole one.

Time is linear in the text: 1 MiB takes about 50 ms, and what is mended about as much (`MAX_MENDED`).
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, final

from guardproxy.openai.mend import Mended, mend
from guardproxy.openai.strict import is_finite, loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

How = Literal["think", "fence", "prose", "syntax", "closed"]

MAX_TEXT: Final = 1 << 20
"""Characters of an answer in which is looked for documents; longer ones are given up."""
MAX_DOCUMENTS: Final = 32
"""Things that begin like a document; a text with more is given up."""

MAX_MENDED: Final = 16 * 1024
"""Characters in all documents that were mended, or could not be, after which no other is tried."""
MAX_BRACKETS: Final = 20_000
"""Brackets and texts in which the end of a broken document is looked for; behind them it has none."""

_AROUND: Final = " \t\r\n\f\v\xa0\ufeff\u200b\u2060"
_THOUGHT: Final = re.compile(r"</think(?:ing)?>|\[/THINK\]")
_THINKS: Final = re.compile(r"<think(?:ing)?>|\[THINK\]")
_FENCE: Final = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_OPENS: Final = re.compile(
    r"""\{(?=\s*+(?:["'}/\#]|[A-Za-z_$][\w$-]*+\s*+:))|\[(?=\s*+(?:["'{\[\]/\#0-9-]|[tfnTFN]))"""
)
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*"?|[\[\]{}]', re.DOTALL)
_SCAN: Final = json.JSONDecoder().raw_decode


@final
class Repaired(NamedTuple):
    """The document of an answer."""

    text: str
    """JSON, as the model wrote it where that was JSON."""
    how: How
    """The deepest cut: ``think``, ``fence`` or ``prose`` around it, ``syntax`` in it, or ``closed`` by us."""
    cut: bool = False
    """Whether its last text had no end: some of it may be missing."""


@final
class _Found(NamedTuple):
    """Something that begins like a document."""

    kind: str
    """Its first character."""
    text: str
    value: Any = None
    accepted: bool = False
    readable: bool = False
    how: How = "prose"
    cut: bool = False


def repair(text: str, accepts: Callable[[Any], bool]) -> Repaired | None:
    """Find the one document in *text* whose value *accepts*; None: there is none, or no telling which.

    For text that is not a valid document as it is: that is for the caller to see first.  Never raises.  Where
    ``finish_reason`` is ``length`` an answer that came ``closed`` was cut off by the server: a larger
    ``max_tokens`` brings the rest.
    """
    if len(text) > MAX_TEXT:
        return None
    bare, thoughts = _without_thoughts(text)
    if bare.strip(_AROUND) and (found := _alone(bare, accepts, "think" if thoughts else "prose")):
        return found
    return _fenced(bare, accepts) or _choice(list(islice(_documents(bare, accepts), MAX_DOCUMENTS + 1)))


def from_reasoning(message: dict[str, Any]) -> str | None:
    """The JSON that an engine put beside the empty content of *message*: into its reasoning field.

    Only where that field holds nothing but a document, fenced or not, behind closed thoughts at the most: a
    draft in the middle of thoughts is not an answer.  It still has to be judged, and may need `repair`.
    """
    content = message.get("content")
    if (isinstance(content, str) and content.strip()) or message.get("tool_calls") or message.get("refusal"):
        return None
    for key in ("reasoning_content", "reasoning"):
        if isinstance(text := message.get(key), str):
            bare = _without_thoughts(text)[0].strip(_AROUND)
            if bare.startswith(("{", "[", "```")) and bare.endswith(("}", "]", "```")):
                return bare
    return None


def _without_thoughts(text: str) -> tuple[str, bool]:
    """*text* behind its thoughts, and whether there were any."""
    lead = text.lstrip(_AROUND)
    if lead.startswith(("{", "[", '"', "```")) and not _THINKS.match(lead):
        return text, False
    last = None
    for last in _THOUGHT.finditer(text):  # noqa: B007 - the last one
        pass
    bare = text[last.end() :] if last else text
    begun = _THINKS.search(bare)
    return (bare[: begun.start()] if begun else bare), last is not None or begun is not None


def _alone(text: str, accepts: Callable[[Any], bool], how: How) -> Repaired | None:
    """All of *text*, without what is around it."""
    bare = text.strip(_AROUND)
    readable, value = _read(bare)
    return Repaired(bare, how) if readable and _accepted(accepts, value) else None


def _fenced(text: str, accepts: Callable[[Any], bool]) -> Repaired | None:
    found: list[_Found] = []
    for block in _FENCE.finditer(text) if 0 < text.count("```") <= 2 * MAX_DOCUMENTS else ():
        if whole := _alone(block[1], accepts, "fence"):
            found.append(
                _Found(whole.text[0], whole.text, _read(whole.text)[1], accepted=True, readable=True, how="fence")
            )
        else:
            found += islice(_documents(block[1], accepts), MAX_DOCUMENTS + 1)
        if len(found) > MAX_DOCUMENTS:
            return None
    return _choice(found)


def _documents(text: str, accepts: Callable[[Any], bool]) -> Iterator[_Found]:
    """Each object and array that does not stand in another one, in order."""
    position, left = 0, MAX_MENDED
    while begun := _OPENS.search(text, position):
        start = begun.start()
        try:
            position = _SCAN(text, start)[1]
        except (ValueError, RecursionError):
            made = mend(text, start) if left > 0 else None
            position = made.end if made else _balanced(text, start)
            left -= position - start
            yield _judged(text[start], made.text.strip(_AROUND) if made else "", accepts, made)
        else:
            yield _judged(text[start], text[start:position], accepts, None)


def _judged(kind: str, text: str, accepts: Callable[[Any], bool], made: Mended | None) -> _Found:
    readable, value = _read(text)
    how: How = "prose" if made is None else "closed" if made.closed else "syntax"
    fits = readable and _accepted(accepts, value)
    return _Found(kind, text, value, fits, readable, how, made is not None and made.cut)


def _choice(found: list[_Found]) -> Repaired | None:
    """The one that was meant, if there can be no doubt."""
    last = max((i for i, one in enumerate(found) if one.accepted), default=-1)
    if last < 0 or len(found) > MAX_DOCUMENTS:
        return None
    meant = found[last]
    if any(one.accepted and not _same(one.value, meant.value) for one in found):
        return None
    if any(not one.readable or one.kind == meant.kind for one in found[last + 1 :]):
        return None
    return Repaired(meant.text, meant.how, meant.cut)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one in JSON, where true is not 1."""
    return bool(one == other) and json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _balanced(text: str, start: int) -> int:
    """Where the brackets that open at *start* are closed; the end of *text* where they never are."""
    depth = 0
    for token in islice(_TOKEN.finditer(text, start), MAX_BRACKETS):
        one = token[0]
        depth += (one in "{[") - (one in "}]")
        if depth == 0 and one in "}]":
            return token.end()
    return len(text)


def _read(text: str) -> tuple[bool, Any]:
    """Whether *text* is JSON, and its value."""
    try:
        value = loads(text.encode())
        return is_finite(value), value
    except (ValueError, RecursionError):
        return False, None


def _accepted(accepts: Callable[[Any], bool], value: Any) -> bool:
    try:
        return accepts(value)
    except ValueError:
        return False
