"""What a call needs a model to be able to do.

Here belongs the reading of a request for the sake of choosing who could serve it: tools, pictures, a schema, room for
its tokens.  What an upstream can do is said in its `capabilities`.

The words are ``text``, ``tools``, ``schema``, ``vision`` and ``context=N``.  Who lists none can do everything; who
lists some can do these, and who gives no ``context`` has room for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

WORDS = ("text", "tools", "schema", "vision")
CONTEXT = "context="
PATTERN = r"^(text|tools|schema|vision|context=[0-9]*[1-9][0-9]*|.*\$\{.*)$"
"""The same for editors."""
BYTES_PER_TOKEN = 4
"""Of a request's body: no tokenizer is at hand, and its framing counts along, so this errs towards serving."""
_PICTURES = frozenset(("image_url", "input_image", "image"))
_ROOM = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def needs(doc: dict[str, Any], *, schema: bool = False) -> frozenset[str]:
    """The words that *doc* asks for; *schema*: its answer is judged by one whatever it says itself."""
    found = set()
    if doc.get("tools") or doc.get("functions"):
        found.add("tools")
    form = doc.get("response_format")
    if schema or (isinstance(form, dict) and form.get("type") == "json_schema") or isinstance(doc.get("format"), dict):
        found.add("schema")
    if _sees(doc.get("messages")) or _sees(doc.get("input")):
        found.add("vision")
    return frozenset(found)


def tokens(doc: dict[str, Any], size: int) -> int:
    """About how many tokens a request of *size* bytes and its answer take."""
    room = next((doc[name] for name in _ROOM if type(doc.get(name)) is int), 0)
    return size // BYTES_PER_TOKEN + max(room, 0)


def check(word: str) -> None:
    """Hold one of an upstream's `capabilities` against the words; raises `ValueError`."""
    size = word.removeprefix(CONTEXT)
    if word in WORDS or (size != word and size.isascii() and size.isdecimal() and int(size)):
        return
    raise ValueError(f"{word!r} is none of {', '.join(WORDS)} and {CONTEXT}N (tokens)")


def read(capabilities: Iterable[str]) -> tuple[frozenset[str] | None, int]:
    """What an upstream can do (None: everything), and how many tokens it has room for (0: any number)."""
    words, room = set(), 0
    for word in capabilities:
        if word.startswith(CONTEXT):
            room = int(word[len(CONTEXT) :])
        else:
            words.add(word)
    return frozenset(words) if words else None, room


def _sees(messages: Any) -> bool:
    """Whether any message shows a picture."""
    for message in messages if isinstance(messages, list) else ():
        if not isinstance(message, dict):
            continue
        if message.get("images"):
            return True
        parts = message.get("content")
        if isinstance(parts, list) and any(isinstance(p, dict) and p.get("type") in _PICTURES for p in parts):
            return True
    return False
