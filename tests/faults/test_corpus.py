"""A public corpus of texts that are JSON, are none, or that parsers disagree about: rows 67 to 69.

Each is sent as a request and said by a model: whatever it is, the app gets its own mistake told, another answer, or an
error that it can read, and never a mistake of the proxy's.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from guardproxy.openai.strict import loads
from tests.faults.trial import NEVER, Trial, says
from tests.faults.wire import asking, completion, whole

_FILE = Path(__file__).parent / "corpus" / "json_test_suite.json"
SUITE = {
    name: text.encode("utf-8", "surrogatepass")
    for name, text in json.loads(_FILE.read_text()).items()
    if name != "source"
}
SUITE |= {
    "n_structure_100000_opening_arrays": b"[" * 100_000,
    "n_structure_open_array_object": b'[{"":' * 50_000,
    "i_structure_500_nested_arrays": b"[" * 500 + b"]" * 500,
    "i_string_invalid_utf-8": b'["\xff"]',
    "i_string_not_in_unicode_range": b'["\xf4\xbf\xbf\xbf"]',
    "i_string_overlong_sequence_2_bytes": b'["\xc0\xaf"]',
    "i_string_truncated-utf-8": b'["\xe0\xff"]',
    "i_string_lone_utf8_continuation_byte": b'["\x81"]',
    "i_string_UTF-16LE_with_BOM": b'\xff\xfe[\x00"\x00\xe9\x00"\x00]\x00',
    "n_array_invalid_utf8": b"[\xff]",
    "n_string_invalid_utf8_after_escape": b'["\\\xe5"]',
    "n_structure_lone-invalid-utf-8": b"\xff",
    "n_structure_incomplete_UTF8_BOM": b"\xef\xbb{}",
    "n_string_escape_x": b'["\\x00"]',
}
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


@pytest.mark.row(67, 68)
async def test_as_requests():
    """400 where it cannot be read or is no object, 404 where it names no model; nobody is asked."""
    async with Trial() as trial, trial.accounts():
        for name, text in SUITE.items():
            seen = await trial.ask(text or b" ")
            assert seen.status in (400, 404), (name, seen)
            expected = ("invalid_request", "model_not_found") if readable(text) else ("invalid_json",)
            assert seen.error["code"] in expected, (name, seen)


@pytest.mark.row(69)
async def test_as_what_a_model_says():
    """Valid JSON passes, what can be mended without guessing is mended, and for the rest there is the fallback."""
    async with Trial(DECLARED) as trial:
        results = {"valid": 0, "repaired": 0, "fallback": 0}
        for name, text in SUITE.items():
            said = text.decode("utf-8", "replace")
            trial.llama.play = says(whole(completion(said)), then="keep")
            seen = await trial.ask(asking(), NEVER, "X-Guardproxy-Schema: any", "Cache-Control: no-store")
            assert seen.status == 200, (name, seen)
            result = seen.fields["x-guardproxy-json"]
            results[result] += 1
            content = json.loads(seen.body)["choices"][0]["message"]["content"]
            assert readable(content.encode()), (name, content)
            if name.startswith("y_") and "duplicated_key" not in name:
                assert (result, content) == ("valid", said), name
            elif name.startswith("n_"):
                assert result != "valid", (name, said)
        assert results["valid"] > 90
        assert results["fallback"] > 50
        assert len(trial.llama.calls) == len(SUITE)
        trial.llama.calls.clear()


@pytest.mark.row(36, 69)
async def test_as_the_body_of_an_answer():
    """An answer that is no completion is 502, whatever else it is."""
    async with Trial({"circuit_breaker": {"enabled": False}}) as trial:
        for name, text in SUITE.items():
            trial.llama.play = says(whole(text), then="keep")
            seen = await trial.ask(asking(), NEVER)
            assert (seen.status, seen.error["code"]) == (502, "upstream_protocol"), (name, seen)
