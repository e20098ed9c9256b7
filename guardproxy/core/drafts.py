"""The drafts of JSON Schema: which one a schema is written in, and the schemas that describe them.

Here belong their names, as they are and as people write them, and what a reference to one of their metaschemas is
answered with: they are part of the engine, and nothing is fetched for them.  How a draft judges is the engine's.

A ``$schema`` that names no draft is one of somebody's own (Snowplow's, a hyper-schema, a company's): it says nothing
about how the keywords are meant that everybody knows, so these are taken as in the draft that it is derived from, else
as in the latest.  One that names a draft that there is not, of JSON Schema's own, is a mistake of whoever wrote it.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import jsonschema_rs as engine

LATEST: Final = engine.Draft202012Validator

NAMES: Final[dict[type[engine.Validator], str]] = {
    engine.Draft4Validator: "http://json-schema.org/draft-04/schema#",
    engine.Draft6Validator: "http://json-schema.org/draft-06/schema#",
    engine.Draft7Validator: "http://json-schema.org/draft-07/schema#",
    engine.Draft201909Validator: "https://json-schema.org/draft/2019-09/schema",
    engine.Draft202012Validator: "https://json-schema.org/draft/2020-12/schema",
}

_NUMBERS: Final[dict[str, type[engine.Validator]]] = {
    "03": engine.Draft4Validator,
    "04": engine.Draft4Validator,
    "05": engine.Draft4Validator,
    "06": engine.Draft6Validator,
    "07": engine.Draft7Validator,
    "2019-09": engine.Draft201909Validator,
    "2020-12": engine.Draft202012Validator,
    "next": LATEST,
}
"""Draft 5 is draft 4 written anew; where draft 3 differs its schemas are none of draft 4."""

_NAMED: Final = re.compile(r"//json-schema\.org/draft[-/]([\w-]*)")
_DERIVED: Final = ("iglucentral.com/schemas/com.snowplowanalytics.self-desc/",)
"""What is derived from draft 4 and does not say so."""


def draft_of(schema: Any) -> type[engine.Validator]:
    """The draft that *schema* is written in; raises `ValueError` where it says that it is one that there is not."""
    name = schema.get("$schema") if isinstance(schema, dict) else None
    if not isinstance(name, str):
        return LATEST
    if (found := _NAMED.search(name)) is not None:
        if found[1] not in _NUMBERS:
            raise ValueError(f"there is no draft {found[1] or name!r}; there are 04, 06, 07, 2019-09 and 2020-12")
        return _NUMBERS[found[1]]
    return engine.Draft4Validator if any(part in name for part in _DERIVED) else LATEST


@cache
def metaschemas() -> list[tuple[str, Any]]:
    """Every metaschema, by its name."""
    found: dict[str, Any] = {}
    for name in NAMES.values():
        bundled: Any = engine.bundle({"$schema": name, "$ref": name})
        found |= bundled.get("$defs") or bundled.get("definitions") or {}
    return list(found.items())
