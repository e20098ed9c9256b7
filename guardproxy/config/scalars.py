"""What a single word of the file means: variables put in, numbers and truths recognised.

Here belong the spelling of ``${NAME}`` and the types of YAML scalars: those of YAML 1.2, and ``yes``,
``no``, ``on``, ``off`` besides.  Dates and ``12:30`` stay text: JSON has no such types.
Not here: structure (`text`), what type a setting wants (`decode`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DIGITS: Final = 400
"""Characters of a number; more are no number that anybody means."""

_WORDS: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **{form: value for word, value in (("true", True), ("yes", True), ("on", True), ("false", False),
       ("no", False), ("off", False)) for form in (word, word.title(), word.upper())},
    **{sign + form: float(sign + "inf") for sign in ("", "+", "-") for form in (".inf", ".Inf", ".INF")},
    **{form: float("nan") for form in (".nan", ".NaN", ".NAN")},
}  # fmt: skip
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_BASED: Final = re.compile(r"0(?:x[0-9a-fA-F]+|o[0-7]+)")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_DECIMAL: Final = re.compile(r"[.eE]")

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


@final
class Missing(ValueError):  # noqa: N818 - a finding, soon one of many problems
    """A variable that is not there, or is not written as one."""


def value(text: str) -> str | int | float | bool | None:
    """What a word without quotes means."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > MAX_DIGITS or text[:1].isalpha():
        return text
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _BASED.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and _DECIMAL.search(text):
        return float(text.replace("_", ""))
    return text


def substitute(text: str, env: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Put the environment's values for ``${NAME}`` and ``${NAME:-default}``; also say which had a say.

    The default counts where the variable is unset or empty, as in a shell; ``$${`` stands for ``${``.
    Raises `Missing`, naming the variable, where there is neither.
    """
    used: list[str] = []

    def put(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        name = _NAME.fullmatch(match[1])
        if not match[2] or name is None or "${" in match[1]:
            message = (
                f"{match[0][:60]!r} is no variable; write ${{NAME}} or ${{NAME:-default}}, and $${{ for a literal ${{"
            )
            raise Missing(message)
        found, default = env.get(name[1], ""), name[2]
        if found:
            used.append(name[1])
        elif name[1] not in env and default is None:
            message = (
                f"the environment variable {name[1]} is not set; write ${{{name[1]}:-default}} where it may be absent"
            )
            raise Missing(message)
        return found or default or ""

    return _VARIABLE.sub(put, text), tuple(used)
