"""What the authors of a parser test it with, sent to the proxy from both sides: rows 19, 20, 25 and 62.

The 251 messages of llhttp's own tests are meant for a parser: some are whole, some are cut, many are broken in ways
that were once somebody's hole.  Whatever each of them is, nothing that two readers could take differently goes on.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.test_smuggling import FRAMING, what_came
from tests.faults.trial import NEVER, Trial, says
from tests.faults.wire import WELL, asking, read, whole

_FILE = Path(__file__).parent / "corpus" / "llhttp.json"
FIXTURES = {
    name: text.encode("latin-1") for name, text in json.loads(_FILE.read_text()).items() if name.partition("/")[1]
}
REQUESTS = {name: wire for name, wire in FIXTURES.items() if name.startswith("request/")}
RESPONSES = {name: wire for name, wire in FIXTURES.items() if name.startswith("response/")}
QUICK = {"limits": {"body_timeout": 0.5, "header_timeout": 0.5}}
_LINE = re.compile(rb"[A-Z]+ [!-~]+ HTTP/1\.1")
_FIELD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [^\r\n\0]*")


def addressed(wire: bytes) -> bytes:
    """The same for a place that there is: behind ``/llama``, with a Host where none is given."""
    line, end, rest = wire.partition(b"\r\n")
    line = line.replace(b" /", b" /llama/", 1)
    host = b"" if re.search(rb"(?i)^host\s*:", rest, re.MULTILINE) else b"Host: x\r\n"
    return line + end + host + rest


def test_all_of_them():
    assert (len(REQUESTS), len(RESPONSES)) == (166, 85)


@pytest.mark.row(62)
@pytest.mark.parametrize("address", [bytes, addressed])
async def test_as_requests(address):
    """Each is answered once, refused with its connection closed, or passed on as one request in one framing."""
    passed = refused = 0
    async with Trial(QUICK) as trial:
        trial.llama.play = says(whole(b"{}"), then="keep")
        for name, wire in REQUESTS.items():
            trial.llama.calls.clear()
            rest, answers = await what_came(trial, address(wire)), 0
            while rest:
                assert rest.startswith(b"HTTP/1.1 "), (name, rest)
                bodiless = b"\r\nX-Guardproxy-Upstream" in rest.partition(b"\r\n\r\n")[0] and wire.startswith(b"HEAD")
                seen, rest = read(rest, more=True, bodiless=bodiless)
                answers += 1
                assert seen.status < 500, (name, seen)
                if seen.status == 400:
                    assert seen.error["code"] == "invalid_request", (name, seen)
                    assert seen.fields["connection"] == "close", (name, seen)
                    assert not rest, (name, rest)
                    refused += 1
            passed += len(trial.llama.calls)
            assert len(trial.llama.calls) <= answers, (name, trial.llama.calls)
            for call in trial.llama.calls:
                one_to_every_reader(name, call)
        assert not trial.mistral.calls
        assert not trial.qwen.calls
        trial.llama.calls.clear()
    assert refused > 50
    assert passed > 30 or address is bytes


def one_to_every_reader(name: str, call: bytes) -> None:
    """It is as RFC 9112 has it, without any of what is only tolerated, and ends where it says."""
    head, _, body = call.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    assert _LINE.fullmatch(line), (name, call)
    assert all(_FIELD.fullmatch(field) for field in fields), (name, call)
    assert sum(field.lower().startswith(b"host:") for field in fields) == 1, (name, call)
    framing = [field for field in fields if FRAMING.match(field)]
    assert len(framing) <= 1, (name, call)
    if not framing:
        assert not body, (name, call)
    elif framing[0].startswith(b"Content-Length: "):
        assert len(body) == int(framing[0][16:]), (name, call)
    else:
        assert framing == [b"Transfer-Encoding: chunked"], (name, call)
        assert body.endswith(b"0\r\n\r\n"), (name, call)


@pytest.mark.row(19, 20, 25)
@pytest.mark.parametrize("guarded", [False, True])
async def test_as_answers(guarded):
    """The app gets one answer that a strict reader takes, and the next call its own: nothing is left over for it."""
    changes = {
        "circuit_breaker": {"enabled": False},
        "retry": {"attempts": 0},
        "timeouts": {"stall": 0.3, "total": 0.5},
        "cache": {"enabled": False},
    }
    statuses = Counter[int]()
    async with Trial(changes) as trial:
        for name, wire in RESPONSES.items():
            for then in ("fin", "keep"):
                trial.llama.play = says(wire, then=then)
                if guarded:
                    seen = await trial.ask(asking(), NEVER)
                    assert seen.status != 200, (name, seen)  # none of them is a completion
                else:
                    seen = await trial.ask(None, method="GET", path="/llama/v1/files")
                statuses[seen.status] += 1
                if seen.status >= 500 and "x-guardproxy-upstream" not in seen.fields:
                    assert seen.error["code"].startswith("upstream_"), (name, seen)
                trial.llama.play = says(whole(WELL), then="keep")
                honest = await trial.ask(asking(name), NEVER)
                assert (honest.status, honest.body) == (200, WELL), (name, honest)
        trial.llama.calls.clear()
    assert statuses[502] > 50
