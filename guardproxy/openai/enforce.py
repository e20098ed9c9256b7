"""Telling an engine of the schema that it is to enforce.

Here belong the fields in which engines take a schema, and the words for those that take none.  Which way an upstream
needs is the operator's to say (``structured_output``); what the app wrote into such a field itself is never touched.

| way | the engines | field |
|---|---|---|
| ``response_format`` | vLLM, SGLang, llama.cpp, TGI, OpenAI | ``{"type": "json_schema", "json_schema": {…}}`` |
| ``structured_outputs`` | vLLM from 0.12 on | ``{"json": schema}`` |
| ``guided_json`` | vLLM before 0.12 | the schema |
| ``format`` | Ollama | the schema, or ``"json"`` |
| ``prompt`` | those that enforce nothing | the conversation |
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from guardproxy.openai.strict import dumps

if TYPE_CHECKING:
    from guardproxy.core.asked import Schema

_NAME = re.compile(r"[^A-Za-z0-9_-]")
"""What the name of a ``response_format`` may not hold; it has at most 64 characters."""


def field(doc: dict[str, Any], schema: Schema, how: str) -> dict[str, Any]:
    """The one field *how* that says *schema*; none where the request *doc* uses that field itself."""
    if doc.get(how) is not None:
        return {}
    source = schema.source
    if how == "response_format":
        if source is None:
            return {how: {"type": "json_object"}}
        name = _NAME.sub("_", schema.name)[:64] or "answer"
        return {how: {"type": "json_schema", "json_schema": {"name": name, "schema": source}}}
    if how == "structured_outputs":
        return {how: {"json_object": True} if source is None else {"json": source}}
    if how == "format":
        return {how: "json" if source is None else source}
    return {how: {"type": "object"} if source is None else source}


def words(schema: Schema) -> str:
    """*schema* in words that a model understands."""
    if schema.source is None:
        return "Answer with nothing but one JSON object."
    return f"Answer with nothing but JSON that satisfies this JSON Schema:\n{dumps(schema.source).decode()}"
