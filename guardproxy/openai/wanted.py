"""Which schemas a request asks for, in whichever field it says so.

Here belong the spellings: OpenAI's ``response_format``, vLLM's ``structured_outputs`` and ``guided_json``, llama.cpp's
``json_schema``, and the ``parameters`` of tools.  What a schema means is for the guard.

Sources: https://platform.openai.com/docs/guides/structured-outputs,
https://docs.vllm.ai/en/latest/features/structured_outputs.html,
https://github.com/ggml-org/llama.cpp/tree/master/tools/server
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from guardproxy.openai.strict import loads


@final
@dataclass(slots=True, frozen=True)
class Wanted:
    """What the text of an answer has to be."""

    place: str
    """The field that says so."""
    name: str
    """What the app calls the schema, or nothing."""
    schema: Any = None
    """The schema; None where any JSON object will do (see `any_object`)."""
    any_object: bool = False


def wanted(doc: dict[str, Any]) -> Wanted | None:
    """The schema that *doc* asks for; None where it asks for none, or in a way that is for the upstream to refuse.

    Where it asks in several ways the first of these counts: ``response_format``, ``structured_outputs.json``,
    ``guided_json``, ``json_schema``.
    """
    if (found := _response_format(doc.get("response_format"))) is not None:
        return found
    outputs = doc.get("structured_outputs")
    if isinstance(outputs, dict) and (schema := _schema(outputs.get("json"))) is not None:
        return Wanted("structured_outputs.json", "", schema)
    for field in ("guided_json", "json_schema"):
        if (schema := _schema(doc.get(field))) is not None:
            return Wanted(field, "", schema)
    return None


def tools(doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The name, the place and the ``parameters`` of every function that the model may call."""
    found: list[tuple[str, str, Any]] = []
    given = doc.get("tools")
    for number, tool in enumerate(given if isinstance(given, list) else ()):
        function = tool.get("function") if isinstance(tool, dict) else None
        name, parameters = (function.get("name"), function.get("parameters")) if isinstance(function, dict) else (0, 0)
        if isinstance(name, str) and isinstance(parameters, dict):
            found.append((name, f"tools[{number}].function.parameters", parameters))
    return found


def _response_format(given: Any) -> Wanted | None:
    if not isinstance(given, dict):
        return None
    if given.get("type") == "json_object":
        if (schema := _schema(given.get("schema"))) is not None:  # llama.cpp and Together take one here
            return Wanted("response_format.schema", "", schema)
        return Wanted("response_format", "json_object", any_object=True)
    inner = given.get("json_schema") if given.get("type") == "json_schema" else None
    if not isinstance(inner, dict) or "schema" not in inner:
        return None
    name = inner.get("name")
    return Wanted("response_format.json_schema.schema", name if isinstance(name, str) else "", inner["schema"])


def _schema(given: Any) -> Any:
    """A schema, given as such or as JSON text; None where there is none."""
    if isinstance(given, str):
        try:
            given = loads(given.encode())
        except (ValueError, UnicodeEncodeError):
            return None
    return given if isinstance(given, dict) else None
