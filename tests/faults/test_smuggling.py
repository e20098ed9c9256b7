"""Nothing that two readers could take differently reaches a model server: rows 19 and 62, and the collections."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from tests.faults.payloads import ALL, BODIES, ODD, SMUGGLED, requests
from tests.faults.test_app import App
from tests.faults.trial import Trial, says
from tests.faults.wire import CHAT, WELL, asking, read, whole

LINES = [b"POST " + CHAT.encode() + b" HTTP/1.1", b"POST /llama/v1/files HTTP/1.1"]
FRAMING = re.compile(rb"(?i)\btransfer[^a-z]*encoding|content[^a-z]*length")


async def what_came(trial: Trial, wire: bytes) -> bytes:
    """Send a request, then an honest one over the same connection; answers all that comes back."""
    async with App(trial) as app:
        app.say(wire)
        app.say(b"\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            return await app.hear()


def sound(calls: list[bytes], doc: bytes) -> None:
    """Each request that reached the model server is one to every reader, and is what the app meant."""
    for call in calls:
        head, _, body = call.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        assert line in (b"POST " + CHAT.encode() + b" HTTP/1.1", b"POST /v1/files HTTP/1.1"), call
        framing = [field for field in fields if FRAMING.match(field)]
        assert len(framing) == 1, call
        name, _, value = framing[0].partition(b": ")
        if name == b"Content-Length":
            assert len(body) == int(value)
        else:
            assert (name, value) == (b"Transfer-Encoding", b"chunked")
            assert body.endswith(b"0\r\n\r\n")
        assert not re.search(rb"[^\r]\n|\r[^\n]|\0", head)


async def probe(line: bytes, odd: tuple[int, ...]) -> int:
    """Send every payload; how many were refused."""
    doc = json.dumps(asking()).encode()
    refused, accepted = 0, []
    async with Trial({"limits": {"body_timeout": 1, "header_timeout": 1}, "cache": {"enabled": False}}) as trial:
        trial.llama.play = says(whole(WELL), then="keep")
        waiting = asyncio.Semaphore(16)

        async def one(wire: bytes) -> None:
            nonlocal refused
            async with waiting:
                rest = await what_came(trial, wire)
            if rest:
                first, rest = read(rest, more=True)
                assert first.status < 500, (wire, first)
                refused += first.status >= 400
                accepted.extend([wire] * (first.status == 200))
                if first.fields.get("connection") == "close":
                    assert not rest, (wire, rest)
                else:  # nothing was in doubt: what follows is answered, each as one
                    last = first
                    while rest:
                        last, rest = read(rest, more=True)
                    assert last.body == b"ok\n" or last.fields["connection"] == "close", (wire, last.wire)

        await asyncio.gather(*map(one, requests(line, doc, odd)))
        inside = re.compile(rb"X: X[\t \x80-\xff]Transfer-Encoding: chunked")  # the value of a field, to every reader
        suspects = [wire for wire in accepted if not inside.search(wire)]
        assert not suspects, suspects[:3]
        sound(trial.llama.calls, doc)
        assert not trial.mistral.calls
        assert not trial.qwen.calls
    return refused


@pytest.mark.row(62)
@pytest.mark.parametrize("line", LINES)
async def test_the_collections(line):
    """What is not refused, and its connection closed, is passed on in one framing, ours."""
    assert await probe(line, ODD) > 300


@pytest.mark.row(62)
@pytest.mark.parametrize("body", BODIES)
async def test_chunks_that_are_none(body):
    """A body whose chunks are not as they must be is 400, and what follows it is not read."""
    async with Trial({"limits": {"body_timeout": 1}}) as trial:
        wire = LINES[0] + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body + SMUGGLED + b"\r\n\r\n"
        seen, rest = read(await what_came(trial, wire), more=True)
        assert seen.status in (400, 408)
        assert rest == b""
        assert not trial.llama.calls


async def exhaustive() -> None:
    """Every byte at every place: what `make fuzz` runs."""
    for line in LINES:
        await probe(line, ALL)
