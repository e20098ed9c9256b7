"""What a call needs a model to be able to do.

Here belongs the reading of a request for the sake of choosing who could serve it: tools, pictures, a schema, room for
its tokens.  What an upstream can do is said in its `capabilities`.

The words are ``text``, ``tools``, ``schema``, ``vision`` and ``context=N``.  Who lists none can do everything; who
lists some can do these, and who gives no ``context`` has room for all.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from guardproxy.core.values import Call, Target

    Can = tuple[frozenset[str] | None, int]

WORDS = ("text", "tools", "schema", "vision")
CONTEXT = "context="
PATTERN = r"^(text|tools|schema|vision|context=[0-9]*[1-9][0-9]*|.*\$\{.*)$"
"""The same for editors."""
BYTES_PER_TOKEN = 4
"""Of a request's body: no tokenizer is at hand, and its framing counts along, so this errs towards serving."""
_PICTURES = frozenset(("image_url", "input_image", "image"))
_ALL: tuple[frozenset[str] | None, int] = (None, 0)
_ROOM = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def needs(doc: dict[str, Any], *, schema: bool = False) -> frozenset[str]:
    """The words that *doc* asks for; *schema*: its answer is judged by one whatever it says itself."""
    found = set()
    if doc.get("tools") or doc.get("functions"):
        found.add("tools")
    if schema or isinstance(doc.get("format"), dict) or any(map(_is_schema, _forms(doc))):
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


def fitting(call: Call, targets: Sequence[Target], able: Mapping[str, Can]) -> Sequence[Target]:
    """Those *targets* whose models can serve what is asked for; the one that was asked for is the caller's choice.

    *able* says what upstreams can do that do not do everything.
    """
    if not able:
        return targets
    wanted, size = needs(call.doc, schema=bool(call.wants_schema)), tokens(call.doc, len(call.body))
    places = []
    for place in targets:
        can, room = able.get(place.upstream, _ALL)
        if not place.moved_from or ((can is None or wanted <= can) and not 0 < room < size):
            places.append(place)
    first = targets[0]
    if places and places[0].moved_from and first.reason:
        places[0] = replace(places[0], reason=first.reason)
    return places


def _forms(doc: dict[str, Any]) -> Iterable[Any]:
    """Where the APIs have it what an answer has to look like."""
    yield doc.get("response_format")
    yield doc.get("output_format")
    for holder in (doc.get("text"), doc.get("output_config")):
        if isinstance(holder, dict):
            yield holder.get("format")


def _is_schema(form: Any) -> bool:
    return isinstance(form, dict) and form.get("type") == "json_schema"


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
