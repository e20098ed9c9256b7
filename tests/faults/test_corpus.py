"""A public corpus of texts that are JSON, are none, or that parsers disagree about: rows 67 to 69.

Each is sent as a request and said by a model: whatever it is, the app gets its own mistake told, another answer, or an
error that it can read, and never a mistake of the proxy's.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from guardproxy.config.registry import dialects
from guardproxy.openai.events import payloads
from guardproxy.openai.strict import loads
from tests.app.test_dialects import ASKS, free, said
from tests.faults.trial import NEVER, Trial, says
from tests.faults.wire import CHAT, asking, completion, events, piece, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.wire import Seen

_FILE = Path(__file__).parent / "corpus" / "json_test_suite.json"
SUITE = {
    name: text.encode("utf-8", "surrogateescape")
    for name, text in json.loads(_FILE.read_text()).items()
    if name != "source"
}
SUITE |= {
    "n_structure_100000_opening_arrays": b"[" * 100_000,
    "n_structure_open_array_object": b'[{"":' * 50_000 + b"\n",
}
DIGEST = "931983194ec998b599f52eb3ff0d70b3b72f68ec6200062627babb02e23fac56"
"""Of the names and bytes of the suite as it was published; a text that is lost or changed is a test that is."""
_ANY = {"type": ["object", "array", "string", "number", "boolean", "null"]}
DECLARED = {"json_guard": {"max_retries": 0, "schemas": {"any": {"schema": _ANY, "fallback": "fell back"}}}}


def readable(text: bytes) -> bool:
    try:
        loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", [name for name in SUITE if name[:2] in ("y_", "n_")])
def test_what_is_json_and_what_is_none(name):
    """Our reader takes all that is JSON, equal keys aside, and nothing else."""
    taken = readable(SUITE[name])
    assert taken is (name.startswith("y_") and "duplicated_key" not in name)


def code(seen: Seen) -> Any:
    """The code of an error, which in Ollama's words stands beside it."""
    doc = json.loads(seen.body)
    return doc["code"] if isinstance(doc["error"], str) else seen.error["code"]


def test_the_suite_is_whole():
    """All 318 files of it, byte for byte."""
    digest = hashlib.sha256()
    for name, text in sorted(SUITE.items()):
        digest.update(b"%b\0%d\0%b" % (name.encode(), len(text), text))
    assert Counter(name[0] for name in SUITE) == {"y": 95, "n": 188, "i": 35}
    assert digest.hexdigest() == DIGEST


@pytest.mark.row(67, 68)
@pytest.mark.parametrize("path", [path for dialect in dialects() for path in dialect.paths])
async def test_as_requests(path):
    """Wherever bodies are read: 400 where it is no JSON or no object, 404 where it names no model; nobody is asked."""
    told = {'guardproxy_requests_total{source="own",status="4xx"}': len(SUITE)}
    async with Trial() as trial, trial.accounts(told=told):
        for name, text in SUITE.items():
            seen = await trial.ask(text or b" ", path=path)
            assert seen.status in (400, 404), (name, seen)
            expected = ("invalid_request", "model_not_found") if readable(text) else ("invalid_json",)
            assert code(seen) in expected, (name, seen)
            assert seen.fields["content-type"] == "application/json"


WAYS: dict[str, tuple[str, dict[str, Any], Callable[[str], bytes]]] = {
    "chat": (CHAT, asking(), lambda text: whole(completion(text))),
    "chat, streamed": (CHAT, asking(stream=True), lambda text: events(piece(text), piece("", "stop"))),
    "completions": (
        "/v1/completions",
        {"model": "llama", "prompt": "a rose"},
        lambda text: whole(json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": "stop"}]}).encode()),
    ),
} | {
    path: (
        path,
        {"model": "llama", "stream": False, **free(path)},
        lambda text, make=make: whole(json.dumps(make(text)).encode()),
    )
    for path, (_, make, _) in ASKS.items()
}
"""Where a model says it: the path, the call, and the bytes of its answer."""


def content(way: str, body: bytes) -> str:
    """What the app reads."""
    if way in ASKS:
        return said(body, way, stream=False)
    docs = (
        [json.loads(payload) for payload in payloads(body) if payload != b"[DONE]"]
        if "streamed" in way
        else [json.loads(body)]
    )
    choices = [choice for doc in docs for choice in doc["choices"]]
    return "".join(one.get("text") or one.get("message", one.get("delta", {})).get("content") or "" for one in choices)


@pytest.mark.row(69)
@pytest.mark.parametrize("way", WAYS)
async def test_as_what_a_model_says(way):
    """Valid JSON passes, what can be mended without guessing is mended, and for the rest there is the fallback."""
    path, call, answer = WAYS[way]
    async with Trial(DECLARED) as trial:
        results = {"valid": 0, "repaired": 0, "fallback": 0}
        for name, text in SUITE.items():
            told = text.decode("utf-8", "replace")
            trial.llama.play = says(answer(told), then="keep")
            seen = await trial.ask(call, NEVER, "X-Guardproxy-Schema: any", "Cache-Control: no-store", path=path)
            assert seen.status == 200, (name, seen)
            result = seen.fields["x-guardproxy-json"]
            results[result] += 1
            heard = content(way, seen.body)
            assert readable(heard.encode()), (name, heard)
            if name.startswith("y_") and "duplicated_key" not in name:
                assert (result, heard) == ("valid", told), name
            elif name.startswith("n_"):
                assert result != "valid", (name, told)
        assert results["valid"] > 90
        assert results["fallback"] > 50
        assert len(trial.llama.calls) == len(SUITE)
        trial.llama.calls.clear()


@pytest.mark.row(36, 69)
@pytest.mark.parametrize("way", WAYS)
async def test_as_the_body_of_an_answer(way):
    """An answer that is no completion is 502, whatever else it is."""
    path, call, _ = WAYS[way]
    async with Trial({"circuit_breaker": {"enabled": False}}) as trial:
        for name, text in SUITE.items():
            trial.llama.play = says(whole(text), then="keep")
            seen = await trial.ask(call, NEVER, path=path)
            assert (seen.status, code(seen)) == (502, "upstream_protocol"), (name, seen)
