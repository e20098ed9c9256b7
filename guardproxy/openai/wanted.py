"""Which schemas a request asks for, in whichever field it says so.

Here belong the spellings: OpenAI's ``response_format`` and ``text.format``, vLLM's ``structured_outputs`` and
``guided_json``, llama.cpp's ``json_schema``, Ollama's ``format``, and the ``parameters`` of tools.  Which of them a
dialect knows is its own business, what a schema means the guard's.

Sources: https://platform.openai.com/docs/guides/structured-outputs,
https://docs.vllm.ai/en/latest/features/structured_outputs.html,
https://github.com/ggml-org/llama.cpp/tree/master/tools/server, https://docs.ollama.com/api
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guardproxy.core.asked import Wanted
from guardproxy.openai.strict import loads

if TYPE_CHECKING:
    from collections.abc import Callable

_NOTHING: tuple[Any, ...] = (None, "")
_FIELDS = frozenset(("response_format", "structured_outputs", "guided_json", "json_schema"))
__all__ = ["Wanted", "flat_tools", "in_format", "in_text", "tools", "wanted"]


def wanted(doc: dict[str, Any]) -> Wanted | None:
    """The schema that *doc* asks for, whether it is one or not; None where it asks for none.

    Where it asks in several ways the first of these counts: ``response_format``, ``structured_outputs.json``,
    ``guided_json``, ``json_schema``.
    """
    if _FIELDS.isdisjoint(doc):
        return None
    if (found := _response_format(doc.get("response_format"))) is not None:
        return found
    outputs = doc.get("structured_outputs")
    if isinstance(outputs, dict):
        if (schema := _schema(outputs.get("json"))) is not None:
            return Wanted("structured_outputs.json", "", schema)
        if outputs.get("json_object") is True:
            return Wanted("structured_outputs.json_object", "json_object", any_object=True)
    for field in ("guided_json", "json_schema"):
        if (schema := _schema(doc.get(field))) is not None:
            return Wanted(field, "", schema)
    return None


def in_format(doc: dict[str, Any]) -> Wanted | None:
    """Ollama's ``format``: ``"json"`` or a schema; nothing is nothing there, and everything else an error."""
    given = doc.get("format")
    if given == "json":
        return Wanted("format", "json", any_object=True)
    return Wanted("format", "", given) if given not in _NOTHING else None


def in_text(doc: dict[str, Any]) -> Wanted | None:
    """``text.format`` of the Responses API: the parts of a ``response_format`` side by side."""
    text = doc.get("text")
    given = text.get("format") if isinstance(text, dict) else None
    if not isinstance(given, dict):
        return None
    if given.get("type") == "json_object":
        return Wanted("text.format", "json_object", any_object=True)
    if given.get("type") != "json_schema":
        return None
    return Wanted("text.format.schema", _text(given.get("name")), given.get("schema"))


def flat_tools(doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """Like `tools`, as the Responses API writes them: name and ``parameters`` stand in the tool itself."""
    return _functions(doc, "tools[{}].parameters", lambda tool: tool if tool.get("type") == "function" else None)


def tools(doc: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The name, the place and the ``parameters`` of every function that the model may call."""
    return _functions(doc, "tools[{}].function.parameters", lambda tool: tool.get("function"))


def _functions(doc: dict[str, Any], place: str, find: Callable[[dict[str, Any]], Any]) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    given = doc.get("tools")
    if given is None:
        return found
    for number, tool in enumerate(given if isinstance(given, list) else ()):
        function = find(tool) if isinstance(tool, dict) else None
        name, parameters = (
            (function.get("name"), function.get("parameters")) if isinstance(function, dict) else (0, None)
        )
        if isinstance(name, str) and parameters is not None:
            found.append((name, place.format(number), parameters))
    return found


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _response_format(given: Any) -> Wanted | None:
    if not isinstance(given, dict):
        return None
    if given.get("type") == "json_object":
        if (schema := _schema(given.get("schema"))) is not None:  # llama.cpp and Together take one here
            return Wanted("response_format.schema", "", schema)
        return Wanted("response_format", "json_object", any_object=True)
    if given.get("type") != "json_schema":
        return None
    inner = given.get("json_schema")
    if inner is None and "schema" in given:  # llama.cpp takes it here too
        return Wanted("response_format.schema", "", _schema(given["schema"]))
    if not isinstance(inner, dict):
        return Wanted("response_format.json_schema", "", inner)
    return Wanted("response_format.json_schema.schema", _text(inner.get("name")), inner.get("schema"))


def _schema(given: Any) -> Any:
    """A schema, given as such or as JSON text; None where there is none. Text that is no JSON stays what it is."""
    if not isinstance(given, str):
        return given
    try:
        return loads(given.encode()) if given else None
    except (ValueError, UnicodeEncodeError):
        return given
